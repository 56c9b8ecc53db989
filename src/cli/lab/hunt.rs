//! The hunt for violations: record, cut, judge, and again, until the time is over.

use super::acts::{Act, Manner, Start, Stirrer, apply, perform, promise};
use super::machine::{FileSystem, Machine};
use super::oracle::{Ended, Question, judge};
use super::{Update, at};
use crate::crashtest::blockdev::{Budget, Cut, Image, Recording};
use crate::vfs::sim::Dice;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is hunted for, and how.
#[derive(Clone)]
pub struct Orders {
    /// Where.
    pub file_system: &'static FileSystem,
    /// How much room the trees take there.
    pub room_mib: u64,
    /// What is tested.
    pub updates: Vec<Arc<Update>>,
    /// These acts in turn.
    pub acts: Vec<Act>,
    /// Where everything random comes from, as far as it can: the kernel has a will of its own.
    pub seed: u64,
    /// Several workers on one file system differ in it.
    pub worker: u64,
    /// For how long.
    pub time: Duration,
    /// Nobody else writes meanwhile.
    pub alone: bool,
    /// Calls that are reported as done, but not made, in the words of strace.
    pub ignored: Option<String>,
    /// Stop after so many violations.
    pub enough: u64,
    /// Where the states that are violations are kept.
    pub kept: Option<PathBuf>,
}

/// A violation.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The name of its state.
    pub state: String,
    /// What is wrong.
    pub message: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Runs that were recorded.
    pub recordings: u64,
    /// Recordings that did not lead to what was on the disk; each was made again.
    pub refused: u64,
    /// Writes in them.
    pub writes: u64,
    /// Flushes in them.
    pub flushes: u64,
    /// Cuts that were chosen; many leave the same image.
    pub cuts: u64,
    /// Distinct images that were mounted and judged.
    pub states: u64,
    /// Those of them that lost their power again within recovery.
    pub nested: u64,
    /// Confirm, roll back or apply from there.
    pub futures: u64,
    /// By how they ended.
    pub ended: BTreeMap<String, u64>,
    /// What is wrong.
    pub found: Vec<Found>,
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.recordings += other.recordings;
        self.refused += other.refused;
        self.writes += other.writes;
        self.flushes += other.flushes;
        self.cuts += other.cuts;
        self.states += other.states;
        self.nested += other.nested;
        self.futures += other.futures;
        self.found.extend(other.found.iter().cloned());
        other.ended.iter().for_each(|(end, count)| *self.ended.entry(end.clone()).or_default() += count);
    }

    /// How many states ended like this.
    pub fn ended(&self, end: &str) -> u64 {
        self.ended.get(end).copied().unwrap_or(0)
    }
}

/// Cuts of one recording that are judged.
const CUTS: usize = 120;
/// Cuts of one recovery.
const NESTED_CUTS: usize = 8;
/// How often the power fails in a row, at most.
const DEPTH: u32 = 3;

/// One worker with its machine.
pub struct Hunt {
    /// The machine.
    pub machine: Machine,
    /// What it does.
    pub orders: Orders,
    empty: Option<Image>,
    starts: HashMap<(String, Start), Image>,
    tally: Tally,
    end: Instant,
}

/// What is being judged, so that a violation can tell.
struct Subject<'a> {
    update: &'a Update,
    name: &'a str,
}

impl Hunt {
    /// Makes the machine; the error says what the host lacks.
    pub fn new(orders: Orders) -> Result<Self, String> {
        let machine = Machine::new(orders.room_mib)?;
        let end = Instant::now() + orders.time;
        Ok(Self { machine, orders, empty: None, starts: HashMap::new(), tally: Tally::default(), end })
    }

    /// Hunts until the time is over, or until there is enough.
    pub fn run(mut self) -> Result<Tally, String> {
        let Orders { acts, updates, seed, worker, file_system, .. } = self.orders.clone();
        for round in 0.. {
            if self.is_over() {
                break;
            }
            let mut dice = dice(&[seed, worker, round]);
            let of = |count: usize, number: u64| (number % count.max(1) as u64) as usize;
            let (Some(act), Some(update)) =
                (acts.get(of(acts.len(), round + worker)), updates.get(of(updates.len(), dice.roll())))
            else {
                break;
            };
            let recording = self.record_act(update, *act, &mut dice)?;
            let name = format!("{}.{}.{}.s{seed}.w{worker}.r{round}", file_system.name, update.name, act.name());
            self.explore(&Subject { update, name: &name }, &recording, CUTS, 1, dice.roll())?;
        }
        Ok(self.tally)
    }

    /// Is the time over, or enough found?
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.tally.found.len() as u64 >= self.orders.enough
    }

    /// Records an act.
    fn record_act(&mut self, update: &Update, act: Act, dice: &mut Dice) -> Result<Recording, String> {
        let start = self.start(update, act.start())?;
        let few = update.new.paths() < 100;
        let manner = Manner {
            delay_us: [100, 400, 1000][dice.below(3) as usize] / if few { 1 } else { 4 },
            ignored: self.orders.ignored.clone(),
            killed: None,
        };
        let stirrer = dice.clone();
        self.record(&start, stirrer.0, |machine| {
            let done = perform(act, machine, update, &manner, dice);
            done.map_err(|error| format!("{} {}: {error}", update.name, act.name()))
        })
    }

    /// Records whatever is done on a mounted disk, while somebody else writes there.
    pub fn record(
        &mut self,
        start: &Image,
        seed: u64,
        mut what: impl FnMut(&Machine) -> Result<(), String>,
    ) -> Result<Recording, String> {
        for _ in 0..3 {
            self.machine.load(start.clone())?;
            self.machine.mount(self.orders.file_system)?;
            let directory = self.machine.mount_point().join("stir");
            let stirrer = (!self.orders.alone).then(|| Stirrer::new(directory, Dice(seed)));
            self.machine.disk.record();
            let done = what(&self.machine);
            let recording = self.machine.disk.recorded();
            drop(stirrer);
            done.map_err(|error| format!("{}: {error}", self.orders.file_system.name))?;
            self.machine.unmount()?;
            let Some(recording) = recording else {
                self.tally.refused += 1;
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
        let mut dice = dice(&[seed]);
        for (number, cut) in recording.cuts(&Budget { seed, most }).iter().enumerate() {
            if self.is_over() {
                return Ok(());
            }
            self.tally.cuts += 1;
            let (_, hash) = recording.image(cut);
            if !seen.insert((hash, promise(recording.mark(cut)))) {
                continue;
            }
            self.tally.states += 1;
            self.tally.nested += u64::from(depth > 1);
            let question = Question::number(dice.roll());
            let nests = depth < DEPTH && dice.below(16) == 0;
            match self.judge(subject.update, recording, cut, question, nests) {
                Ok(Some(inner)) => {
                    let name = format!("{}.n{number}", subject.name);
                    let subject = Subject { name: &name, ..*subject };
                    self.explore(&subject, &inner, NESTED_CUTS, depth + 1, dice.roll())?;
                }
                Ok(None) => {}
                Err(message) => {
                    self.tally.found.push(Found { state: format!("{}.c{cut}", subject.name), message });
                    self.keep(subject, recording)?;
                }
            }
        }
        Ok(())
    }

    /// Judges one state; gives what its recovery did, if that was asked for.
    fn judge(
        &mut self,
        update: &Update,
        recording: &Recording,
        cut: &Cut,
        question: Question,
        record: bool,
    ) -> Result<Option<Recording>, String> {
        let promise = promise(recording.mark(cut));
        let (image, _) = recording.image(cut);
        let judged = judge(&mut self.machine, self.orders.file_system, update, image, promise, question, record);
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

    /// The disk before an act.
    pub fn start(&mut self, update: &Update, start: Start) -> Result<Image, String> {
        let key = (update.name.clone(), start);
        if let Some(image) = self.starts.get(&key) {
            return Ok(image.clone());
        }
        let empty = match self.empty.clone() {
            Some(image) => image,
            None => self.empty.insert(self.machine.format(self.orders.file_system)?).clone(),
        };
        self.machine.load(empty)?;
        self.machine.mount(self.orders.file_system)?;
        let root = self.machine.root();
        fs::create_dir(&root).map_err(at(&root))?;
        (update.build)(&root)?;
        if start != Start::Plain {
            (update.take)(&root)?;
        }
        if start == Start::Updated {
            apply(&update.program, &root, &update.package)?;
        }
        self.machine.unmount()?;
        let mut image = self.machine.disk.image();
        image.settle();
        self.starts.insert(key, image.clone());
        Ok(image)
    }

    /// Keeps what is needed to judge these states again, in the format of `dm-log-writes`.
    fn keep(&self, subject: &Subject<'_>, recording: &Recording) -> Result<(), String> {
        let Some(kept) = &self.orders.kept else { return Ok(()) };
        let directory = kept.join(subject.name);
        let wrong = at(&directory);
        fs::create_dir_all(&directory).map_err(&wrong)?;
        let bytes = self.machine.disk.bytes();
        let image = fs::File::create(directory.join("image")).map_err(&wrong)?;
        recording.base.write_to(BufWriter::new(image), bytes).map_err(&wrong)?;
        let log = fs::File::create(directory.join("log")).map_err(&wrong)?;
        recording.write_to(BufWriter::new(log)).map_err(&wrong)
    }

    /// Judges a state that was kept once more, with every question. Gives what is wrong with it.
    pub fn replay(&mut self, update: &Update, state: &str) -> Result<Vec<String>, String> {
        let kept = self.orders.kept.clone().ok_or("nothing is kept")?;
        let (name, cut) = state.rsplit_once(".c").ok_or_else(|| format!("{state} names no state"))?;
        let cut: Cut = cut.parse()?;
        let recording = read(&kept.join(name)).map_err(|error| format!("{name}: {error}"))?;
        let mut judge = |question| self.judge(update, &recording, &cut, question, false).err();
        Ok((0..4).filter_map(|number| judge(Question::number(number))).collect())
    }
}

/// A generator for each list of numbers.
fn dice(seeds: &[u64]) -> Dice {
    seeds.iter().fold(Dice(0x5eed), |mut dice, seed| Dice(dice.roll() ^ seed))
}

fn read(directory: &Path) -> std::io::Result<Recording> {
    let base = Image::read_from(BufReader::new(fs::File::open(directory.join("image"))?))?;
    Recording::read_from(base, BufReader::new(fs::File::open(directory.join("log"))?))
}
