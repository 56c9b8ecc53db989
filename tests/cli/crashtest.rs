//! `crashtest`: what it finds, what it says of it, and the page that it draws.

use super::Place;
use serde_json::Value;

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_good_package_passes_and_every_state_is_drawn() {
    let place = Place::with_packages();
    let ask = ["--json", "crashtest", "up.sf", "--base", "old", "--max-states", "3000", "--html", "page.html"];
    let told = objects(&place.good(&ask).stdout);
    let cases: Vec<&Value> = told.iter().filter(|object| object["type"] == "case").collect();
    assert_eq!(cases.len(), 20);
    for case in &cases {
        let count = |key: &str, kind: &str| case[key][kind].as_u64().unwrap();
        let before: u64 = ["old", "mixed", "damaged", "new"].iter().map(|kind| count("before", kind)).sum();
        let after: u64 = ["old", "new", "violation"].iter().map(|kind| count("after", kind)).sum();
        assert_eq!((before, after), (case["judged"].as_u64().unwrap(), before), "{case}");
        assert_eq!((count("before", "damaged"), count("after", "violation")), (0, 0), "{case}");
    }
    let answer = told.last().unwrap();
    assert!(answer["mixed_before"].as_u64().unwrap() > 0, "{answer}");
    assert_eq!(answer["exhaustive"], false);

    let page = place.read("page.html");
    assert!(page.is_ascii() && !page.contains("@DATA@") && page.ends_with("</html>\n"));
    for address in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(address), "the page needs nothing else: {address}");
    }
    let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    let found =
        data["acts"].as_array().unwrap().iter().flat_map(|act| act["disks"].as_array().unwrap()).flat_map(|disk| {
            let moments = disk["found"].as_array().unwrap();
            moments.iter().flat_map(|counts| counts.as_array().unwrap()).map(|count| count.as_u64().unwrap())
        });
    assert_eq!(found.sum::<u64>(), answer["judged"].as_u64().unwrap(), "every state that was judged is drawn");
    for phase in ["idle", "staging", "prepared", "steps", "applied", "back", "closing"] {
        assert!(data["acts"].to_string().contains(&format!("\"{phase}\"]")), "{phase}");
    }

    let people =
        place.good(&["crashtest", "up.sf", "--base", "old", "--profile", "posix", "--max-states", "800"]).stdout;
    assert!(people.contains("\na sample: ") && people.contains("mixed before recovery, none after it"), "{people}");
    assert_eq!(people.lines().filter(|line| line.starts_with("posix ")).count(), 1, "{people}");
    assert!(!people.contains("somc"), "{people}");
}

#[test]
fn the_same_seed_tells_the_same() {
    let place = Place::with_packages();
    let ask = |seed| ["--json", "crashtest", "up.sf", "--base", "old", "--max-states", "900", "--seed", seed];
    let told = place.good(&ask("7")).stdout;
    assert_eq!(place.good(&[&ask("7")[..], &["-q"]].concat()).stdout.lines().last(), told.lines().last());
    assert_ne!(place.good(&ask("8")).stdout.lines().last(), told.lines().last());
}

#[test]
fn a_disk_that_ignores_a_sync_is_caught_with_a_schedule() {
    let place = Place::with_packages();
    let ask =
        ["crashtest", "up.sf", "--base", "old", "--profile", "posix", "--max-states", "4000", "--ignore-sync", "0"];
    let ran = place.run(&[&ask[..], &["--html", "page.html"]].concat());
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("(crashtest.violation)") && ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    for part in
        ["power cut at call ", "<- here the power fails", "had reached the disk:", "  had not:", "the tree when"]
    {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(place.read("page.html").contains("here the power fails"));
    let told = objects(&place.run(&[&["--json"], &ask[..]].concat()).stdout);
    let violations: Vec<&Value> = told.iter().filter(|object| object["type"] == "violation").collect();
    assert!(!violations.is_empty());
    for violation in violations {
        for key in ["found", "left"] {
            for found in violation[key].as_array().unwrap() {
                let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
                assert_eq!(keys, ["path", "side", "text"]);
                assert!(["old", "new", "neither"].contains(&found["side"].as_str().unwrap()), "{found}");
            }
        }
        let effects = violation["effects"].as_array().unwrap();
        let lost = effects.iter().filter(|effect| effect["fate"] == "lost").count();
        assert!(lost.min(effects.len() - lost) <= 3, "the fewest that it takes: {violation}");
    }
}

#[test]
fn what_cannot_be_tested_is_refused() {
    let place = Place::with_packages();
    place.bad(&["crashtest", "up.sf", "--base", "new"], 4, "tree.base");
    place.bad(&["crashtest", "nowhere.sf", "--base", "old"], 6, "source.unavailable");
    place.bad(&["crashtest", "key.pub", "--base", "old"], 3, "package.format");
    place.bad(&["crashtest", "up.sf", "--base", "old", "--max-states", "0"], 2, "usage.invalid");
    place.bad(&["crashtest", "up.sf", "--base", "old", "--profile", "split"], 2, "usage.invalid");
}

#[test]
fn a_full_package_is_tested_on_whatever_the_base_is() {
    let place = Place::with_packages();
    place.good(&["build", "--full", "new", "--to", "3.0.0", "--owner", "no", "-o", "full.sf"]);
    let ask = ["--json", "crashtest", "full.sf", "--base", "old", "--profile", "posix", "--max-states", "400"];
    let told = objects(&place.good(&ask).stdout);
    assert_eq!(told.last().unwrap()["to"], "3.0.0");
    place.assert_same("old", "old");
}
