//! A crash test of your own transaction: two files that must change together.
//!
//! `cargo run --features sim --example crash_tree` shows what is found when they change one after the other.

#![allow(clippy::print_stdout)]

use surefoot::crashtest::{Explorer, Tally, Violation, old_or_new};
use surefoot::device::Tree;
use surefoot::vfs::SimVfs;

fn update(disk: &SimVfs, together: bool) -> Result<(), surefoot::Error> {
    let mut tree = Tree::with(disk.clone())?;
    let mut transaction = tree.begin()?.put("app", &b"v2"[..]);
    if !together {
        transaction.commit()?;
        transaction = tree.begin()?;
    }
    transaction.put("conf", &b"v2"[..]).commit().map(drop)
}

pub(crate) fn explore(together: bool) -> Result<Tally, Box<Violation>> {
    Explorer::new(|disk| _ = disk.write_file("app", "v1").write_file("conf", "v1"))
        .run(|disk| update(disk, together).is_ok())
        .judge(|disk, done| {
            Tree::with(disk.clone()).map_err(|error| error.to_string())?; // recovers
            let both = ["app", "conf"].map(|path| disk.read_file(path).unwrap_or_default()).concat();
            old_or_new(Some(both), b"v1v1", b"v2v2", *done)
        })
}

fn main() {
    match explore(true) {
        Ok(tally) => println!("together: {} states, all of them good", tally.states),
        Err(violation) => println!("together: {violation}"),
    }
    if let Err(violation) = explore(false) {
        println!("one after the other: {violation}");
    }
}
