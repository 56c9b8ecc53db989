//! `crashtest`: runs a package through every crash point of a simulated disk.

mod drawing;
mod page;
mod real;

use crate::cli::args::Crashtest;
use crate::cli::files::{Draft, failed, open_package};
use crate::cli::output::{Output, bytes};
use crate::cli::progress::Meter;
use crate::crashtest::{Act, After, Before, Case, Exploration, Promise, Scenario, Violation};
use crate::device::{Engine, Generation, read_sources};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Digest, Finding, Manifest, ManifestChange, TreePath};
use crate::package::{self, Package, Start};
use crate::tree::{self, Depth, Walk};
use crate::vfs::sim::{Budget, Faults, Profile, SimVfs};
use crate::vfs::{Access, OsVfs, Vfs};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{Read, Write as _};

/// The version of a base that a full package is applied to.
const BASE_VERSION: &str = "0.0.0";

/// What is tested, and how far.
#[derive(Serialize)]
struct Tested {
    package: String,
    base: String,
    from: String,
    to: String,
    /// Entries of the base.
    entries: usize,
    /// Paths of it that the simulated disk holds.
    touched: usize,
    seed: u64,
    ignored_sync: Option<u64>,
}

/// One act on one kind of disk, in numbers.
#[derive(Serialize)]
struct Counted {
    disk: String,
    act: Act,
    moments: u64,
    crash_points: u64,
    choices: u64,
    states: u64,
    judged: u64,
    distinct: u64,
    recovered: u64,
    exhaustive: bool,
    before: CountedBefore,
    after: CountedAfter,
}

#[derive(Serialize)]
struct CountedBefore {
    old: u64,
    mixed: u64,
    damaged: u64,
    new: u64,
}

#[derive(Serialize)]
struct CountedAfter {
    old: u64,
    new: u64,
    violation: u64,
}

#[derive(Serialize)]
struct Broken<'a> {
    disk: &'a str,
    act: Act,
    #[serde(flatten)]
    violation: &'a Violation,
}

#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    tested: Tested,
    moments: u64,
    crash_points: u64,
    choices: u64,
    states: u64,
    judged: u64,
    distinct: u64,
    mixed_before: u64,
    exhaustive: bool,
}

pub(super) fn run(asked: &Crashtest, output: &Output) -> Result<(), Error> {
    let chosen = choose(asked, output)?;
    if !asked.real.is_empty() {
        return real::run(asked, chosen, output);
    }
    let (scenario, tested, cost) = prepare(asked, chosen)?;
    let profiles = if asked.profile.is_empty() {
        Profile::ATOMIC.to_vec()
    } else {
        asked.profile.iter().map(|profile| Profile::from(*profile)).collect()
    };
    let exploration = Exploration {
        profiles,
        seed: asked.seed,
        budget: Budget { seed: asked.seed, ..Budget::default() },
        most_states: asked.max_states.unwrap_or(AFFORDED / cost),
        faults: asked.ignore_sync.map_or_else(Faults::none, |sync| Faults::none().ignore_sync(sync)),
    };
    let cases = exploration.explore(&scenario, &|case| {
        output.message(format_args!("{}: {}: {} states", case.disk, case.act, case.tally.judged));
    });
    if let Some(path) = &asked.html {
        let mut draft = Draft::create(path)?;
        let page = drawing::page(&tested, &cases);
        draft.file()?.write_all(page.as_bytes()).map_err(|error| failed("write", path, error))?;
        draft.complete()?;
    }
    tell(tested, &cases, output)
}

/// What one run and its judgement cost, about, in units of a small update; and what is afforded if nobody says.
const AFFORDED: u64 = 500_000;

/// A package and a base, and what the one touches of the other.
struct Chosen {
    base: OsVfs,
    old: Manifest,
    /// What it becomes, if the package fits it.
    new: Option<Manifest>,
    /// The digest of that.
    target: Digest,
    from: String,
    to: String,
    paths: BTreeSet<TreePath>,
    /// Bytes of these paths, before and after.
    size: u64,
}

fn choose(asked: &Crashtest, output: &Output) -> Result<Chosen, Error> {
    let package = Package::open(open_package(&asked.package)?)?.accept_unsigned()?;
    let promise = package.promise().clone();
    drop(package);
    let base = OsVfs::open_tree(&asked.base)?;
    let meter = Meter::new(output);
    let how = Walk { policy: promise.head().policy, state_inside: true };
    let old = tree::scan(&base, &how, &meter.check())?;
    drop(meter);
    let (from, new) = match &promise.head().start {
        Start::Anything => (BASE_VERSION.to_owned(), promise.manifest()),
        Start::Base { version, .. } => {
            let changes = promise.changes().iter();
            let changes =
                changes.map(|change| ManifestChange { path: change.path.clone(), after: change.node().cloned() });
            // Whether it fits this tree is for the engine to say.
            (version.clone(), old.clone().with(changes).ok())
        }
    };
    let mut paths: BTreeSet<TreePath> = BTreeSet::new();
    if promise.head().start != Start::Anything {
        let package = Package::open(open_package(&asked.package)?)?.accept_unsigned()?;
        paths.extend(read_sources(package, &old)?);
    }
    if let Some(new) = &new {
        paths.extend(tree::changes(&old, new).into_iter().map(|change| change.path));
    }
    for change in promise.changes() {
        if !matches!(promise.head().start, Start::Anything) {
            paths.insert(change.path.clone());
        }
        // What a content is taken from is needed, changed or not, and so is the file that a new name joins.
        match change.source() {
            Some(package::Source::Base(path)) => drop(paths.insert(path.clone())),
            Some(package::Source::Change(earlier)) => drop(paths.insert(promise.changes()[*earlier].path.clone())),
            _ => {}
        }
        if let Some(leader) = change.node().and_then(|node| node.leader.as_ref()) {
            paths.insert(leader.clone());
        }
    }
    tree::add_what_belongs(&mut paths, &old);
    let held =
        |tree: &Manifest| -> u64 { paths.iter().filter_map(|path| tree.get(path)).map(|node| node.kind.size()).sum() };
    let size = held(&old) + new.as_ref().map_or(0, held);
    let (target, to) = (promise.head().target, promise.head().to.clone());
    Ok(Chosen { base, old, new, target, from, to, paths, size })
}

/// The scenario on a simulated disk: only what the package touches is copied.
fn prepare(asked: &Crashtest, chosen: Chosen) -> Result<(Scenario, Tested, u64), Error> {
    let Chosen { base, old, new, target, from, to, paths, size } = chosen;
    if size > limits::CRASHTEST_BYTES {
        let most = bytes(limits::CRASHTEST_BYTES);
        let what = format!("the package touches {}, and a crash test takes at most {most}", bytes(size));
        return Err(Error::new(Code::Limit, what));
    }
    let disk = SimVfs::new();
    tree::copy(&disk, &old, &paths, &|at| {
        tree::copy_bytes((&base, &base.open(at, Access::Read)?), (&disk, &disk.create(at)?))
    })?;
    let file = asked.package.clone();
    let open = move || {
        let file = std::fs::File::open(&file)?;
        Ok(Box::new(std::io::BufReader::with_capacity(limits::COPY_BUFFER, file)) as Box<dyn Read>)
    };
    let scenario = Scenario::new(&disk, &from, &old, open)?;
    if new.is_some() {
        require_new(&scenario, target, &paths)?;
    }
    let tested = Tested {
        package: asked.package.display().to_string(),
        base: asked.base.display().to_string(),
        from,
        to,
        entries: old.entries().len(),
        touched: paths.len(),
        seed: asked.seed,
        ignored_sync: asked.ignore_sync,
    };
    let cost = 1 + paths.len() as u64 / 20 + old.entries().len() as u64 / 500 + size / (1 << 20);
    Ok((scenario, tested, cost))
}

/// Without a crash, the tree must become what the package promises.
fn require_new(scenario: &Scenario, target: Digest, paths: &BTreeSet<TreePath>) -> Result<(), Error> {
    let disk = scenario.disk.fork();
    match scenario.perform(Act::Apply, &disk) {
        (Promise::New, None) => {}
        (_, Some(error)) => return Err(error),
        (promise, None) => return Err(Error::new(Code::Internal, format!("an update that promises {promise:?}"))),
    }
    require_promised(&disk, Engine::open(disk.clone())?.expected()?, target, paths)
}

/// What is recorded must be what the package promises, and the tree what is recorded.
fn require_promised(
    vfs: &impl Vfs,
    (generation, new): (Generation, Manifest),
    target: Digest,
    paths: &BTreeSet<TreePath>,
) -> Result<(), Error> {
    if generation.digest != Some(target) {
        return Err(Error::new(Code::Violation, "the tree that is recorded is not the one that the package promises"));
    }
    let paths: Vec<TreePath> = paths.iter().cloned().collect();
    let findings: Vec<Finding> = tree::verify(vfs, &new, false, Depth::Touched(&paths), &|_, _| ())?.findings;
    if findings.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::Violation, "the tree is not what the package promises, even without a crash")
        .listing(findings))
}

impl Counted {
    fn of(case: &Case) -> Self {
        let tally = case.tally;
        let was = |wanted: Before| case.count(|before, _| before == wanted);
        let is = |wanted: After| case.count(|_, after| after == wanted);
        Self {
            disk: case.disk.clone(),
            act: case.act,
            moments: tally.moments,
            crash_points: tally.crash_points,
            choices: tally.choices,
            states: tally.states,
            judged: tally.judged,
            distinct: tally.distinct,
            recovered: case.recovered,
            exhaustive: tally.is_exhaustive(),
            before: CountedBefore {
                old: was(Before::Old),
                mixed: was(Before::Mixed),
                damaged: was(Before::Damaged),
                new: was(Before::New),
            },
            after: CountedAfter { old: is(After::Old), new: is(After::New), violation: is(After::Violation) },
        }
    }
}

/// Tells what came of it; an error if a promise was broken.
fn tell(tested: Tested, cases: &[Case], output: &Output) -> Result<(), Error> {
    output.line(format_args!(
        "{}: {} -> {} on {}, seed {}: {} of {} entries are on the simulated disk",
        tested.package, tested.from, tested.to, tested.base, tested.seed, tested.touched, tested.entries
    ));
    if let Some(sync) = tested.ignored_sync {
        output.line(format_args!("the disk ignores sync {sync}"));
    }
    output.line(format_args!(
        "{:<10} {:>12} {:>10} {:>10} {:>10} {:>8} {:>8} {:>10}",
        "profile", "crash points", "states", "judged", "mixed", "old", "new", "violations"
    ));
    let mut total = crate::crashtest::Tally::default();
    let (mut mixed, mut violations) = (0, 0);
    for disk in cases.chunk_by(|a, b| a.disk == b.disk) {
        let mut tally = crate::crashtest::Tally::default();
        disk.iter().for_each(|case| tally += case.tally);
        let count = |is: &dyn Fn(Before, After) -> bool| disk.iter().map(|case| case.count(is)).sum::<u64>();
        let mixed_here = count(&|before, _| matches!(before, Before::Mixed | Before::Damaged));
        let bad = count(&|_, after| after == After::Violation);
        output.line(format_args!(
            "{:<10} {:>12} {:>10} {:>10} {:>10} {:>8} {:>8} {:>10}",
            disk.first().map_or("", |case| case.disk.as_str()),
            tally.crash_points,
            tally.states,
            tally.judged,
            mixed_here,
            count(&|_, after| after == After::Old),
            count(&|_, after| after == After::New),
            bad
        ));
        total += tally;
        mixed += mixed_here;
        violations += bad;
    }
    for case in cases {
        output.item("case", &Counted::of(case));
    }
    for case in cases {
        let Some(violation) = &case.violation else { continue };
        output.item("violation", &Broken { disk: &case.disk, act: case.act, violation });
        let first = violation.message.lines().next().unwrap_or_default();
        output.line(format_args!("{} violations in {}: {}: {first}", case.violations(), case.disk, case.act));
    }
    let shortest = cases
        .iter()
        .filter(|case| case.violation.is_some())
        .min_by_key(|case| case.violation.as_ref().map(|violation| (violation.effects.len(), violation.calls.len())));
    if let Some((case, violation)) = shortest.and_then(|case| Some((case, case.violation.as_ref()?))) {
        output.line(format_args!("\nthe shortest, {}:\n{}", case.act, violation));
    }
    let exhaustive = total.is_exhaustive();
    output.line(if exhaustive {
        format!("every call was a crash point, with every state of the model: {} states", total.states)
    } else {
        format!(
            "a sample: {} of {} crash points, and {} of the {} states that the model gives for these",
            total.crash_points, total.moments, total.states, total.choices
        )
    });
    if violations > 0 {
        return Err(Error::new(Code::Violation, format!("{violations} states break a promise")));
    }
    output.line(format_args!("{mixed} states were mixed before recovery, none after it"));
    output.result(&Summary {
        tested,
        moments: total.moments,
        crash_points: total.crash_points,
        choices: total.choices,
        states: total.states,
        judged: total.judged,
        distinct: total.distinct,
        mixed_before: mixed,
        exhaustive,
    });
    Ok(())
}
