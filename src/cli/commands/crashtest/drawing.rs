//! The page that shows every state: what is put into the template.

use super::page::PAGE;
use super::{Counted, Tested};
use crate::crashtest::{Act, Case, Phase};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    tested: &'a Tested,
    program: &'static str,
    acts: Vec<Drawn<'a>>,
    violations: Vec<Told>,
}

/// One act: its moments along the one axis, and for each kind of disk what was found at them.
#[derive(Serialize)]
struct Drawn<'a> {
    act: Act,
    title: &'static str,
    /// Call number, what it was, and the phase.
    moments: Vec<(u64, &'a str, Phase)>,
    disks: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    counted: Counted,
    /// For each moment: how many states, by what the tree was before (old, mixed, damaged, new) and what it is after
    /// (old, new, violation); empty if the moment was left out.
    found: Vec<Vec<u32>>,
}

#[derive(Serialize)]
struct Told {
    disk: String,
    title: &'static str,
    count: u64,
    text: String,
}

/// The whole page.
pub(super) fn page(tested: &Tested, cases: &[Case]) -> String {
    let data = Data {
        tested,
        program: concat!("surefoot ", env!("CARGO_PKG_VERSION")),
        acts: Act::ALL.iter().map(|act| drawn(*act, cases)).collect(),
        violations: cases.iter().filter_map(told).collect(),
    };
    // Nothing in it can end the element that it stands in, and it is ASCII.
    let json = serde_json::to_string(&data).unwrap_or_default();
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' => safe += &format!("\\u{:04x}", u32::from(c)),
            c if c.is_ascii() => safe.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe += &format!("\\u{unit:04x}")),
        }
    }
    PAGE.replace("@DATA@", &safe)
}

fn drawn(act: Act, cases: &[Case]) -> Drawn<'_> {
    let cases: Vec<&Case> = cases.iter().filter(|case| case.act == act).collect();
    let mut moments: BTreeMap<u64, (&str, Phase)> = BTreeMap::new();
    for moment in cases.iter().flat_map(|case| &case.moments) {
        moments.insert(moment.call, (&moment.text, moment.phase));
    }
    let row = |case: &&Case| {
        let known: BTreeMap<u64, &[[u32; 3]; 4]> =
            case.moments.iter().map(|moment| (moment.call, &moment.states)).collect();
        let found = moments.keys().map(|call| known.get(call).map_or_else(Vec::new, |states| states.concat()));
        Row { counted: Counted::of(case), found: found.collect() }
    };
    let disks = cases.iter().map(row).collect();
    let moments = moments.into_iter().map(|(call, (text, phase))| (call, text, phase)).collect();
    Drawn { act, title: act.as_str(), moments, disks }
}

fn told(case: &Case) -> Option<Told> {
    let text = case.violation.as_ref()?.to_string();
    Some(Told { disk: case.disk.clone(), title: case.act.as_str(), count: case.violations(), text })
}
