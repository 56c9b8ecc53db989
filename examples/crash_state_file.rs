//! A crash test of code that has nothing to do with packages: a state file that is replaced the way everybody does it.
//!
//! `cargo run --features sim --example crash_state_file` shows what is found when one call is forgotten.

#![allow(clippy::print_stdout)]

use surefoot::crashtest::{Explorer, Tally, Violation, old_or_new};
use surefoot::vfs::{Place, Rename, Vfs};

fn save(disk: &impl Vfs, text: &str, careful: bool) -> Result<(), Box<dyn std::error::Error>> {
    let (new, state) = (Place::parse("state.new")?, Place::parse("state")?);
    let file = disk.create(&new)?;
    disk.write_at(&file, 0, text.as_bytes())?;
    if careful {
        disk.sync_all()?;
    }
    disk.rename(&new, &state, Rename::Replace)?;
    Ok(disk.sync_all()?)
}

pub(crate) fn explore(careful: bool) -> Result<Tally, Box<Violation>> {
    Explorer::new(|disk| _ = disk.write_file("state", "one"))
        .run(|disk| save(disk, "two", careful).is_ok())
        .judge(|disk, saved| old_or_new(disk.read_file("state"), b"one", b"two", *saved))
}

fn main() {
    match explore(true) {
        Ok(tally) => println!("careful: {} states, all of them good", tally.states),
        Err(violation) => println!("careful: {violation}"),
    }
    if let Err(violation) = explore(false) {
        println!("careless: {violation}");
    }
}
