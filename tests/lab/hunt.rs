//! The hunt for violations: record, cut, judge, and again, until the time is over.

use super::acts::{ACTS, Act, Manner, Promise, Start, Stirrer, about, perform};
use super::dice::Dice;
use super::machine::{Fs, Machine, run};
use super::oracle::{Ended, Question, judge, judge_peer};
use super::workload::{Prepared, WORKLOADS, Workload};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use surefoot::crashtest::blockdev::{Budget, Cut, Image, Recording};

/// Work for one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// The name of the file system.
    pub(super) fs: String,
    /// Several workers on one file system differ in it.
    pub(super) worker: u64,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    /// These acts in turn; all acts of surefoot if there is none.
    pub(super) acts: Vec<String>,
    /// These workloads only.
    pub(super) workloads: Vec<String>,
    /// Nobody else writes meanwhile.
    pub(super) alone: bool,
    /// Calls that are ignored, in the words of strace.
    pub(super) ignored: Option<String>,
    /// Stop after so many violations.
    pub(super) enough: u64,
    /// Faults instead of losses of power.
    pub(super) faults: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) recordings: u64,
    /// Writes and flushes in them.
    pub(super) writes: u64,
    pub(super) flushes: u64,
    /// Cuts that were chosen; many leave the same image.
    pub(super) cuts: u64,
    /// Distinct images that were mounted and judged.
    pub(super) states: u64,
    /// Those of them that lost their power again within recovery.
    pub(super) nested: u64,
    /// Confirm, roll back or apply from there.
    pub(super) futures: u64,
    /// By how they ended.
    pub(super) ended: BTreeMap<String, u64>,
    pub(super) violations: u64,
    /// The names of their states.
    pub(super) found: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.recordings += other.recordings;
        self.writes += other.writes;
        self.flushes += other.flushes;
        self.cuts += other.cuts;
        self.states += other.states;
        self.nested += other.nested;
        self.futures += other.futures;
        self.violations += other.violations;
        self.found.extend(other.found.iter().cloned());
        other.ended.iter().for_each(|(end, count)| *self.ended.entry(end.clone()).or_default() += count);
    }

    pub(super) fn ended(&self, end: &str) -> u64 {
        self.ended.get(end).copied().unwrap_or(0)
    }
}

/// Cuts of one recording that are judged.
const CUTS: usize = 120;
/// Cuts of one recovery.
const NESTED_CUTS: usize = 8;
/// How often the power fails in a row, at most.
const DEPTH: u32 = 3;

pub(super) struct Hunt {
    pub(super) machine: Machine,
    pub(super) fs: &'static Fs,
    pub(super) task: Task,
    pub(super) prepared: HashMap<&'static str, Prepared>,
    empty: Option<Image>,
    starts: HashMap<(&'static str, Start), Image>,
    tally: Tally,
    end: Instant,
}

/// What is being judged, so that a violation can tell.
struct Subject<'a> {
    workload: &'static Workload,
    act: Act,
    name: &'a str,
}

impl Hunt {
    pub(super) fn new(task: Task) -> Result<Self, String> {
        let fs = Fs::named(&task.fs).ok_or_else(|| format!("no file system {}", task.fs))?;
        let end = Instant::now() + Duration::from_secs_f64(task.seconds);
        Ok(Self {
            machine: Machine::new()?,
            fs,
            task,
            prepared: HashMap::new(),
            empty: None,
            starts: HashMap::new(),
            tally: Tally::default(),
            end,
        })
    }

    /// Hunts until the time is over, or until there is enough.
    pub(super) fn run(mut self) -> Result<Tally, String> {
        let acts: Vec<Act> = self.task.acts.iter().filter_map(|name| Act::named(name)).collect();
        let acts = if acts.is_empty() { ACTS.to_vec() } else { acts };
        let only = &self.task.workloads;
        let workloads: Vec<&'static Workload> = WORKLOADS
            .iter()
            .filter(|workload| only.is_empty() || only.iter().any(|name| name == workload.name))
            .collect();
        for round in 0.. {
            if self.over() {
                break;
            }
            let mut dice = Dice::new(&[self.task.seed, self.task.worker, round]);
            let act = acts[(round as usize + self.task.worker as usize) % acts.len()];
            let workload = workloads[dice.below(workloads.len() as u64) as usize];
            let recording = self.record(workload, act, &mut dice)?;
            let name = format!(
                "{}.{}.{}.s{}.w{}.r{round}",
                self.fs.name,
                workload.name,
                act.name(),
                self.task.seed,
                self.task.worker
            );
            self.explore(&Subject { workload, act, name: &name }, &recording, CUTS, 1, dice.roll())?;
        }
        Ok(self.tally)
    }

    pub(super) fn over(&self) -> bool {
        Instant::now() >= self.end || self.tally.violations >= self.task.enough
    }

    /// Records an act.
    fn record(&mut self, workload: &'static Workload, act: Act, dice: &mut Dice) -> Result<Recording, String> {
        let start = self.start(workload, act.start())?;
        let manner = Manner {
            delay_us: [100, 400, 1000][dice.below(3) as usize] / if workload.name == "many" { 4 } else { 1 },
            ignored: self.task.ignored.clone(),
            killed: None,
        };
        for _ in 0..3 {
            self.machine.load(start.clone());
            self.machine.mount(self.fs)?;
            let directory = self.machine.mount_point().join("stir");
            let stirrer = (!self.task.alone).then(|| Stirrer::new(directory, dice.clone()));
            self.machine.disk.record();
            let done = perform(act, &self.machine, &self.prepared[workload.name], &manner, dice);
            let recording = self.machine.disk.recorded();
            drop(stirrer);
            done.map_err(|error| format!("{} {} {}: {error}", self.fs.name, workload.name, act.name()))?;
            self.machine.unmount()?;
            let Some(recording) = recording else {
                println!("refused a recording that does not lead to what is on the disk");
                continue;
            };
            self.tally.recordings += 1;
            let (writes, flushes) = recording.counts();
            self.tally.writes += writes as u64;
            self.tally.flushes += flushes as u64;
            return Ok(recording);
        }
        Err("no recording leads to what is on the disk".to_owned())
    }

    /// Judges cuts of a recording, and cuts of the recoveries from some of them.
    fn explore(
        &mut self,
        subject: &Subject<'_>,
        recording: &Recording,
        most: usize,
        depth: u32,
        seed: u64,
    ) -> Result<(), String> {
        let mut seen = HashSet::new();
        let mut dice = Dice::new(&[seed]);
        for (number, cut) in recording.cuts(&Budget { seed, most }).iter().enumerate() {
            if self.over() {
                return Ok(());
            }
            self.tally.cuts += 1;
            let promise = Promise::of(recording.mark(cut));
            let (image, hash) = recording.image(cut);
            if !seen.insert((hash, promise)) {
                continue;
            }
            self.tally.states += 1;
            self.tally.nested += u64::from(depth > 1);
            if subject.act.is_peer() {
                self.peer(subject, image)?;
                continue;
            }
            let question = Question::number(dice.roll());
            let nests = depth < DEPTH && dice.below(16) == 0;
            let inner = self.judge(subject, recording, cut, question, nests);
            let (name, state) = (subject.name, format!("{}.c{cut}", subject.name));
            match inner {
                Ok(Some(inner)) => {
                    let name = format!("{name}.n{number}");
                    let subject = Subject { name: &name, ..*subject };
                    self.explore(&subject, &inner, NESTED_CUTS, depth + 1, dice.roll())?;
                }
                Ok(None) => {}
                Err(message) => {
                    self.tally.violations += 1;
                    self.tally.found.push(state.clone());
                    println!("VIOLATION {state}: {message}");
                    self.keep(subject, recording, cut, question)?;
                }
            }
        }
        Ok(())
    }

    /// Judges one state; gives what its recovery did, if that was asked for.
    fn judge(
        &mut self,
        subject: &Subject<'_>,
        recording: &Recording,
        cut: &Cut,
        question: Question,
        record: bool,
    ) -> Result<Option<Recording>, String> {
        let promise = Promise::of(recording.mark(cut));
        let (image, _) = recording.image(cut);
        let prepared = &self.prepared[subject.workload.name];
        let judged = judge(&mut self.machine, self.fs, prepared, image, promise, question, record);
        self.tally.futures += u64::from(matches!(question, Question::Futures | Question::OtherFutures));
        let end = match &judged {
            Ok((Ended::Old, _)) => "old",
            Ok((Ended::New, _)) => "new",
            Ok((Ended::Trial, _)) => "trial",
            Err(_) => "violation",
        };
        *self.tally.ended.entry(end.to_owned()).or_default() += 1;
        judged.map(|(_, recording)| recording)
    }

    fn peer(&mut self, subject: &Subject<'_>, image: Image) -> Result<(), String> {
        let prepared = &self.prepared[subject.workload.name];
        let (whole, repaired) = judge_peer(&mut self.machine, self.fs, prepared, image, subject.act)?;
        for (what, count) in [("raw", !whole), ("after running it again", !repaired)] {
            *self.tally.ended.entry(what.to_owned()).or_default() += u64::from(count);
        }
        Ok(())
    }

    /// The disk before an act.
    pub(super) fn start(&mut self, workload: &'static Workload, start: Start) -> Result<Image, String> {
        if !self.prepared.contains_key(workload.name) {
            self.prepared.insert(workload.name, Prepared::new(workload, self.machine.scratch.path())?);
        }
        if let Some(image) = self.starts.get(&(workload.name, start)) {
            return Ok(image.clone());
        }
        let empty = match self.empty.clone() {
            Some(image) => image,
            None => self.empty.insert(self.machine.format(self.fs)?).clone(),
        };
        self.machine.load(empty);
        self.machine.mount(self.fs)?;
        workload.build(&self.machine.root(), 0);
        let root = self.machine.root().to_str().unwrap().to_owned();
        if start != Start::Plain {
            let mut arguments = about(&root, &["init", "--version", "1.0.0"]);
            arguments.extend(workload.times.then_some("--mtime"));
            run(super::SUREFOOT, &arguments)?;
        }
        if start == Start::Updated {
            let package = self.prepared[workload.name].package.to_str().unwrap();
            run(super::SUREFOOT, &about(&root, &["apply", package, "--allow-unsigned"]))?;
        }
        self.machine.unmount()?;
        let mut image = self.machine.disk.image();
        image.settle();
        self.starts.insert((workload.name, start), image.clone());
        Ok(image)
    }

    /// Keeps what is needed to judge this state again.
    fn keep(&self, subject: &Subject<'_>, recording: &Recording, cut: &Cut, question: Question) -> Result<(), String> {
        let directory = kept().join(subject.name);
        let text = |error: std::io::Error| format!("{}: {error}", directory.display());
        fs::create_dir_all(&directory).map_err(text)?;
        let bytes = self.machine.disk.bytes();
        let image = fs::File::create(directory.join("image")).map_err(text)?;
        recording.base.write_to(BufWriter::new(image), bytes).map_err(text)?;
        let log = fs::File::create(directory.join("log")).map_err(text)?;
        recording.write_to(BufWriter::new(log)).map_err(text)?;
        fs::write(directory.join(format!("c{cut}")), format!("{question:?}")).map_err(text)?;
        println!(
            "to see it again: SUREFOOT_LAB_REPLAY={}.c{cut}, with what is in {}",
            subject.name,
            directory.display()
        );
        Ok(())
    }

    /// Judges a state that was kept once more, with every question: is it as it should be?
    pub(super) fn replay(mut self, id: &str) -> Result<bool, String> {
        let (name, cut) = id.rsplit_once(".c").ok_or_else(|| format!("{id} names no state"))?;
        let cut: Cut = cut.parse()?;
        let mut parts = name.split('.');
        let mut part = || parts.next().unwrap_or_default();
        let (_, workload, act) = (part(), part(), part());
        let workload = Workload::named(workload).ok_or_else(|| format!("no workload {workload}"))?;
        let act = Act::named(act).ok_or_else(|| format!("no act {act}"))?;
        self.start(workload, act.start())?;
        let recording = read(&kept().join(name)).map_err(|error| format!("{name}: {error}"))?;
        let subject = Subject { workload, act, name };
        let mut fine = true;
        for number in 0..4 {
            let question = Question::number(number);
            let verdict = self.judge(&subject, &recording, &cut, question, false).err();
            println!("{id}: {question:?}: {}", verdict.as_deref().unwrap_or("as it should be"));
            fine &= verdict.is_none();
        }
        Ok(fine)
    }
}

/// Where violations are kept.
pub(super) fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab")
}

fn read(directory: &Path) -> std::io::Result<Recording> {
    let base = Image::read_from(BufReader::new(fs::File::open(directory.join("image"))?))?;
    Recording::read_from(base, BufReader::new(fs::File::open(directory.join("log"))?))
}
