//! `history`: what happened. Takes no lock.

use super::shown;
use crate::cli::args::Global;
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::device::{HistoryEntry, peek_history};
use crate::error::Error;
use serde::Serialize;

#[derive(Serialize)]
struct Item<'a> {
    /// The time, for people.
    at: String,
    #[serde(flatten)]
    entry: &'a HistoryEntry,
}

#[derive(Serialize)]
struct Summary {
    entries: usize,
}

pub(super) fn run(global: &Global, output: &Output) -> Result<(), Error> {
    let entries = peek_history(&Managed::of(global)?.open()?)?;
    for entry in &entries {
        let item = Item { at: time(entry.time), entry };
        let HistoryEntry { work, from, to, outcome, cause, .. } = entry;
        let way = if work == "init" { shown(to).into() } else { format!("{} -> {}", shown(from), shown(to)) };
        let cause = if cause.is_empty() { String::new() } else { format!(" ({cause})") };
        output.line(format_args!("{}  {work:<5}  {way}  {outcome}{cause}", item.at));
        output.item("entry", &item);
    }
    output.result(&Summary { entries: entries.len() });
    Ok(())
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub(super) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("@{seconds}"), |time| time.to_string())
}
