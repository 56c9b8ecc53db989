//! `diff`: what changed between two trees.

use super::read_tree;
use crate::cli::args::Diff;
use crate::cli::output::{Output, bytes};
use crate::cli::progress::Meter;
use crate::error::Error;
use crate::tree::{self, Change, Described};
use serde::Serialize;

#[derive(Default, Serialize)]
struct Summary {
    same: bool,
    added: usize,
    removed: usize,
    moved: usize,
    copied: usize,
    modified: usize,
    metadata: usize,
    /// Bytes of the files that are new or changed, moved and copied ones not counted.
    new_bytes: u64,
}

pub(super) fn run(asked: &Diff, output: &Output) -> Result<(), Error> {
    let meter = Meter::new(output);
    let (_, old) = read_tree(&asked.old, asked.identity, &meter)?;
    let (_, new) = read_tree(&asked.new, asked.identity, &meter)?;
    drop(meter);
    let described = tree::describe(&old, &new);
    let mut summary = Summary { same: described.is_empty(), ..Summary::default() };
    for change in &described {
        summary.count(change);
        output.item("change", change);
        output.line(told(change));
    }
    output.line(summary.told());
    output.result(&summary);
    Ok(())
}

impl Summary {
    fn count(&mut self, Described { change, size_after, .. }: &Described) {
        let counter = match change {
            Change::Added => &mut self.added,
            Change::Removed => &mut self.removed,
            Change::Moved { .. } => &mut self.moved,
            Change::Copied { .. } => &mut self.copied,
            Change::Type | Change::Content | Change::Target => &mut self.modified,
            Change::Metadata { .. } | Change::Links => &mut self.metadata,
        };
        *counter += 1;
        if matches!(change, Change::Added | Change::Type | Change::Content) {
            self.new_bytes += size_after.unwrap_or(0);
        }
    }

    fn told(&self) -> String {
        if self.same {
            return "no difference".into();
        }
        let Self { added, removed, moved, copied, modified, metadata, new_bytes, .. } = self;
        format!(
            "{added} added, {modified} modified, {removed} removed, {moved} moved, {copied} copied, {metadata} with \
             other metadata; {} of new content",
            bytes(*new_bytes)
        )
    }
}

/// One change, on a line.
pub(super) fn told(Described { path, change, size_before, size_after }: &Described) -> String {
    let sizes = match (size_before, size_after) {
        (Some(before), Some(after)) if before != after => format!("  ({} -> {})", bytes(*before), bytes(*after)),
        (Some(size), _) | (None, Some(size)) => format!("  ({})", bytes(*size)),
        (None, None) => String::new(),
    };
    match change {
        Change::Added => format!("A {path}{sizes}"),
        Change::Removed => format!("D {path}{sizes}"),
        Change::Moved { from } => format!("R {from} -> {path}{sizes}"),
        Change::Copied { from } => format!("C {from} -> {path}{sizes}"),
        Change::Type => format!("T {path}{sizes}"),
        Change::Content => format!("M {path}{sizes}"),
        Change::Target => format!("M {path}  (link target)"),
        Change::Metadata { what } => format!("m {path}  ({what})"),
        Change::Links => format!("m {path}  (hard links)"),
    }
}
