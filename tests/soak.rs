//! The soak: every random test again and again with fresh seeds, for as long as `SUREFOOT_SOAK_SECONDS` says.
//!
//! Each turn is the test itself in a process of its own, so a finding is repeated by its seed:
//! `SUREFOOT_SEED=N PROPTEST_RNG_SEED=N cargo test --release --all-features NAME`.

use crate::cargo;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Whose test: the integration tests, the unit tests of the library, or the random scenarios of `fuzz/`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Integration,
    Unit,
    Scenarios,
}

/// Tests that are random all through: in every round.
const RANDOM: &[(Whose, &str)] = &[
    (Whose::Integration, "crash::random::a_package_between_random_trees_is_applied_or_not"),
    (Whose::Integration, "crash::random::a_random_transaction_happens_or_does_not"),
    (Whose::Integration, "crash::nested::five_cuts_in_a_row"),
    (Whose::Integration, "state_machine::folding"),
    (Whose::Integration, "plan::"),
    (Whose::Unit, "model::"),
    (Whose::Unit, "tree::"),
    (Whose::Unit, "package::"),
    (Whose::Unit, "publish::"),
    (Whose::Scenarios, "scenarios"),
];

/// Sweeps that draw random states besides systematic ones: one in each round.
const SWEEPS: &[(Whose, &str)] = &[
    (Whose::Integration, "crash::every_call_of_every_workload_is_a_crash_point"),
    (Whose::Integration, "crash::nested::recovery_is_cut_at_every_call"),
    (Whose::Integration, "crash::poorer_file_systems_keep_the_promise"),
    (Whose::Integration, "crash::faults::every_call_fails_with_every_error_and_then_the_power_fails"),
    (Whose::Integration, "crash::faults::every_call_of_every_workload_fails_in_some_way"),
    (Whose::Integration, "crash::faults::every_call_of_recovery_fails_in_some_way"),
    (Whose::Integration, "crash::three_hundred_files"),
];

/// Scenarios in one turn.
const SCENARIOS: u64 = 5_000;

#[derive(Default)]
struct Sum {
    turns: u64,
    states: u64,
    seconds: f64,
}

#[test]
fn random_tests_go_on() {
    let Some(seconds) = std::env::var("SUREFOOT_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()) else {
        println!("no soak: SUREFOOT_SOAK_SECONDS is not set");
        return;
    };
    let (begun, limit) = (Instant::now(), Duration::from_secs(seconds));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first: u64 = std::env::var("SUREFOOT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now);
    let programs = Programs::build();
    let mut sums: Vec<((Whose, &str), Sum)> = RANDOM.iter().chain(SWEEPS).map(|turn| (*turn, Sum::default())).collect();
    let (mut seed, mut findings) = (first, Vec::new());
    'soak: for round in 0.. {
        for at in (0..RANDOM.len()).chain([RANDOM.len() + round % SWEEPS.len()]) {
            if begun.elapsed() >= limit {
                break 'soak;
            }
            let ((whose, name), sum) = &mut sums[at];
            let Some(mut command) = programs.turn(*whose, name, seed) else { continue };
            let start = Instant::now();
            let output = command.env("SUREFOOT_SEED", seed.to_string()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let ran = *whose == Whose::Scenarios || (text.contains("test result:") && !text.contains(" 0 passed; 0 f"));
            assert!(ran, "{name} is no test: {text}{}", String::from_utf8_lossy(&output.stderr));
            if !output.status.success() {
                println!("FINDING: seed {seed}: {name}\n{text}{}", String::from_utf8_lossy(&output.stderr));
                findings.push(format!("seed {seed}: {name}"));
            }
            sum.turns += 1;
            sum.states += if *whose == Whose::Scenarios { SCENARIOS } else { states(&text) };
            sum.seconds += start.elapsed().as_secs_f64();
            // Runs of one test take neighbouring seeds.
            seed += 1_000_000;
        }
    }
    println!("soak: {} s, seeds {first} to {seed} in steps of 1000000", begun.elapsed().as_secs());
    for ((_, name), Sum { turns, states, seconds }) in &sums {
        println!("  {name}: {turns} turns in {seconds:.0} s, {states} states");
    }
    let (turns, states) = sums.iter().fold((0, 0), |all, (_, sum)| (all.0 + sum.turns, all.1 + sum.states));
    println!("  together {turns} turns, {states} states, {} findings", findings.len());
    assert!(findings.is_empty(), "{findings:#?}");
}

/// What a test says it has judged: the numbers in `states: N` and `N states`.
fn states(text: &str) -> u64 {
    let words: Vec<&str> = text.split([' ', ',', '\n']).filter(|word| !word.is_empty()).collect();
    let number = |word: Option<&&str>| word.and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let said = |(at, word): (usize, &&str)| match *word {
        "states:" => number(words.get(at + 1)),
        "states" => number(at.checked_sub(1).and_then(|before| words.get(before))),
        _ => 0,
    };
    words.iter().enumerate().map(said).sum()
}

#[test]
fn states_are_read_from_what_tests_print() {
    let text =
        "every call: seed 5, Tally { crash_points: 7, states: 100, judged: 3 }\nrandom: 4 runs, 20 states, seed 5";
    assert_eq!(states(text), 120);
    assert_eq!(states("states\n7"), 0);
}

/// The executables that the turns are taken from: copies, so that whoever builds meanwhile changes nothing.
struct Programs {
    _copies: tempfile::TempDir,
    integration: PathBuf,
    unit: PathBuf,
    /// They need another workspace; where that cannot be built the soak says so and goes on without.
    scenarios: Option<PathBuf>,
}

impl Programs {
    fn build() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let build = |arguments: &[&str], kind: &str| -> Result<PathBuf, String> {
            let built = cargo::build(root, arguments, &[])?;
            built.into_iter().find(|built| built.kind == kind).map(|built| built.path).ok_or_else(|| "nothing".into())
        };
        let copies = tempfile::tempdir().unwrap();
        let copy = |program: PathBuf, name: &str| {
            let to = copies.path().join(name);
            std::fs::copy(program, &to).unwrap();
            to
        };
        let scenarios = ["build", "--manifest-path", "fuzz/Cargo.toml", "--example", "scenarios"];
        let scenarios = build(&scenarios, "example").map_err(|why| println!("no random scenarios: {why}")).ok();
        Self {
            integration: copy(std::env::current_exe().unwrap(), "integration"),
            unit: copy(build(&["test", "--lib", "--no-run", "--all-features"], "lib").unwrap(), "unit"),
            scenarios: scenarios.map(|program| copy(program, "scenarios")),
            _copies: copies,
        }
    }

    fn turn(&self, whose: Whose, name: &str, seed: u64) -> Option<Command> {
        let program = match whose {
            Whose::Integration => &self.integration,
            Whose::Unit => &self.unit,
            Whose::Scenarios => self.scenarios.as_ref()?,
        };
        let mut command = Command::new(program);
        if whose == Whose::Scenarios {
            command.args([seed.to_string(), SCENARIOS.to_string()]);
        } else {
            command.args([name, "--nocapture"]).env("PROPTEST_RNG_SEED", seed.to_string());
        }
        // In a turn there is no soak.
        command.env_remove("SUREFOOT_SOAK_SECONDS");
        Some(command)
    }
}
