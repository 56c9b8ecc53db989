//! What happened to a tree: one JSON object a line, for people and programs. Nothing is decided by it.

use super::layout;
use super::store::{self, Generation};
use crate::error::Error;
use crate::limits;
use crate::transaction::{Outcome, Record, State, Work};
use crate::vfs::{Access, Rename, Vfs};
use serde::{Deserialize, Serialize};

/// One finished transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Identity of the transaction, in hexadecimal.
    pub transaction: String,
    /// Seconds since 1970 when it began.
    pub time: i64,
    /// `apply`, `undo` or `init`.
    pub work: String,
    /// The version before; empty if it had none.
    pub from: String,
    /// The version asked for; empty if it has none.
    pub to: String,
    /// `kept`, `restored` or `abandoned`.
    pub outcome: String,
    /// Why it was taken back; empty if it was not.
    pub cause: String,
    /// What it was, in words.
    pub title: String,
}

/// Appends the transaction of these records, unless it stands there already.
pub(super) fn note<V: Vfs>(vfs: &V, records: &[Record], state: State) -> Result<(), Error> {
    let (Some(Record::Begin { transaction, base, target, work, time, title, .. }), State::Closing(outcome)) =
        (records.first(), state)
    else {
        return Ok(());
    };
    let version = |id: layout::Id| Generation::read(vfs, id).map(|generation| generation.version).unwrap_or_default();
    let cause = records.iter().find_map(|record| match record {
        Record::Revert { cause, detail } => Some(format!("{cause}: {detail}")),
        _ => None,
    });
    append(
        vfs,
        &HistoryEntry {
            transaction: layout::hex(*transaction),
            time: *time,
            work: match work {
                Work::Apply => "apply".into(),
                Work::Undo => "undo".into(),
            },
            from: version(*base),
            to: version(*target),
            outcome: match outcome {
                Outcome::Kept => "kept".into(),
                Outcome::Restored => "restored".into(),
                Outcome::Abandoned => "abandoned".into(),
            },
            cause: cause.unwrap_or_default(),
            title: title.clone(),
        },
    )
}

/// Appends an entry, unless its transaction stands there already.
pub(super) fn append<V: Vfs>(vfs: &V, entry: &HistoryEntry) -> Result<(), Error> {
    let at = layout::history();
    let bytes = match vfs.stat(&at)? {
        None => Vec::new(),
        Some(stat) if stat.size > limits::HISTORY_FILE => {
            vfs.rename(&at, &layout::history_old(), Rename::Replace)?;
            Vec::new()
        }
        Some(_) => store::read_file(vfs, &at, u64::MAX)?,
    };
    if parse(&bytes).iter().any(|known| known.transaction == entry.transaction) {
        return Ok(());
    }
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    line.push(b'\n');
    if bytes.last().is_some_and(|last| *last != b'\n') {
        // A crash tore the last line: end it, so that it spoils no other.
        line.insert(0, b'\n');
    }
    let file = if vfs.stat(&at)?.is_some() { vfs.open(&at, Access::Write)? } else { vfs.create(&at)? };
    vfs.write_at(&file, bytes.len() as u64, &line)?;
    Ok(())
}

/// Everything that is noted, the oldest first.
pub(super) fn read<V: Vfs>(vfs: &V) -> Result<Vec<HistoryEntry>, Error> {
    let mut out = Vec::new();
    for at in [layout::history_old(), layout::history()] {
        if vfs.stat(&at)?.is_some() {
            out.extend(parse(&store::read_file(vfs, &at, 4 * limits::HISTORY_FILE)?));
        }
    }
    Ok(out)
}

/// What a crash tore or spoilt is left out.
fn parse(bytes: &[u8]) -> Vec<HistoryEntry> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
