//! Mutants: the engine with one barrier, journal write, rename or check less, and which test kills each.
//!
//! A mutant is a piece of the source and what stands there instead. All of them are spliced into one copy of the
//! source, each behind a switch, so that one build holds them all and `src/` holds none. A piece that is no longer in
//! the source, or stands there twice, is an error: the list cannot rot unseen.
//!
//! `cargo test --release --all-features --test surefoot mutants -- --ignored --nocapture` runs them all.

mod engine;
mod protocol;

use crate::cargo;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, io};
use surefoot::model::Digest;

/// The mutants of one file: a name, the piece, and what stands there instead. The piece is what stands between `@{` and
/// `}@`; the rest says where it is. Any space matches any other.
struct Group {
    file: &'static str,
    mutants: &'static [(&'static str, &'static str, &'static str)],
}

/// Mutants that no test kills, and why. Each is named in `docs/testing.md` as well.
const SURVIVORS: &[&str] = &[
    "anything may be put where nothing is",
    "what was created need not be the new object",
    "what is removed need not be the old object",
    "what was removed need not be the old object",
    "whoever leaves a hard-link group keeps the inode",
    "the mode is set before the owner",
];

/// Mutants that the simulator does not see, but another test.
const KILLED_ELSEWHERE: &[&str] = &[];

/// The tests over the simulated disk: those that kill most for their time first, the long sweeps last.
const SIMULATOR: &[&str] = &[
    "crash::guards::",
    "crash::damage::",
    "crash::regressions::",
    "crash::kept::",
    "crash::strangers::",
    "crash::decisions::",
    "crash::sample::",
    "crash::preflight::",
    "crash::nested::a_process",
    "crash::faults::a_",
    "crash::barriers::",
    "crash::nested::five",
    "crash::split::",
    "crash::random::init",
    "crash::random::a_",
    "crash::directories",
    "crash::nested::recovery",
    "crash::attributes",
    "crash::faults::every_call",
    "crash::poorer",
    "crash::every_call",
    "crash::three_hundred",
];

/// The other tests of this executable that look at the engine.
const OTHERS: &[&str] = &["state_machine::", "journal::", "plan::", "service_patch::", "cli::"];

/// What a test may take beyond twenty times what it takes without a mutant: one that makes it hang is killed.
const PATIENCE: Duration = Duration::from_secs(30);

struct Mutant {
    number: usize,
    file: &'static str,
    name: &'static str,
    at: Range<usize>,
    instead: &'static str,
}

#[test]
fn every_mutant_has_its_place_in_the_source() {
    let mutants = mutants();
    let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name).collect();
    assert_eq!(names.len(), mutants.len(), "two mutants have one name");
    assert!(mutants.len() >= 150, "{}", mutants.len());
    for group in groups() {
        let source = fs::read_to_string(root().join(group.file)).unwrap();
        let spliced = splice(group.file, &source, &mutants);
        for mutant in mutants.iter().filter(|mutant| mutant.file == group.file) {
            assert!(spliced.contains(&format!("{} => {{", mutant.number)), "{}", mutant.name);
        }
    }
    let docs = fs::read_to_string(root().join("docs/testing.md")).unwrap();
    for name in SURVIVORS.iter().chain(KILLED_ELSEWHERE) {
        assert!(names.contains(name), "no mutant is called {name}");
        assert!(docs.contains(name), "docs/testing.md does not say why nobody sees it: {name}");
    }
}

#[test]
fn a_piece_is_found_whatever_the_spaces_and_once_only() {
    let source = "fn a() {\n    sync(\n        x,\n    );\n    rename(x);\n}";
    let at = find(source, "sync( x, ); @{rename(x);}@").unwrap();
    assert_eq!(&source[at], "rename(x);");
    assert!(find(source, "@{remove(x)}@").unwrap_err().contains("0 times"));
    assert!(find(source, "@{x}@").unwrap_err().contains("2 times"));
}

#[test]
fn mutants_of_one_place_and_inside_each_other_are_spliced_together() {
    let source = "a; sync(b);";
    let mutant = |number, at, instead| Mutant { number, file: "f", name: "", at, instead };
    let all = [mutant(1, 3..11, ""), mutant(2, 8..9, "c"), mutant(3, 3..11, "flush();")];
    assert_eq!(
        splice("f", source, &all).replace("crate::mutant::number()", "N"),
        "a; match N { 1 => {  } 3 => { flush(); } _ => { sync((match N { 2 => { c } _ => { b } })); } }"
    );
}

#[test]
#[ignore = "takes an hour or two: see docs/testing.md"]
fn every_mutant_is_killed() {
    let begun = Instant::now();
    let mutants = mutants();
    let engine = digest_of(&["Cargo.toml", "Cargo.lock", "src"].map(|name| root().join(name)));
    let run = Run::new(engine, build(&mutants));
    let only = std::env::var("SUREFOOT_MUTANTS").ok();
    let wanted: Vec<&Mutant> =
        mutants.iter().filter(|mutant| only.as_ref().is_none_or(|only| mutant.name.contains(only))).collect();
    let mut killers: BTreeMap<&str, String> = BTreeMap::new();
    for tests in SIMULATOR.iter().chain(OTHERS) {
        // Whoever kills mutants must let the engine itself live.
        let (killer, cost) = run.verdict(None, tests, PATIENCE * 60);
        assert!(killer.is_none(), "without a mutant: {killer:?}");
        let left: Vec<&Mutant> = wanted.iter().copied().filter(|mutant| !killers.contains_key(mutant.name)).collect();
        println!("{tests}: {} s without a mutant, {} mutants to try", cost.as_secs(), left.len());
        let killed = left.par_iter().filter_map(|mutant| {
            let (killer, took) = run.verdict(Some(mutant), tests, cost * 20 + PATIENCE);
            let killer = killer?;
            println!("{}: {}: {killer} ({} s)", mutant.file, mutant.name, took.as_secs());
            Some((mutant.name, killer))
        });
        killers.par_extend(killed);
    }
    let by_simulator = |killer: &String| killer.starts_with("crash::");
    let simulator = killers.values().filter(|killer| by_simulator(killer)).count();
    let elsewhere: BTreeSet<&str> =
        killers.iter().filter(|(_, killer)| !by_simulator(killer)).map(|(name, _)| *name).collect();
    let survivors: BTreeSet<&str> =
        wanted.iter().map(|mutant| mutant.name).filter(|name| !killers.contains_key(name)).collect();
    println!(
        "{} mutants, {simulator} killed by the simulator, {} elsewhere, {} survive, {} s",
        wanted.len(),
        elsewhere.len(),
        survivors.len(),
        begun.elapsed().as_secs()
    );
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for killer in killers.values() {
        *counts.entry(killer).or_default() += 1;
    }
    println!("killers: {counts:#?}");
    println!("elsewhere: {elsewhere:#?}\nsurvivors: {survivors:#?}");
    if only.is_none() {
        assert_eq!(survivors, SURVIVORS.iter().copied().collect(), "left: who survives; right: who may");
        assert_eq!(
            elsewhere,
            KILLED_ELSEWHERE.iter().copied().collect(),
            "left: who is killed elsewhere; right: listed"
        );
        assert!(simulator * 100 >= wanted.len() * 95, "{simulator} of {}", wanted.len());
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn groups() -> impl Iterator<Item = &'static Group> {
    protocol::GROUPS.iter().chain(engine::GROUPS)
}

/// Every mutant, numbered from 1.
fn mutants() -> Vec<Mutant> {
    let mut out = Vec::new();
    let mut errors = Vec::new();
    for group in groups() {
        let source = fs::read_to_string(root().join(group.file)).unwrap();
        for (name, piece, instead) in group.mutants {
            match find(&source, piece) {
                Ok(at) => out.push(Mutant { number: out.len() + 1, file: group.file, name, at, instead }),
                Err(why) => errors.push(format!("{}: {name}: {why}", group.file)),
            }
        }
    }
    assert!(errors.is_empty(), "{errors:#?}");
    out
}

/// Where a piece stands: it must be there once.
fn find(source: &str, piece: &str) -> Result<Range<usize>, String> {
    let (before, rest) = piece.split_once("@{").ok_or("no piece is marked")?;
    let (marked, after) = rest.split_once("}@").ok_or("the piece does not end")?;
    let begins = |at: &usize| {
        source.is_char_boundary(*at)
            && !source[*at..].starts_with(char::is_whitespace)
            && !source[*at..].starts_with("//")
    };
    let starts = (0..source.len()).filter(begins);
    let found: BTreeSet<(usize, usize)> = starts
        .filter_map(|start| {
            let from = matches(source, start, before)?;
            let from = from + source[from..].len() - source[from..].trim_start().len();
            let to = matches(source, from, marked)?;
            matches(source, to, after).map(|_| (from, to))
        })
        .collect();
    match found.first() {
        Some((from, to)) if found.len() == 1 => Ok(*from..*to),
        _ => Err(format!("it stands there {} times", found.len())),
    }
}

/// Where a text ends that begins at `at`. Spaces match any others, or none; comments between lines are passed.
fn matches(source: &str, mut at: usize, text: &str) -> Option<usize> {
    for word in text.split_whitespace() {
        at = skip(source, at);
        for part in word.chars() {
            let rest = source.get(at..)?;
            at += if rest.starts_with(part) { part.len_utf8() } else { at_next(rest, part)? };
        }
    }
    Some(at)
}

/// Spaces inside a word of the list are none in the source, unless a line is broken there.
fn at_next(rest: &str, part: char) -> Option<usize> {
    let trimmed = rest.trim_start();
    (trimmed.len() < rest.len() && trimmed.starts_with(part)).then(|| rest.len() - trimmed.len() + part.len_utf8())
}

fn skip(source: &str, mut at: usize) -> usize {
    loop {
        let rest = &source[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if !trimmed.starts_with("//") {
            return at;
        }
        at += trimmed.find('\n').unwrap_or(trimmed.len());
    }
}

/// The source of a file with all its mutants in it, each behind its number.
fn splice(file: &str, source: &str, mutants: &[Mutant]) -> String {
    let own: Vec<&Mutant> = mutants.iter().filter(|mutant| mutant.file == file).collect();
    render(source, 0..source.len(), &own)
}

fn render(source: &str, within: Range<usize>, mutants: &[&Mutant]) -> String {
    let mut out = String::new();
    let mut at = within.start;
    while at < within.end {
        // The widest of those that begin first.
        let next = mutants.iter().filter(|m| m.at.start >= at && m.at.end <= within.end);
        let Some(next) = next.min_by_key(|m| (m.at.start, std::cmp::Reverse(m.at.end))).map(|m| m.at.clone()) else {
            break;
        };
        let (same, others): (Vec<&Mutant>, Vec<&Mutant>) = mutants.iter().partition(|m| m.at == next);
        let apart = |m: &&Mutant| m.at.end <= next.start || m.at.start >= next.end;
        let inside = |m: &&Mutant| m.at.start >= next.start && m.at.end <= next.end;
        assert!(others.iter().all(|m| apart(m) || inside(m) || m.at.start <= next.start), "mutants overlap");
        let original = render(source, next.clone(), &others);
        let arms: String = same.iter().map(|m| format!("{} => {{ {} }} ", m.number, m.instead)).collect();
        let body = format!("match crate::mutant::number() {{ {arms}_ => {{ {original} }} }}");
        out.push_str(&source[at..next.start]);
        out.push_str(&if original.ends_with([';', '}']) { body } else { format!("({body})") });
        at = next.end;
    }
    out.push_str(&source[at..within.end]);
    out
}

/// Builds the tests over a copy of the source with all mutants in it: the copy, and the executable, which is a copy too,
/// so that whoever changes the source or builds meanwhile disturbs nothing.
fn build(mutants: &[Mutant]) -> (PathBuf, PathBuf) {
    let copy = root().join("target/mutants/source");
    let changed = |path: &Path, bytes: Vec<u8>| {
        let file = path.strip_prefix(root()).unwrap().to_str().unwrap();
        match String::from_utf8(bytes) {
            Ok(text) if file == "src/lib.rs" => format!("{text}\n{SWITCH}").into_bytes(),
            Ok(text) => splice(file, &text, mutants).into_bytes(),
            Err(error) => error.into_bytes(),
        }
    };
    fs::create_dir_all(&copy).unwrap();
    for name in ["Cargo.toml", "Cargo.lock", "README.md", "src", "tests", "docs", "examples", "benches"] {
        copy_all(&root().join(name), &copy.join(name), &changed).unwrap();
    }
    let arguments = ["test", "--all-features", "--test", "surefoot", "--no-run"];
    let target = root().join("target/mutants/build");
    match cargo::build(&copy, &arguments, &[("CARGO_TARGET_DIR", target.as_os_str())]) {
        Ok(built) => {
            let program = root().join("target/mutants/program");
            fs::copy(built.into_iter().find(|built| built.kind == "test").unwrap().path, &program).unwrap();
            (copy, program)
        }
        Err(errors) => panic!("the mutants cannot be built: {errors}"),
    }
}

/// What the switch is in the copy: the number of the mutant that is at work, by the environment.
const SWITCH: &str = r#"
#[allow(missing_docs)]
pub mod mutant {
    pub fn number() -> usize {
        static NUMBER: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        *NUMBER.get_or_init(|| std::env::var("SUREFOOT_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}
"#;

/// Copies what differs, so that a second build is a short one.
fn copy_all(from: &Path, to: &Path, changed: &dyn Fn(&Path, Vec<u8>) -> Vec<u8>) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_all(&entry.path(), &to.join(entry.file_name()), changed)?;
        }
        return Ok(());
    }
    let bytes = changed(from, fs::read(from)?);
    if fs::read(to).is_ok_and(|there| there == bytes) { Ok(()) } else { fs::write(to, bytes) }
}

/// The test that fails with a mutant, if one does, and how long it took to tell.
type Verdict = (Option<String>, Duration);

/// One run over a built program. What it has found stands in a file beside the program as it comes, so that a run that
/// was cut short goes on where it was.
struct Run {
    program: PathBuf,
    source: PathBuf,
    /// The digest of the engine: all of its source.
    engine: Digest,
    notes: PathBuf,
    found: Mutex<BTreeMap<String, Verdict>>,
}

impl Run {
    fn new(engine: Digest, (source, program): (PathBuf, PathBuf)) -> Self {
        let notes = root().join("target/mutants/verdicts");
        let text = fs::read_to_string(&notes).unwrap_or_default();
        let found = text.lines().filter_map(|line| {
            let [key, seconds, killer, _, _] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
            let killer = (!killer.is_empty()).then(|| killer.to_string());
            Some((key.to_string(), (killer, Duration::from_secs_f64(seconds.parse().ok()?))))
        });
        let found = Mutex::new(found.collect());
        Self { program, source, engine, notes, found }
    }

    /// The name of the test that fails with a mutant, if one of those with this prefix does, and how long that took.
    fn verdict(&self, mutant: Option<&Mutant>, tests: &str, patience: Duration) -> Verdict {
        let place = mutant.map(|mutant| (mutant.file, &mutant.at, mutant.instead));
        // With another engine, another mutant or other tests nothing that was found counts.
        let told = format!("{} {} {place:?} {tests}", self.engine, digest_of(&self.sources(tests)));
        let key = Digest::of(told.as_bytes()).to_string();
        if let Some(known) = self.found.lock().unwrap().get(&key) {
            return known.clone();
        }
        let (killer, took) = self.killed_by(mutant.map_or(0, |mutant| mutant.number), tests, patience);
        let (test, name) = (killer.as_deref().unwrap_or_default(), mutant.map_or("nothing", |mutant| mutant.name));
        let line = format!("{key}\t{:.1}\t{test}\t{tests}\t{name}\n", took.as_secs_f64());
        let mut found = self.found.lock().unwrap();
        let mut notes = fs::OpenOptions::new().append(true).create(true).open(&self.notes).unwrap();
        notes.write_all(line.as_bytes()).unwrap();
        found.insert(key, (killer.clone(), took));
        (killer, took)
    }

    /// The source of a group of tests, as it was built: of its own module, and of what the modules beside it share.
    fn sources(&self, tests: &str) -> Vec<PathBuf> {
        let modules: Vec<&str> = tests.split("::").take(2).collect();
        let shared =
            ["mod.rs", "oracle.rs", "workload.rs"].map(|file| self.source.join("tests").join(modules[0]).join(file));
        let module = self.source.join("tests").join(modules.join("/"));
        let own = [module.with_extension("rs"), module];
        shared.into_iter().chain(own).filter(|path| path.exists()).collect()
    }

    /// Time is that of the processor: a busy machine kills no mutant.
    fn killed_by(&self, number: usize, tests: &str, patience: Duration) -> Verdict {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("log");
        let mut child = Command::new(&self.program)
            .args([tests, "--test-threads=1"])
            .current_dir(&self.source)
            .env("SUREFOOT_MUTANT", number.to_string())
            .env("SUREFOOT_RANDOM_RUNS", "160")
            .env("RAYON_NUM_THREADS", "1")
            .stdout(fs::File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut took = Duration::ZERO;
        loop {
            took = processor_time(child.id()).unwrap_or(took);
            let failed = |text: &str| {
                let line = text.lines().find(|line| line.starts_with("test ") && line.ends_with("FAILED"))?;
                line.split(' ').nth(1).map(ToString::to_string)
            };
            let ended = child.try_wait().unwrap();
            let text = fs::read_to_string(&log).unwrap_or_default();
            let late = took > patience;
            let verdict = match (failed(&text), ended) {
                (Some(test), _) => Some(Some(test)),
                (None, Some(status)) if status.success() => Some(None),
                // It died without a word, of the stack or of memory.
                (None, Some(_)) => Some(Some(format!("{tests} (aborted)"))),
                (None, None) if late => Some(Some(format!("{tests} (never ends)"))),
                (None, None) => None,
            };
            if let Some(verdict) = verdict {
                let _ = child.kill();
                child.wait().unwrap();
                return (verdict, took);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How long a process was at work so far, while it is there.
fn processor_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may hold anything: user time and system time are the 12th and the 13th, in hundredths.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}

/// The digest of some files, and of all files in some directories. Which modules there are beside does not count.
fn digest_of(paths: &[PathBuf]) -> Digest {
    fn read(path: &Path, out: &mut String) {
        if path.is_dir() {
            let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            entries.iter().for_each(|entry| read(entry, out));
        } else {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("mod ")).collect();
            *out += &format!("{}\n{}\n", path.display(), lines.join("\n"));
        }
    }
    let mut text = String::new();
    paths.iter().for_each(|path| read(path, &mut text));
    Digest::of(text.as_bytes())
}
