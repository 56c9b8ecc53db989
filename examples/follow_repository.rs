//! A program that keeps a directory of its own at the newest version of a repository, and shows how far it is:
//!
//! `cargo run --release --example follow_repository -- DIRECTORY ADDRESS`
//!
//! The directory is under surefoot's care (`surefoot init --trust ROOT.json`). Whatever was interrupted, by a crash or
//! a power cut, is finished or taken back first; a download goes on where it was.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;
use surefoot::device::{Follower, PackageSettings, Phase, Progress, STATE_DIRECTORY};
use surefoot::fetch::{Carriers, HttpCarrier, HttpOptions, Options};
use surefoot::repository::{Clock, Moment, OfflinePolicy};
use surefoot::strategy::Policy;
use surefoot::vfs::OsVfs;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, address] = arguments.as_slice() else { return Err("DIRECTORY ADDRESS".into()) };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let carrier = Carriers::with_web(HttpCarrier::new(&HttpOptions::default())?);
    let follower = Follower {
        addresses: vec![address.clone()],
        carrier: &carrier,
        options: Options::default(),
        clock: Clock::showing(Moment::from_seconds(i64::try_from(now)?)),
        offline: OfflinePolicy::Strict,
        rules: Policy { channel: Some("stable".into()), ..Policy::new(std::env::consts::ARCH) },
        again: false,
    };
    let last: Mutex<Option<Phase>> = Mutex::default();
    let progress = |progress: Progress| {
        // A program with a window would draw progress.fraction() here.
        if let Ok(mut last) = last.lock()
            && last.replace(progress.phase) != Some(progress.phase)
        {
            println!("{:?}: {:.0} %", progress.phase, progress.fraction() * 100.0);
        }
    };
    let tree = Path::new(directory);
    let open = || Ok(OsVfs::open(tree, &tree.join(STATE_DIRECTORY))?);
    let (look, report) = follower.update(&open, &PackageSettings::default(), &progress)?;
    look.notices.iter().for_each(|notice| println!("warning: {notice}"));
    match report {
        Some(report) => println!("{} -> {}: {}", report.from, report.to, look.strategy.reason),
        None => println!("{}", look.strategy),
    }
    Ok(())
}
