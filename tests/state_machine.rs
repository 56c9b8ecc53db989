//! The pure state machine: its table, the law between `on` and `replay`, what it never does, and a model of everything
//! that can happen to a transaction of up to two steps.

#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use std::collections::{BTreeSet, HashSet, VecDeque};
use surefoot::transaction::table::{self, record_name};
use surefoot::transaction::{Cause, Effect, Input, Outcome, Record, Recovery, State, Survey};

/// `SUREFOOT_BLESS=1 cargo test state_machine` writes the golden table anew.
#[test]
fn the_table_is_the_golden_one() {
    let at = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/state_table.md");
    let table = table::markdown();
    if std::env::var_os("SUREFOOT_BLESS").is_some() {
        std::fs::write(at, &table).unwrap();
    }
    let golden = std::fs::read_to_string(at).unwrap();
    for (number, (line, expected)) in table.lines().zip(golden.lines()).enumerate() {
        assert_eq!(line, expected, "line {} of tests/golden/state_table.md", number + 1);
    }
    assert_eq!(table, golden, "tests/golden/state_table.md has another length");
}

#[test]
fn the_diagram_has_every_way_between_states_once() {
    let diagram = table::diagram();
    let lines: Vec<&str> = diagram.lines().skip(2).collect();
    let word = |text: &str| text.split([' ', '(']).next().unwrap().to_string();
    let ways: BTreeSet<String> = table::cells()
        .iter()
        .filter_map(|cell| {
            let (_, next) = cell.answer.as_ref()?;
            Some(format!("    {} --> {}: {}", word(&cell.state), word(next), word(&cell.input)))
        })
        .collect();
    assert_eq!(lines.len(), ways.len(), "a way stands there twice, or not at all");
    assert_eq!(lines.into_iter().map(ToString::to_string).collect::<BTreeSet<_>>(), ways);
}

#[test]
fn every_state_answers_a_resume() {
    for state in table::states() {
        assert!(state.on(Input::Resume { session: [9; 16] }, &mut Vec::new()).is_ok(), "{state:?}");
    }
}

/// What a transaction is asked to be.
#[derive(Clone, Copy, Debug)]
struct Setup {
    steps: u32,
    trial: bool,
    attempts: u32,
    recovery: Recovery,
}

impl Setup {
    fn begin(self, now: [u8; 16]) -> Record {
        match table::begin(self.trial, self.recovery) {
            Record::Begin { transaction, base, target, work, trial, recovery, time, title, .. } => Record::Begin {
                transaction,
                base,
                target,
                work,
                trial,
                attempts: self.attempts,
                recovery,
                session: now,
                time,
                title,
            },
            other => panic!("{other:?} does not begin"),
        }
    }

    fn prepared(self) -> Record {
        Record::Prepared { plan: [5; 32], plan_size: 9, steps: self.steps }
    }
}

fn setups() -> impl Strategy<Value = Setup> {
    let recovery = prop_oneof![Just(Recovery::Forward), Just(Recovery::Backward)];
    (0..5u32, any::<bool>(), 1..4u32, recovery).prop_map(|(steps, trial, attempts, recovery)| Setup {
        steps,
        trial,
        attempts,
        recovery,
    })
}

fn fold(records: &[Record]) -> State {
    let state = records.iter().try_fold(State::Idle, |state, record| state.replay(record));
    state.unwrap_or_else(|error| panic!("{error} in {records:?}"))
}

/// The law. One state has no record of its own: an abandoned transaction is closing in memory and preparing in the
/// journal. Both mean the same: sweep, and the tree was never touched.
fn assert_law(live: State, records: &[Record]) {
    let folded = fold(records).durable();
    match (live, folded) {
        (State::Closing(Outcome::Abandoned), State::Preparing(facts)) => assert_eq!(facts.steps, 0),
        _ => assert_eq!(folded, live.durable(), "{records:?}"),
    }
}

/// Runs random inputs, with losses of power and killed processes among them, and watches every effect.
struct Watch {
    setup: Setup,
    state: State,
    records: Vec<Record>,
    /// How many of the records are durable.
    durable: usize,
    /// Records covered by a barrier for everything, not for the journal alone.
    all_durable: usize,
    session: u8,
    last: Option<Effect>,
}

impl Watch {
    fn new(setup: Setup) -> Self {
        Self { setup, state: State::Idle, records: vec![], durable: 0, all_durable: 0, session: 1, last: None }
    }

    fn inputs(&self) -> Vec<Input> {
        let session = [self.session; 16];
        vec![
            Input::Start(self.setup.begin(session)),
            Input::Staged(self.setup.prepared()),
            Input::Stepped,
            Input::Stepped,
            Input::Stepped,
            Input::Failed(Cause::new("cause", "words")),
            Input::Surveyed(Survey::Ready),
            Input::Surveyed(Survey::Unstaged),
            Input::Confirm,
            Input::Reject(Cause::new("requested", "words")),
            Input::Resume { session },
            Input::Resume { session: [self.session + 1; 16] },
            Input::Hold { session: [self.session + 1; 16] },
            Input::Swept,
        ]
    }

    /// An input that the state accepts.
    fn pick(&self, choice: usize) -> Input {
        let accepted: Vec<Input> =
            self.inputs().into_iter().filter(|input| self.state.on(input.clone(), &mut Vec::new()).is_ok()).collect();
        accepted[choice % accepted.len()].clone()
    }

    fn input(&mut self, input: Input) {
        self.input_until(input, usize::MAX);
        assert_law(self.state, &self.records);
    }

    /// Feeds an input and does only the first so many of its effects.
    fn input_until(&mut self, input: Input, end: usize) {
        if let Input::Start(_) = input {
            // Another epoch of the journal.
            self.records.clear();
            (self.durable, self.all_durable) = (0, 0);
        }
        if let Input::Resume { session } | Input::Hold { session } = input {
            self.session = session[0];
        }
        let mut effects = Vec::new();
        self.state = self.state.on(input, &mut effects).unwrap();
        for effect in effects.into_iter().take(end) {
            self.watch(&effect);
            self.last = Some(effect);
        }
    }

    fn watch(&mut self, effect: &Effect) {
        match effect {
            Effect::Append(record) => {
                if let Record::Applied { .. } = record {
                    assert_eq!(self.last, Some(Effect::SyncAll), "applied before the steps are durable");
                }
                self.records.push(record.clone());
                assert!(!(self.has("Confirmed") && self.has("Revert")), "both kept and taken back");
                fold(&self.records);
            }
            Effect::SyncJournal => self.durable = self.records.len(),
            Effect::SyncAll => (self.durable, self.all_durable) = (self.records.len(), self.records.len()),
            Effect::Forward(step) => {
                assert!(*step < self.setup.steps);
                assert!(!self.has("Revert") && !self.has("Applied"), "forward again");
                let prepared = self.records[..self.all_durable].iter().any(|record| record_name(record) == "Prepared");
                assert!(prepared, "forward before everything new is durable");
            }
            Effect::Backward(step) => {
                assert!(*step < self.setup.steps);
                assert!(self.has_durable("Revert"), "back before the direction is durable");
                assert!(!self.has("Reverted"));
            }
            Effect::Sweep => {
                let decided = self.has_durable("Confirmed") || self.has_durable("Reverted");
                assert!(decided || !self.has("Prepared"), "swept before the decision is durable");
            }
            Effect::Stage => assert_eq!(self.records.len(), 1),
            Effect::Survey => assert!(matches!(self.state, State::Applying { .. })),
            Effect::Settle(_) => {}
        }
    }

    fn has(&self, name: &str) -> bool {
        self.records.iter().any(|record| record_name(record) == name)
    }

    fn has_durable(&self, name: &str) -> bool {
        self.records[..self.durable].iter().any(|record| record_name(record) == name)
    }

    /// Another process takes over: what it reads need not be durable.
    fn kill(&mut self) {
        self.state = fold(&self.records);
        self.last = None;
        self.input(Input::Resume { session: [self.session; 16] });
    }

    /// Power is lost, and all but some of the records that were not durable; what is read afterwards is durable.
    fn crash(&mut self, choice: usize) {
        let kept = self.durable + choice % (self.records.len() - self.durable + 1);
        self.records.truncate(kept);
        (self.durable, self.all_durable) = (kept, kept);
        self.state = fold(&self.records);
        (self.session, self.last) = (self.session.wrapping_add(1) % 100, None);
        self.input(Input::Resume { session: [self.session; 16] });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn folding_the_records_gives_the_live_state_and_nothing_happens_too_early(
        setup in setups(),
        choices in prop::collection::vec((0..12u8, any::<usize>()), 1..60),
    ) {
        let mut watch = Watch::new(setup);
        for (event, choice) in choices {
            let input = watch.pick(choice);
            let end = if event < 2 { choice / 16 % 7 } else { usize::MAX };
            watch.input_until(input, end);
            match event {
                0 => watch.crash(choice / 128),
                1 => watch.kill(),
                _ => assert_law(watch.state, &watch.records),
            }
        }
    }

    #[test]
    fn barriers_do_not_grow_with_the_steps(steps in 0..300u32, recovery in any::<bool>()) {
        let recovery = if recovery { Recovery::Forward } else { Recovery::Backward };
        let count = |trial| barriers(Setup { steps, trial, attempts: 1, recovery });
        prop_assert_eq!(count(false), 3);
        prop_assert_eq!(count(true), 4);
    }
}

/// The barriers of an undisturbed transaction, confirmation included.
fn barriers(setup: Setup) -> usize {
    let mut inputs = VecDeque::from([Input::Start(setup.begin([1; 16]))]);
    let (mut state, mut count, mut forward) = (State::Idle, 0, 0);
    while let Some(input) = inputs.pop_front() {
        let mut effects = Vec::new();
        state = state.on(input, &mut effects).unwrap();
        for effect in effects {
            match effect {
                Effect::SyncAll | Effect::SyncJournal => count += 1,
                Effect::Stage => inputs.push_back(Input::Staged(setup.prepared())),
                Effect::Forward(_) => {
                    forward += 1;
                    inputs.push_back(Input::Stepped);
                }
                Effect::Sweep => inputs.push_back(Input::Swept),
                Effect::Append(_) | Effect::Settle(_) => {}
                Effect::Survey | Effect::Backward(_) => panic!("{effect:?} in an undisturbed transaction"),
            }
        }
        if let (State::Trial { .. }, true) = (state, inputs.is_empty()) {
            inputs.push_back(Input::Confirm);
        }
    }
    assert_eq!((state, forward), (State::Idle, setup.steps));
    count
}

/// A machine with its disk: what is seen, and what a loss of power may leave of it.
#[derive(Clone, Debug)]
struct World {
    setup: Setup,
    state: State,
    todo: VecDeque<Effect>,
    records: Vec<Record>,
    durable: usize,
    /// Which steps are done, as it is seen.
    tree: Vec<bool>,
    /// Which steps a loss of power may leave undone, and done.
    left: Vec<[bool; 2]>,
    /// Is everything new in the store; and on the disk?
    staged: [bool; 2],
    /// May the store still be used for going on, forward or back?
    swept: bool,
    session: u8,
}

/// What happens to it.
type Successors = Vec<(&'static str, World)>;

impl World {
    fn new(setup: Setup) -> Self {
        let steps = setup.steps as usize;
        let mut world = Self {
            setup,
            state: State::Idle,
            todo: VecDeque::new(),
            records: Vec::new(),
            durable: 0,
            tree: vec![false; steps],
            left: vec![[true, false]; steps],
            staged: [false; 2],
            swept: false,
            session: 1,
        };
        world.input(Input::Start(setup.begin([1; 16])));
        world
    }

    fn key(&self) -> String {
        let Self { state, todo, records, durable, tree, left, staged, swept, session, .. } = self;
        format!("{state:?} {todo:?} {records:?} {durable} {tree:?} {left:?} {staged:?} {swept} {session}")
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.state = self.state.on(input, &mut effects).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        self.todo.extend(effects);
        assert_law(self.state, &self.records_to_come());
    }

    /// The records once everything that is to be done is done.
    fn records_to_come(&self) -> Vec<Record> {
        let more = self.todo.iter().filter_map(|effect| match effect {
            Effect::Append(record) => Some(record.clone()),
            _ => None,
        });
        self.records.iter().cloned().chain(more).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.records.iter().any(|record| record_name(record) == name)
    }

    fn at_rest(&self) -> bool {
        self.todo.is_empty() && matches!(self.state, State::Idle | State::Trial { .. })
    }

    /// Does the effect at hand; with `fails`, what can fail does.
    fn act(&mut self, fails: bool) -> bool {
        let Some(effect) = self.todo.pop_front() else { return false };
        let answer = match effect {
            Effect::Append(record) => {
                self.records.push(record);
                None
            }
            Effect::SyncJournal => {
                self.durable = self.records.len();
                None
            }
            Effect::SyncAll => {
                self.durable = self.records.len();
                self.left = self.tree.iter().map(|done| [!done, *done]).collect();
                self.staged[1] = self.staged[0];
                None
            }
            Effect::Stage => {
                if !fails {
                    self.staged[0] = true;
                }
                Some(Input::Staged(self.setup.prepared()))
            }
            Effect::Survey => {
                let ready = self.staged[0] || self.tree.iter().all(|done| *done);
                Some(Input::Surveyed(if ready { Survey::Ready } else { Survey::Unstaged }))
            }
            Effect::Forward(step) => {
                assert!(!self.has("Revert"), "the direction flipped");
                if !fails {
                    self.step(step, true);
                }
                Some(Input::Stepped)
            }
            Effect::Backward(step) => {
                assert!(self.has("Revert") && !self.has("Confirmed"), "the direction flipped");
                self.step(step, false);
                Some(Input::Stepped)
            }
            Effect::Settle(_) => None,
            Effect::Sweep => {
                let whole = self.tree.iter().all(|done| *done) || self.tree.iter().all(|done| !done);
                assert!(whole, "swept a tree that is neither old nor new");
                (self.swept, self.staged) = (true, [false; 2]);
                if fails { None } else { Some(Input::Swept) }
            }
        };
        match answer {
            Some(Input::Staged(_) | Input::Stepped) if fails => self.input(Input::Failed(Cause::new("fault", ""))),
            Some(input) => self.input(input),
            None => {}
        }
        true
    }

    fn step(&mut self, step: u32, done: bool) {
        let step = step as usize;
        if self.tree[step] != done {
            assert!(!self.swept && self.staged[0], "what step {step} needs is gone");
            self.tree[step] = done;
            self.left[step][usize::from(done)] = true;
        }
    }

    fn restart(mut self, session: u8) -> Self {
        self.session = session;
        self.todo.clear();
        self.state = fold(&self.records);
        self.input(Input::Resume { session: [session; 16] });
        self
    }

    /// Every disk that a loss of power may leave, each with the next start.
    fn crashes(&self) -> Successors {
        let mut out = Vec::new();
        for kept in self.durable..=self.records.len() {
            for choice in 0..1u32 << self.tree.len() {
                let tree: Vec<bool> = (0..self.tree.len()).map(|step| choice >> step & 1 == 1).collect();
                if tree.iter().zip(&self.left).any(|(done, left)| !left[usize::from(*done)]) {
                    continue;
                }
                for staged in BTreeSet::from([self.staged[0], self.staged[1]]) {
                    let left = tree.iter().map(|done| [!done, *done]).collect();
                    let records = self.records[..kept].to_vec();
                    let (staged, tree) = ([staged; 2], tree.clone());
                    let disk = Self { records, durable: kept, tree, left, staged, ..self.clone() };
                    out.push(("power is lost", disk.restart(self.session % 3 + 1)));
                }
            }
        }
        out
    }

    fn successors(&self) -> Successors {
        let mut out = self.crashes();
        out.push(("the process is killed", self.clone().restart(self.session)));
        for fails in [false, true] {
            let can = matches!(self.todo.front(), Some(Effect::Stage | Effect::Forward(_) | Effect::Sweep));
            let mut next = self.clone();
            if (!fails || can) && next.act(fails) {
                out.push((if fails { "it fails" } else { "it is done" }, next));
            }
        }
        if let (State::Trial { .. }, true) = (self.state, self.todo.is_empty()) {
            for (what, input) in
                [("confirmed", Input::Confirm), ("rejected", Input::Reject(Cause::new("requested", "")))]
            {
                let mut next = self.clone();
                next.input(input);
                out.push((what, next));
            }
        }
        out
    }

    fn check(&self) {
        if !self.todo.is_empty() {
            return;
        }
        match self.state {
            State::Trial { .. } => assert!(self.tree.iter().all(|done| *done), "on trial is the new tree: {self:?}"),
            State::Idle => {
                let kept = self.has("Confirmed");
                assert!(self.tree.iter().all(|done| *done == kept), "neither old nor new: {self:?}");
            }
            // A sweep that failed waits for the next start.
            State::Closing(_) => {}
            other => panic!("dead end in {other:?}"),
        }
    }

    /// Where it gets undisturbed after the next start.
    fn recovered(&self) -> Self {
        let mut world = self.clone().restart(self.session);
        for _ in 0..100 {
            if !world.act(false) {
                break;
            }
        }
        assert!(world.at_rest(), "recovery does not end: {world:?}");
        world
    }
}

#[test]
fn whatever_happens_every_transaction_ends_old_or_new() {
    let mut total = 0;
    for steps in 0..=2 {
        for trial in [false, true] {
            for recovery in [Recovery::Forward, Recovery::Backward] {
                total += explore(Setup { steps, trial, attempts: 2, recovery });
            }
        }
    }
    assert!(total > 5_000, "only {total} worlds");
}

fn explore(setup: Setup) -> usize {
    let first = World::new(setup);
    let mut seen = HashSet::from([first.key()]);
    let mut queue = VecDeque::from([(first, Vec::new())]);
    let mut ends = BTreeSet::new();
    while let Some((world, way)) = queue.pop_front() {
        let result = std::panic::catch_unwind(|| {
            world.check();
            world.recovered().check();
            world.successors()
        });
        let successors = result.unwrap_or_else(|_| panic!("{setup:?}: {way:#?}"));
        if world.todo.is_empty() && world.state == State::Idle {
            ends.insert(world.has("Confirmed"));
        }
        for (what, next) in successors {
            if seen.insert(next.key()) {
                let mut way: Vec<String> = way.clone();
                way.push(format!("{what} -> {:?}, to do {:?}", next.state, next.todo));
                queue.push_back((next, way));
            }
        }
    }
    assert_eq!(ends, BTreeSet::from([false, true]), "both ends can be reached: {setup:?}");
    seen.len()
}
