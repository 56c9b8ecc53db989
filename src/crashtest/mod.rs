//! Crash tests for anything that writes files: cut the power at every call, judge every state that may be left.
//!
//! Three things are needed. A *setup* puts onto a simulated disk what is there before. A *run* is the code under test:
//! it works on the disk until it is done or the power fails, and gives back what it had promised its caller by then. A
//! *judge* is given the disk as the next boot finds it, and says what is wrong with it. [`Explorer`] does the rest, in
//! every [`Profile`](crate::vfs::sim::Profile) of what a disk may lose, the same for the same seed.
//!
//! The code under test need not be surefoot's. Here is one that saves its state the way everybody does:
//!
//! ```
//! use surefoot::crashtest::{Explorer, Violation, old_or_new};
//! use surefoot::vfs::{Place, Rename, Vfs};
//!
//! fn save(disk: &impl Vfs, text: &str, careful: bool) -> Result<(), Box<dyn std::error::Error>> {
//!     let (new, state) = (Place::parse("state.new")?, Place::parse("state")?);
//!     let file = disk.create(&new)?;
//!     disk.write_at(&file, 0, text.as_bytes())?;
//!     if careful {
//!         disk.sync_all()?; // the bytes, and the name: `sync_file` alone is not enough in `posix`
//!     }
//!     disk.rename(&new, &state, Rename::Replace)?;
//!     Ok(disk.sync_all()?)
//! }
//!
//! let explore = |careful| {
//!     Explorer::new(|disk| _ = disk.write_file("state", "one"))
//!         .run(move |disk| save(disk, "two", careful).is_ok())
//!         .judge(|disk, saved| old_or_new(disk.read_file("state"), b"one", b"two", *saved))
//! };
//! assert!(explore(true).is_ok());
//! let violation: Box<Violation> = explore(false).unwrap_err();
//! assert_eq!(violation.lost().count(), 1); // the bytes, or the length, of the new file
//! println!("{violation}");
//! ```
//!
//! And this is one that uses [`Tree`](crate::device::Tree): the judge opens the tree, which recovers it.
//!
//! ```
//! use surefoot::crashtest::{Explorer, old_or_new};
//! use surefoot::device::Tree;
//! use surefoot::vfs::SimVfs;
//!
//! fn update(disk: &SimVfs) -> Result<(), surefoot::Error> {
//!     let mut tree = Tree::with(disk.clone())?;
//!     tree.begin()?.put("app", &b"v2"[..]).put("conf", &b"v2"[..]).commit().map(drop)
//! }
//!
//! Explorer::new(|disk| _ = disk.write_file("app", "v1").write_file("conf", "v1"))
//!     .run(|disk| update(disk).is_ok())
//!     .judge(|disk, done| {
//!         Tree::with(disk.clone()).map_err(|error| error.to_string())?;
//!         let both = ["app", "conf"].map(|path| disk.read_file(path).unwrap_or_default()).concat();
//!         old_or_new(Some(both), b"v1v1", b"v2v2", *done)
//!     })
//!     .unwrap_or_else(|violation| panic!("{violation}"));
//! ```
//!
//! Packages have a judge of their own, which knows everything that surefoot promises of an update: [`Scenario`].

pub mod blockdev;
mod explorer;
mod minimise;
mod oracle;
mod report;
mod scenario;
mod violation;

pub use explorer::{Explorer, Run, Tally, judge_images};
pub use oracle::{old_or_new, quiet};
pub use report::{After, Before, Case, Exploration, Moment, Phase};
pub use scenario::{Act, Promise, Scenario, recover};
pub use violation::{Fate, Fated, Violation};
