//! A transaction on a directory tree, without packages.
fn main() {}
