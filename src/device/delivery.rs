//! Delivery: contents as they come from the payload, one after the other, into their slots, by several writers.
//!
//! The payload is read in order by one thread. Small contents are gathered into batches and written by others, in any
//! order: nothing that is staged is believed before the barrier that follows. On a file system that must be called in
//! the same order each time the same is done by one thread.

use super::engine::{Payload, Sink, Source};
use super::evidence::Print;
use super::stage::{Stager, unwrap_error};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::TreePath;
use crate::vfs::Vfs;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The end of the payload that takes contents.
pub(super) struct Delivery<'a, V: Vfs> {
    stager: &'a Stager<'a, V>,
    /// Which changes get their content from the payload, by path.
    wanted: HashMap<&'a TreePath, usize>,
    /// The way to the writers, if there are any.
    writers: Option<SyncSender<Batch>>,
    batch: Batch,
    stored: Stored,
}

/// What new objects are known by, by index of the change.
pub(super) type Stored = BTreeMap<usize, Print>;

/// Contents that are in memory, by index of the change.
#[derive(Default)]
struct Batch {
    contents: Vec<(usize, Vec<u8>)>,
    bytes: usize,
}

impl<'a, V: Vfs> Delivery<'a, V> {
    /// Stores all that the payload is to deliver.
    pub(super) fn run(stager: &'a Stager<'a, V>, payload: &mut dyn Payload) -> Result<Stored, Error> {
        let from_payload =
            |index: &usize| stager.needs_content(*index) && stager.checked.sources[*index] == Source::Payload;
        let wanted: HashMap<_, _> = (0..stager.count())
            .filter(from_payload)
            .map(|index| (&stager.checked.proposals[index].path, index))
            .collect();
        if wanted.is_empty() {
            return Ok(Stored::new());
        }
        let many = stager.vfs.threads() > 1 && wanted.len() > limits::BATCH_CONTENTS;
        let mut delivery = Self { stager, wanted, writers: None, batch: Batch::default(), stored: Stored::new() };
        if many {
            return delivery.run_with_writers(payload);
        }
        payload.deliver(&mut delivery)?;
        delivery.end()?;
        Ok(delivery.stored)
    }

    fn run_with_writers(mut self, payload: &mut dyn Payload) -> Result<Stored, Error> {
        let stager = self.stager;
        let failed = AtomicBool::new(false);
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(limits::WRITERS);
            let receiver = Arc::new(Mutex::new(receiver));
            let mut writers = Vec::new();
            for _ in 0..stager.vfs.threads().min(limits::WRITERS) {
                let (receiver, failed) = (Arc::clone(&receiver), &failed);
                // Where no thread is to be had, the others do it all; where none is, this one does.
                let started = thread::Builder::new().spawn_scoped(scope, move || write(stager, &receiver, failed));
                writers.extend(started.ok());
            }
            self.writers = (!writers.is_empty()).then_some(sender);
            // Once the last writer is gone nothing can be sent, and who tries it is told so.
            drop(receiver);
            let delivered = payload.deliver(&mut self).and_then(|()| self.end());
            self.writers = None;
            let mut first = None;
            for writer in writers {
                match writer.join() {
                    Ok(Ok(stored)) => self.stored.extend(stored),
                    Ok(Err(error)) => first = first.or(Some(error)),
                    Err(_) => first = first.or_else(|| Some(Error::new(Code::Internal, "a writer has panicked"))),
                }
            }
            // What stopped a writer has stopped the delivery.
            match first {
                Some(error) => Err(error),
                None => delivered.map(|()| self.stored),
            }
        })
    }

    fn end(&mut self) -> Result<(), Error> {
        if let Some(path) = self.wanted.keys().min() {
            return Err(Error::new(Code::PackagePartial, format!("the package holds no content for {path}")));
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        match &self.writers {
            Some(writers) => writers.send(batch).map_err(|_| Error::new(Code::Internal, "all writers are gone")),
            None => self.stager.put_all(&batch, &mut self.stored),
        }
    }
}

impl<V: Vfs> Sink for Delivery<'_, V> {
    fn wants(&self, path: &TreePath) -> bool {
        self.wanted.contains_key(path)
    }

    fn take(&mut self, path: &TreePath, content: &mut dyn Read) -> Result<(), Error> {
        let Some(index) = self.wanted.remove(path) else { return Ok(()) };
        let size = self.stager.size(index);
        if size > limits::COPY_BUFFER as u64 {
            let print = self.stager.pour(index, content)?;
            self.stored.insert(index, print);
            return Ok(());
        }
        // One byte more tells whether it is longer than it should be.
        let mut bytes = Vec::with_capacity(size as usize + 1);
        let read = content.take(size + 1).read_to_end(&mut bytes);
        read.map_err(|error| unwrap_error(error, &self.stager.slot(index)))?;
        self.stager.progress(bytes.len() as u64)?;
        self.batch.bytes += bytes.len();
        self.batch.contents.push((index, bytes));
        let full = self.batch.bytes >= limits::COPY_BUFFER || self.batch.contents.len() >= limits::BATCH_CONTENTS;
        if full || self.writers.is_none() { self.send() } else { Ok(()) }
    }
}

impl<V: Vfs> Stager<'_, V> {
    fn put_all(&self, batch: &Batch, stored: &mut Stored) -> Result<(), Error> {
        for (index, bytes) in &batch.contents {
            stored.insert(*index, self.put(*index, bytes)?);
        }
        Ok(())
    }
}

/// Writes batches until none comes, or a writer has failed.
fn write<V: Vfs>(
    stager: &Stager<'_, V>,
    batches: &Mutex<Receiver<Batch>>,
    failed: &AtomicBool,
) -> Result<Stored, Error> {
    let mut stored = Stored::new();
    loop {
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else { return Ok(stored) };
        if failed.load(Ordering::Relaxed) {
            return Ok(stored);
        }
        if let Err(error) = stager.put_all(&batch, &mut stored) {
            failed.store(true, Ordering::Relaxed);
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Change, Config, Engine, Observer, Progress, Request};
    use crate::model::{Digest, Kind, Metadata, Node, Policy, Time, Xattrs};
    use crate::transaction::State;
    use crate::tree::{Walk, scan};
    use crate::vfs::OsVfs;
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::AtomicU64;

    const FILES: usize = 20 * limits::BATCH_CONTENTS + 7;

    /// Contents by name, in an order of their own; `change` says what of them arrives.
    struct Contents<'a> {
        change: &'a dyn Fn(usize) -> Option<Vec<u8>>,
    }

    impl Payload for Contents<'_> {
        fn deliver(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
            for n in (0..FILES).rev() {
                if let (true, Some(bytes)) = (sink.wants(&path(n)), (self.change)(n)) {
                    sink.take(&path(n), &mut bytes.as_slice())?;
                }
            }
            Ok(())
        }
    }

    fn path(n: usize) -> TreePath {
        TreePath::parse(format!("f{n:05}")).unwrap()
    }

    /// Empty, small, all zeros, and too long to be held in memory.
    fn content(n: usize) -> Vec<u8> {
        match n % 10 {
            0 => Vec::new(),
            1 => vec![0; 5000 + n],
            2 if n % 100 == 2 => vec![n as u8; limits::COPY_BUFFER + n],
            _ => format!("content {n}\n").repeat(n % 50 + 1).into_bytes(),
        }
    }

    fn change(n: usize) -> Change {
        let bytes = content(n);
        let kind = Kind::File { size: bytes.len() as u64, digest: Digest::of(&bytes) };
        let mtime = Time { seconds: 1_600_000_000 + n as i64, nanoseconds: 5 };
        let mode = if n.is_multiple_of(2) { 0o640 } else { 0o755 };
        let metadata = Metadata { mode, uid: 0, gid: 0, mtime, xattrs: Xattrs::new() };
        Change { path: path(n), after: Some(Node::new(kind, metadata)), source: Source::Payload }
    }

    fn commit(root: &Path, from: &dyn Fn(usize) -> Option<Vec<u8>>, observer: &dyn Observer) -> Result<Engine, Error> {
        fs::create_dir_all(root.join(".surefoot")).unwrap();
        let vfs = OsVfs::open(root, &root.join(".surefoot")).unwrap();
        let how = Walk { policy: Policy { owner: false, mtime: true }, state_inside: true };
        let empty = scan(&vfs, &how, &|_, _| ()).unwrap();
        let mut engine = Engine::init(vfs, Config { mtime: true, ..Config::default() }, "1", Some(&empty)).unwrap();
        let request = Request::new((0..FILES).map(change).collect(), "many files");
        let result = engine.commit(request, &mut Contents { change: from }, observer);
        result.map(|_| engine).inspect_err(|_| {
            // Nothing of it is left, neither in the tree nor in the store.
            let names = |at: &Path| fs::read_dir(at).unwrap().count();
            assert_eq!((names(root), names(&root.join(".surefoot/generations"))), (1, 1));
        })
    }

    #[test]
    fn many_contents_arrive_whole_whoever_writes_them() {
        let root = tempfile::tempdir().unwrap();
        let told = AtomicU64::new(0);
        let observer = |progress: Progress| {
            if progress.phase == crate::device::Phase::Stage {
                assert!(told.fetch_max(progress.done, Ordering::Relaxed) <= progress.done);
            }
        };
        let engine = commit(root.path(), &|n| Some(content(n)), &observer).unwrap();
        assert_eq!(engine.state, State::Idle);
        assert_eq!(told.into_inner(), (0..FILES).map(|n| content(n).len() as u64).sum::<u64>());
        for n in 0..FILES {
            assert!(fs::read(root.path().join(format!("f{n:05}"))).unwrap() == content(n), "{n}");
        }
        // Modes and times too.
        assert_eq!(engine.verify(true, &()).unwrap().findings, []);
    }

    #[test]
    fn one_content_that_is_not_what_was_promised_stops_all() {
        for bad in [0, FILES / 2, FILES - 1] {
            let other = |n| {
                let mut bytes = content(n);
                bytes.extend((n == bad).then_some(b'x'));
                Some(bytes)
            };
            let root = tempfile::tempdir().unwrap();
            assert_eq!(commit(root.path(), &other, &()).unwrap_err().code(), Code::Digest, "{bad}");
            let missing = |n| (n != bad).then(|| content(n));
            let root = tempfile::tempdir().unwrap();
            assert_eq!(commit(root.path(), &missing, &()).unwrap_err().code(), Code::PackagePartial, "{bad}");
        }
    }

    #[test]
    fn what_a_writer_cannot_create_stops_all() {
        let root = tempfile::tempdir().unwrap();
        let block = |n: usize| {
            if n == FILES / 2 {
                // Somebody has taken the slot.
                for generation in fs::read_dir(root.path().join(".surefoot/generations")).unwrap() {
                    let slots = generation.unwrap().path().join("slots");
                    if slots.is_dir() {
                        fs::write(slots.join("000003"), "taken").unwrap();
                    }
                }
            }
            Some(content(n))
        };
        let error = commit(root.path(), &block, &()).unwrap_err();
        assert_eq!(error.code(), Code::Io, "{error:?}");
    }
}
