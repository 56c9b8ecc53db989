//! Every state with every input, as a table for people: the golden file of the tests and the diagram of the docs.

use super::{Cause, Direction, Effect, Facts, Input, Outcome, Record, Recovery, State, Survey, Work};
use std::fmt::Write as _;

/// One cell: what a state does with an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The state.
    pub state: String,
    /// The input.
    pub input: String,
    /// The effects in order and the next state; nothing where the input is not expected.
    pub answer: Option<(Vec<String>, String)>,
}

const SESSION: [u8; 16] = [1; 16];
const OTHER_SESSION: [u8; 16] = [2; 16];

/// Every cell of the table, for a transaction of two steps and a trial of two boots.
pub fn cells() -> Vec<Cell> {
    let mut out = Vec::new();
    for state in states() {
        for input in inputs() {
            let mut effects = Vec::new();
            let answer = state
                .on(input.clone(), &mut effects)
                .ok()
                .map(|next| (effects.iter().map(show_effect).collect(), show_state(next)));
            out.push(Cell { state: show_state(state), input: show_input(&input), answer });
        }
    }
    out
}

/// The table as Markdown.
pub fn markdown() -> String {
    let mut out = String::from("| state | input | effects, in order | next state |\n|---|---|---|---|\n");
    for Cell { state, input, answer } in cells() {
        let (effects, next) = match answer {
            Some((effects, next)) if effects.is_empty() => ("(none)".to_string(), next),
            Some((effects, next)) => (effects.join(", "), next),
            None => ("refused".into(), "-".into()),
        };
        let _ = writeln!(out, "| {state} | {input} | {effects} | {next} |");
    }
    out
}

/// The states and the inputs that lead from one to another, as a Mermaid diagram.
pub fn diagram() -> String {
    let mut out = String::from("stateDiagram-v2\n    [*] --> Idle\n");
    let name = |state: &str| state.split([' ', '(']).next().unwrap_or_default().to_string();
    let mut seen = std::collections::BTreeSet::new();
    for Cell { state, input, answer } in cells() {
        let Some((_, next)) = answer else { continue };
        let (from, to) = (name(&state), name(&next));
        let input = input.split([' ', '(']).next().unwrap_or_default().to_string();
        if seen.insert((from.clone(), to.clone(), input.clone())) {
            let _ = writeln!(out, "    {from} --> {to}: {input}");
        }
    }
    out
}

/// Every state, those inside a phase at their ends.
pub fn states() -> Vec<State> {
    let facts = Facts { steps: 2, trial: true, attempts: 2, recovery: Recovery::Forward, session: SESSION };
    let at_once = Facts { trial: false, ..facts };
    let backward = Facts { recovery: Recovery::Backward, ..facts };
    vec![
        State::Idle,
        State::Preparing(facts),
        State::Applying { facts, next: 0 },
        State::Applying { facts: backward, next: 0 },
        State::Applying { facts, next: 1 },
        State::Applying { facts: at_once, next: 1 },
        State::Trial { facts, attempt: 0, session: SESSION },
        State::Trial { facts, attempt: 2, session: SESSION },
        State::Trial { facts, attempt: 3, session: SESSION },
        State::Trial { facts: at_once, attempt: 0, session: SESSION },
        State::Reverting { facts, left: 2 },
        State::Reverting { facts, left: 1 },
        State::Closing(Outcome::Kept),
        State::Closing(Outcome::Restored),
        State::Closing(Outcome::Abandoned),
    ]
}

/// Every input.
pub fn inputs() -> Vec<Input> {
    vec![
        Input::Start(begin(true, Recovery::Forward)),
        Input::Staged(Record::Prepared { plan: [0; 32], plan_size: 0, steps: 2 }),
        Input::Stepped,
        Input::Failed(Cause::new("cause", "")),
        Input::Surveyed(Survey::Ready),
        Input::Surveyed(Survey::Unstaged),
        Input::Confirm,
        Input::Reject(Cause::new("cause", "")),
        Input::Resume { session: SESSION },
        Input::Resume { session: OTHER_SESSION },
        Input::Hold { session: OTHER_SESSION },
        Input::Swept,
    ]
}

/// A `Begin` record for tables and tests.
pub fn begin(trial: bool, recovery: Recovery) -> Record {
    Record::Begin {
        transaction: [3; 16],
        base: [4; 16],
        target: [3; 16],
        work: Work::Apply,
        trial,
        attempts: 2,
        recovery,
        session: SESSION,
        time: 0,
        title: String::new(),
    }
}

fn show_state(state: State) -> String {
    let about = |facts: Facts| match (facts.trial, facts.recovery) {
        (true, Recovery::Forward) => "",
        (false, _) => ", no trial",
        (true, Recovery::Backward) => ", recovers backward",
    };
    match state {
        State::Idle => "Idle".into(),
        State::Preparing(facts) => format!("Preparing{}", about(facts)),
        State::Applying { facts, next } => format!("Applying (step {next} of {}{})", facts.steps, about(facts)),
        State::Trial { facts, attempt, .. } => {
            format!("Trial (attempt {attempt} of {}{})", facts.attempts, about(facts))
        }
        State::Reverting { facts, left } => format!("Reverting ({left} of {} left{})", facts.steps, about(facts)),
        State::Closing(outcome) => format!("Closing ({outcome:?})"),
    }
}

fn show_input(input: &Input) -> String {
    match input {
        Input::Start(_) => "Start".into(),
        Input::Staged(_) => "Staged".into(),
        Input::Failed(_) => "Failed".into(),
        Input::Reject(_) => "Reject".into(),
        Input::Surveyed(survey) => format!("Surveyed ({survey:?})"),
        Input::Resume { session } if *session == SESSION => "Resume (same boot)".into(),
        Input::Resume { .. } => "Resume (another boot)".into(),
        Input::Hold { .. } => "Hold (another boot)".into(),
        other => format!("{other:?}"),
    }
}

fn show_effect(effect: &Effect) -> String {
    match effect {
        Effect::Append(record) => format!("append {}", record_name(record)),
        Effect::SyncJournal => "sync journal".into(),
        Effect::SyncAll => "sync all".into(),
        Effect::Stage => "stage".into(),
        Effect::Survey => "survey".into(),
        Effect::Forward(step) => format!("step {step} forward"),
        Effect::Backward(step) => format!("step {step} backward"),
        Effect::Settle(Direction::Forward) => "settle forward".into(),
        Effect::Settle(Direction::Backward) => "settle backward".into(),
        Effect::Sweep => "sweep".into(),
    }
}

/// The name of a record, without its fields.
pub fn record_name(record: &Record) -> &'static str {
    match record {
        Record::Begin { .. } => "Begin",
        Record::Prepared { .. } => "Prepared",
        Record::Started => "Started",
        Record::Applied { .. } => "Applied",
        Record::Trying { .. } => "Trying",
        Record::Confirmed => "Confirmed",
        Record::Revert { .. } => "Revert",
        Record::Reverted => "Reverted",
        Record::End => "End",
    }
}
