//! `journal show`: looks into the write-ahead journal. Takes no lock.

use super::history::time;
use crate::cli::args::Global;
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::device::peek;
use crate::error::Error;
use crate::model::Digest;
use crate::transaction::{Record, Recovery, Work};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Serialize)]
struct Item {
    number: usize,
    record: &'static str,
    #[serde(flatten)]
    fields: Value,
}

#[derive(Serialize)]
struct Summary {
    epoch: u64,
    state: &'static str,
    version: String,
    records: usize,
}

pub(super) fn run(global: &Global, output: &Output) -> Result<(), Error> {
    let (status, records) = peek(&Managed::of(global)?.open()?)?;
    output.line(format_args!("epoch {}, state {}", status.epoch, status.state));
    for (number, record) in records.iter().enumerate() {
        output.line(format_args!("{number:>3}  {}", told(record)));
        let (name, fields) = parts(record);
        output.item("record", &Item { number, record: name, fields });
    }
    output.result(&Summary {
        epoch: status.epoch,
        state: status.state,
        version: status.version,
        records: records.len(),
    });
    Ok(())
}

fn hex(id: [u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A record in words.
fn told(record: &Record) -> String {
    match record {
        Record::Begin { transaction, work, trial, attempts, recovery, time: seconds, title, .. } => {
            let work = match work {
                Work::Apply => "apply",
                Work::Undo => "undo",
            };
            let ends = if *trial { format!("on trial for {attempts} boots") } else { "confirmed at once".into() };
            let way = match recovery {
                Recovery::Forward => "forward",
                Recovery::Backward => "backward",
            };
            let (id, at) = (hex(*transaction), time(*seconds));
            format!("begin: {work} {title:?} at {at}, {ends}, recovery goes {way} (transaction {id})")
        }
        Record::Prepared { steps, plan_size, .. } => {
            format!("prepared: everything is stored, the plan has {steps} steps in {plan_size} bytes")
        }
        Record::Started => "started: the first step is about to be taken".into(),
        Record::Applied { .. } => "applied: every step is taken and durable".into(),
        Record::Trying { attempt, .. } => format!("trying: boot {attempt} has found the trial"),
        Record::Confirmed => "confirmed: the new version stays".into(),
        Record::Revert { cause, detail } => format!("revert: back to the old version ({cause}: {detail})"),
        Record::Reverted => "reverted: every step is taken back and durable".into(),
        Record::End => "end: nothing is left to do".into(),
    }
}

/// The name of a record, and its fields as an object.
fn parts(record: &Record) -> (&'static str, Value) {
    match record {
        Record::Begin { transaction, base, target, work, trial, attempts, recovery, session, time: seconds, title } => {
            let fields = json!({
                "transaction": hex(*transaction),
                "base": hex(*base),
                "target": hex(*target),
                "work": match work { Work::Apply => "apply", Work::Undo => "undo" },
                "trial": trial,
                "attempts": attempts,
                "recovery": match recovery { Recovery::Forward => "forward", Recovery::Backward => "backward" },
                "session": hex(*session),
                "time": seconds,
                "at": time(*seconds),
                "title": title,
            });
            ("begin", fields)
        }
        Record::Prepared { plan, plan_size, steps } => {
            ("prepared", json!({ "plan": Digest(*plan), "plan_size": plan_size, "steps": steps }))
        }
        Record::Started => ("started", json!({})),
        Record::Applied { session } => ("applied", json!({ "session": hex(*session) })),
        Record::Trying { attempt, session } => ("trying", json!({ "attempt": attempt, "session": hex(*session) })),
        Record::Confirmed => ("confirmed", json!({})),
        Record::Revert { cause, detail } => ("revert", json!({ "cause": cause, "detail": detail })),
        Record::Reverted => ("reverted", json!({})),
        Record::End => ("end", json!({})),
    }
}
