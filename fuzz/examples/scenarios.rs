//! Random transactions without the fuzzer, many times as fast; or those of some inputs, spelled out.
//!
//! `cargo run --release --manifest-path fuzz/Cargo.toml --example scenarios -- [SEED COUNT | FILE...]`

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};
use surefoot_fuzz::transaction::{Scenario, check, random, read};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments.iter().map_while(|text| text.parse().ok()).collect();
    let mut found = 0;
    if let ([first, count], 2) = (&numbers[..], arguments.len()) {
        for seed in *first..first.saturating_add(*count) {
            let (scenario, bytes) = random(seed);
            if scenario.is_some_and(|scenario| is_finding(&format!("seed {seed}"), &scenario)) {
                found += 1;
                keep(seed, &bytes);
            }
            if found == 10 {
                break;
            }
        }
        println!("{found} findings");
    } else {
        for path in &arguments {
            let scenario = fs::read(path).ok().and_then(|bytes| read(&bytes));
            match scenario {
                Some(scenario) => {
                    println!("{path}: {scenario:#?}");
                    found += u8::from(is_finding(path, &scenario));
                }
                None => println!("{path}: not an input"),
            }
        }
    }
    ExitCode::from(found)
}

/// Writes the input that makes the fuzz target find the same.
fn keep(seed: u64, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts/transaction");
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(format!("seed-{seed}")), bytes));
    if let Err(error) = written {
        println!("seed {seed} could not be kept: {error}");
    }
}

fn is_finding(name: &str, scenario: &Scenario) -> bool {
    let result = check(scenario);
    if let Err(why) = &result {
        println!("{name}: {why}\n{scenario:?}");
    }
    result.is_err()
}
