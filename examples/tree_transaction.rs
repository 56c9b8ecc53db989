//! A transaction on a directory tree, without packages: everything happens, or nothing does.
//!
//! `cargo run --example tree_transaction -- DIRECTORY`

#![allow(clippy::print_stdout)]

use surefoot::device::Tree;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).ok_or("name a directory")?;

    // Opening finishes or takes back whatever a crash left half-way.
    let mut tree = Tree::open(&directory)?;

    tree.begin()?
        .put("etc/app.conf", &b"threads = 4\n"[..])
        .put("bin/app", &b"#!/bin/sh\nexec true\n"[..])
        .set_mode("bin/app", 0o755)
        .symlink("bin/current", "app")
        .commit()?;

    let report = tree.begin()?.rename("etc/app.conf", "etc/app.toml").remove("bin/current").commit()?;
    println!("{} steps taken, all at once", report.steps);

    // The last transaction can be taken back, also after it was confirmed.
    let undone = tree.rollback()?;
    println!("{} steps taken back", undone.steps);
    Ok(())
}
