//! Decisions that no sweep tells apart from others: a small test for each.

use super::oracle::{ACTS, Act, Promise, judge, perform, recover};
use super::workload::{Prepared, WORKLOADS, Workload};
use super::{options, seed};
use surefoot::codec::{self, frame::Header};
use surefoot::crashtest::Explorer;
use surefoot::device::{Change, Config, Engine, NoPayload, Request, Settings, Source, Tree, peek};
use surefoot::error::{Code, Error};
use surefoot::model::{Digest, Kind, Metadata, Node, Policy, Time, TreePath};
use surefoot::transaction::{Input, Outcome, Plan, Record, Recovery, State, Work, cut};
use surefoot::vfs::sim::{Budget, Errno, Faults, Options, Profile, Repeat, When};
use surefoot::vfs::{Access, Place, SimVfs, Vfs};

fn posix(name: &str) -> Prepared {
    let workload = WORKLOADS.iter().find(|workload| workload.name == name).unwrap();
    Prepared::new(workload, options(Profile::Posix))
}

fn apply(prepared: &Prepared, disk: &SimVfs) -> Result<(), Error> {
    prepared.apply(&mut Engine::open(disk.clone())?, Settings::default())
}

/// Every disk that a cut of an update may leave while steps are taken.
fn applying(prepared: &Prepared) -> Vec<SimVfs> {
    let whole = prepared.disk.fork();
    apply(prepared, &whole).unwrap();
    let mut out = Vec::new();
    for crash_at in 0..whole.calls() {
        let cut = prepared.disk.fork();
        cut.crash_at(crash_at);
        let _ = apply(prepared, &cut);
        let (images, _) = cut.crash_images(&Budget::sample(4, seed()));
        let disks = images.iter().map(surefoot::vfs::sim::Image::mount);
        out.extend(disks.filter(|disk| peek(disk).unwrap().0.state == "applying"));
    }
    assert!(out.len() > 4, "{}", out.len());
    out
}

/// Files of the state directory with this in their names that the update has made.
fn made(prepared: &Prepared, disk: &SimVfs, name: &str) -> Vec<String> {
    let before = prepared.disk.state_listing();
    let made = disk.state_listing().into_iter().filter(|path| path.contains(name) && !before.contains(path));
    made.map(|path| if path.starts_with(".surefoot") { path } else { format!(".surefoot/{path}") })
        .filter(|path| disk.read_file(path).is_some())
        .collect()
}

/// Recovery stops with this code and changes nothing of the tree.
fn stops(disk: &SimVfs, code: &str) {
    let before = disk.snapshot();
    let message = recover(disk).expect_err(code);
    assert!(message.contains(code), "{message}");
    assert!(disk.snapshot() == before, "stopped, but changed the tree");
}

#[test]
fn an_update_without_a_trial_never_waits_for_a_decision() {
    let prepared = posix("removal first");
    for act in [Act::Apply, Act::Undo] {
        Explorer::on(prepared.disk.fork())
            .budget(Budget::sample(4, seed()))
            .run(|disk| perform(act, &prepared, disk).0)
            .judge(|disk, _| match recover(disk)?.state {
                "idle" => Ok(()),
                state => Err(format!("it is {state}")),
            })
            .unwrap_or_else(|violation| panic!("{act:?}: {violation}"));
    }
}

#[test]
fn recovery_says_what_it_has_done() {
    let prepared = posix("removal first");
    for act in ACTS.into_iter().filter(|act| *act != Act::Undo) {
        let judged = |disk: &SimVfs, _: &Promise| {
            let told = |error: Error| error.to_string();
            let mut engine = Engine::open(disk.clone()).map_err(told)?;
            let found = engine.status().map_err(told)?.state;
            let recovered = engine.recover(&()).map_err(told)?;
            let tree = prepared.snapshot(disk);
            let (is_new, version) = (tree == prepared.new, recovered.version.as_str());
            let agrees = match recovered.outcome {
                Some(Outcome::Kept) => is_new && version == "2.0.0",
                Some(Outcome::Restored) => tree == prepared.old && version == "1.0.0" && found != "preparing",
                Some(Outcome::Abandoned) => tree == prepared.old && matches!(found, "preparing" | "closing"),
                None => recovered.trial == (is_new && version == "1.0.0"),
            };
            if agrees { Ok(()) } else { Err(format!("found {found}: {recovered:?}")) }
        };
        Explorer::on(prepared.disk.fork())
            .budget(Budget::sample(4, seed()))
            .run(|disk| perform(act, &prepared, disk).0)
            .judge(judged)
            .unwrap_or_else(|violation| panic!("{act:?}: {violation}"));
    }
}

/// Few of many paths change, so the new manifest is written as changes to the old one.
const FEW: Workload = Workload {
    name: "few of many",
    old: |d| {
        kept(d);
        _ = d.write_file("a", "gone").write_file("b", "old b").write_file("c", "old c").make_dir("d").touch("d", 30);
        d.touch("", 40);
    },
    new: |d| {
        kept(d);
        _ = d.write_file("b", "new b").write_file("d/new", "new").touch("d", 30).write_file("c", "new c");
        d.touch("", 40);
    },
    policy: Policy { owner: false, mtime: false },
};

fn kept(disk: &SimVfs) {
    for n in 0..20 {
        disk.write_file(&format!("k/{n}"), "kept");
    }
}

/// Without its plan a transaction is given up if no step was taken, and refused if one was: a record tells, or the tree.
#[test]
fn a_plan_that_is_gone_is_missed_only_by_who_followed_it() {
    let (mut given_up, mut told_by_record, mut told_by_tree) = (0, 0, 0);
    let timed = Workload { policy: Policy { owner: false, mtime: true }, ..FEW };
    let prepared = [&FEW, &timed].map(|workload| Prepared::new(workload, options(Profile::Posix)));
    for prepared in prepared.into_iter().chain([posix("times count")]) {
        for disk in applying(&prepared) {
            for plan in made(&prepared, &disk, "/plan") {
                disk.remove_all(&plan);
            }
            let records = peek(&disk).unwrap().1.len();
            let untouched = prepared.snapshot(&disk) == prepared.old;
            if records > 2 {
                stops(&disk, "journal.damaged");
                told_by_record += 1;
            } else if untouched {
                recover(&disk).unwrap();
                assert!(prepared.snapshot(&disk) == prepared.old);
                given_up += 1;
            } else if !prepared.snapshot(&disk).paths().contains(&"d/a".to_owned()) {
                stops(&disk, "journal.damaged");
                told_by_tree += 1;
            }
        }
    }
    println!("without its plan: {given_up} given up, {told_by_record} and {told_by_tree} refused, seed {}", seed());
    assert!(given_up > 2 && told_by_record > 2 && told_by_tree > 0, "{given_up} {told_by_record} {told_by_tree}");
}

#[test]
fn the_plan_of_another_transaction_is_not_followed() {
    let prepared = posix("removal first");
    let mut tried = 0;
    for disk in applying(&prepared) {
        let (_, records) = peek(&disk).unwrap();
        let [_, Record::Prepared { steps, .. }] = records[..] else { continue };
        let path = made(&prepared, &disk, "/plan").remove(0);
        let mut plan = Plan::decode(&disk.read_file(&path).unwrap()).unwrap();
        for lie in 0..2 {
            let disk = disk.fork();
            let steps = if lie == 0 { steps } else { steps + 1 };
            plan.transaction[0] ^= u8::from(lie == 0);
            let (bytes, digest) = plan.encode();
            plan.transaction[0] ^= u8::from(lie == 0);
            disk.remove_all(&path).write_file(&path, &bytes);
            let journal = disk.read_file(".surefoot/journal").unwrap();
            let headers = [&journal[..4096], &journal[4096..8192]].into_iter().filter_map(Header::decode);
            let header = headers.max_by_key(|header| header.epoch).unwrap();
            let at = usize::try_from(header.frame_offset(1)).unwrap();
            let frame = header.decode_frame(1, &journal[at..at + 4096]).unwrap();
            let record = Record::Prepared { plan: digest.0, plan_size: bytes.len() as u64, steps };
            let (forged, _) = header.encode_frame(1, frame.previous, frame.durable, &codec::encode(&record));
            let file = disk.open(&place(".surefoot/journal"), Access::Write).unwrap();
            disk.write_at(&file, at as u64, &forged).unwrap();
            drop(file);
            stops(&disk.reboot_clean(), "journal.damaged");
            tried += 1;
        }
    }
    assert!(tried > 0);
}

#[test]
fn a_generation_that_cannot_be_recorded_is_not_gone_forward_to() {
    let prepared = posix("removal first");
    let mut tried = 0;
    for disk in applying(&prepared) {
        let files = made(&prepared, &disk, "/state").into_iter().chain(made(&prepared, &disk, "manifests/"));
        for path in files {
            for gone in [true, false] {
                let disk = disk.fork();
                disk.remove_all(&path);
                if !gone {
                    disk.write_file(&path, "rot");
                }
                recover(&disk).unwrap();
                assert!(prepared.snapshot(&disk) == prepared.old, "{path}");
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried}");
}

/// Two things of the store are gone: whoever finds no way forward looks whether there is one back before he turns.
#[test]
fn what_is_lost_and_what_is_missing_together_stop_recovery() {
    let (mut stopped, mut back) = (0, 0);
    for name in ["removal first", "rename chain and swap"] {
        let prepared = posix(name);
        for disk in applying(&prepared) {
            let slots = made(&prepared, &disk, "slots/");
            for (number, first) in slots.iter().enumerate() {
                for second in &slots[number..] {
                    let disk = disk.fork();
                    disk.remove_all(first);
                    if second != first {
                        disk.remove_all(second);
                    }
                    let before = prepared.snapshot(&disk);
                    match Engine::open(disk.clone()).unwrap().recover(&()) {
                        Ok(recovered) => {
                            let tree = prepared.snapshot(&disk);
                            assert!(tree == prepared.old || tree == prepared.new, "{name}: {first} {second}");
                            if tree == prepared.old {
                                assert!(recovered.cause.unwrap().starts_with("recovery.unstaged"), "{name}");
                                back += 1;
                            }
                        }
                        Err(error) => {
                            assert_eq!(error.code(), Code::Stuck, "{name}: {error:?}");
                            assert!(prepared.snapshot(&disk) == before, "{name}: {first} {second}");
                            stopped += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(stopped > 2 && back > 2, "{stopped} {back}");
}

#[test]
fn nothing_is_told_of_a_tree_that_is_not_under_care() {
    assert_eq!(peek(&SimVfs::new()).unwrap_err().code(), Code::NotInitialised);
    let disk = SimVfs::new();
    Engine::init(disk.clone(), Config::default(), "1", None).unwrap();
    assert!(peek(&disk).is_ok());
    disk.remove_all(".surefoot/journal");
    assert_eq!(peek(&disk).unwrap_err().code(), Code::NotInitialised);
}

/// The record of the direction has rotted after steps were taken back: what was taken back shows it, with and without
/// exchange, and recovery goes on back. Where none was taken, the trial goes on. Metadata set in place show nothing: they
/// may have been set by somebody else.
#[test]
fn a_direction_that_has_rotted_is_shown_by_what_was_taken_back() {
    for (name, exchange) in [("removal first", true), ("removal first", false), ("removal last", false)] {
        let workload = WORKLOADS.iter().find(|workload| workload.name == name).unwrap();
        let prepared = Prepared::new(workload, Options { exchange, ..options(Profile::Posix) });
        let settings = Settings { trial: true, attempts: 5, ..Settings::default() };
        let trial = prepared.disk.fork();
        prepared.apply(&mut Engine::open(trial.clone()).unwrap(), settings).unwrap();
        let reject = |disk: &SimVfs| Engine::open(disk.clone())?.rollback(&()).map(drop);
        let whole = trial.fork();
        reject(&whole).unwrap();
        let (mut back, mut on) = (0, 0);
        for crash_at in 0..whole.calls() {
            let cut = trial.fork();
            cut.crash_at(crash_at);
            let _ = reject(&cut);
            let disk = cut.reboot_clean();
            let (_, records) = peek(&disk).unwrap();
            let [.., Record::Revert { .. }] = records[..] else { continue };
            let journal = disk.read_file(".surefoot/journal").unwrap();
            let headers = [&journal[..4096], &journal[4096..8192]].into_iter().filter_map(Header::decode);
            let header = headers.max_by_key(|header| header.epoch).unwrap();
            let last = header.frame_offset(u32::try_from(records.len()).unwrap() - 1);
            let file = disk.open(&place(".surefoot/journal"), Access::Write).unwrap();
            disk.write_at(&file, last, &[0; 4096]).unwrap();
            drop(file);
            let mixed = prepared.snapshot(&disk) != prepared.new;
            let recovered = Engine::open(disk.clone()).unwrap().recover(&()).unwrap();
            if mixed {
                assert!(recovered.cause.unwrap().starts_with("recovery.direction-lost"), "{name}, call {crash_at}");
                assert!(prepared.snapshot(&disk) == prepared.old, "{name}, exchange {exchange}, call {crash_at}");
                back += 1;
            } else {
                assert!(recovered.trial && prepared.snapshot(&disk) == prepared.new, "{name}, call {crash_at}");
                on += 1;
            }
        }
        println!("{name}, exchange {exchange}: {back} went on back, {on} stayed on trial");
        assert!(back > 1 && on > 0, "{name}, exchange {exchange}: {back} {on}");
    }
}

/// Steps of a trial were taken back, the record of the direction has rotted, and somebody has changed what is left.
#[test]
fn a_lost_direction_is_not_followed_where_it_cannot_be() {
    let disk = SimVfs::new();
    disk.write_file("gone", b"gone").write_file("kept", b"kept");
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().trial(2).remove("gone").put("kept", &b"new"[..]).commit().unwrap();
    drop(tree);
    let slots = disk.state_listing();
    let slot = slots.iter().find(|path| disk.read_file(&format!(".surefoot/{path}")).as_deref() == Some(b"gone"));
    disk.remove_all(&format!(".surefoot/{}", slot.unwrap())).write_file("gone", b"gone").write_file("kept", b"mine");
    stops(&disk.reboot_clean(), "tree.stuck");
}

/// One process goes on after an error: what it was asked for next happens or does not, and so does what it recovers.
#[test]
fn a_process_that_met_an_error_goes_on_with_what_is_true() {
    for (name, trial) in
        [("removal first", false), ("removal first", true), ("times count", false), ("mode only", true)]
    {
        let prepared = posix(name);
        let settings = Settings { trial, ..Settings::default() };
        let act = |engine: &mut Engine<SimVfs>| {
            prepared.apply(engine, settings.clone())?;
            if trial { engine.rollback(&()).map(drop) } else { Ok(()) }
        };
        let whole = prepared.disk.fork();
        act(&mut Engine::open(whole.clone()).unwrap()).unwrap();
        for number in 0..whole.all_calls() {
            for (when, next) in [(When::Before, 0), (When::Before, 1), (When::After, 0), (When::After, 2)] {
                let context = format!("{name}, trial {trial}, call {number} {when:?}, then {next}");
                let disk = prepared.disk.fork();
                disk.set_faults(Faults::none().fail_call(number, Errno::IO, when, Repeat::OneShot));
                let Ok(mut engine) = Engine::open(disk.clone()) else { continue };
                match act(&mut engine) {
                    Err(error) if error.code() != Code::SyncFailed => {}
                    _ => continue,
                }
                // Without recovery it must refuse, or know what it does.
                let done = match next {
                    0 => false,
                    1 => prepared.apply(&mut engine, Settings::default()).is_ok(),
                    _ => engine.confirm(&()).is_ok(),
                };
                engine.recover(&()).unwrap_or_else(|error| panic!("{context}: {error:?}"));
                let state = engine.status().unwrap().state;
                let tree = prepared.snapshot(&disk);
                let settled = tree == prepared.new || tree == prepared.old && !done && state == "idle";
                assert!(settled, "{context}: {state}: {:?}", tree.difference(&prepared.new));
                if !done && state == "idle" && tree == prepared.old {
                    prepared
                        .apply(&mut engine, Settings::default())
                        .unwrap_or_else(|error| panic!("{context}: {error:?}"));
                    assert!(prepared.snapshot(&disk) == prepared.new, "{context}");
                }
                drop(engine);
                judge(&prepared, &disk.reboot_clean(), Promise::Nothing)
                    .unwrap_or_else(|error| panic!("{context}: {error}"));
            }
        }
    }
}

/// Whoever has mounted the file system anew may say so, and then it is believed.
#[test]
fn a_failed_sync_is_forgotten_on_request() {
    let prepared = posix("removal first");
    let whole = prepared.disk.fork();
    apply(&prepared, &whole).unwrap();
    for number in prepared.disk.syncs()..whole.syncs() {
        let disk = prepared.disk.fork();
        disk.set_faults(Faults::none().fail_sync(number));
        assert_eq!(apply(&prepared, &disk).unwrap_err().code(), Code::SyncFailed);
        disk.set_faults(Faults::none());
        assert!(recover(&disk).unwrap_err().contains("apply.sync-failed"));
        Engine::open(disk.clone()).unwrap().forget_poison().unwrap();
        recover(&disk).unwrap();
    }
}

/// An undo plan that is not what it was is not followed, whatever is wrong with it.
#[test]
fn undo_data_that_make_no_sense_are_refused() {
    let prepared = posix("removal first");
    apply(&prepared, &prepared.disk).unwrap();
    let path = prepared.disk.state_listing().into_iter().find(|path| path.ends_with("/plan")).unwrap();
    let path = format!(".surefoot/{path}");
    let bytes = prepared.disk.read_file(&path).unwrap();
    let plan = Plan::decode(&bytes).unwrap();
    let mut magic = bytes.clone();
    magic[0] ^= 1;
    let changed = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        plan.encode().0
    };
    let roots = changed(&|plan| plan.steps[0].root = surefoot::limits::ROOTS);
    let nothing = changed(&|plan| (plan.steps[0].before, plan.steps[0].after) = (None, None));
    for (what, bytes) in [("magic", magic), ("root", roots), ("a step from nothing to nothing", nothing)] {
        let disk = prepared.disk.fork();
        disk.remove_all(&path).write_file(&path, bytes);
        let error = Engine::open(disk.clone()).unwrap().rollback(&()).unwrap_err();
        assert_eq!(error.code(), Code::Format, "{what}: {error:?}");
        assert!(prepared.snapshot(&disk) == prepared.new, "{what}");
    }
    // The generation before is gone, or stands where another one should.
    let states: Vec<String> = prepared
        .disk
        .state_listing()
        .into_iter()
        .filter(|path| path.ends_with("/state"))
        .map(|path| format!(".surefoot/{path}"))
        .collect();
    let current = path.replace("/plan", "/state");
    let parent = states.iter().find(|path| **path != current).unwrap();
    let disk = prepared.disk.fork();
    disk.remove_all(parent);
    let error = Engine::open(disk.clone()).unwrap().rollback(&()).unwrap_err();
    assert_eq!(error.code(), Code::NoUndo, "{error:?}");
    let disk = prepared.disk.fork();
    disk.remove_all(&current).write_file(&current, disk.read_file(parent).unwrap());
    assert!(Engine::open(disk.clone()).and_then(|engine| engine.status()).is_err(), "another generation was believed");
}

#[test]
fn during_a_trial_the_new_version_is_what_counts() {
    let prepared = posix("removal first");
    let disk = prepared.disk.fork();
    let mut engine = Engine::open(disk.clone()).unwrap();
    prepared.apply(&mut engine, Settings { trial: true, ..Settings::default() }).unwrap();
    assert!(engine.verify(true, &()).unwrap().findings.is_empty());
    let error = prepared.apply(&mut engine, Settings::default()).unwrap_err();
    assert_eq!(error.code(), Code::Pending, "{error:?}");
    assert!(prepared.snapshot(&disk) == prepared.new);
    let error = Engine::init(disk.clone(), Config::default(), "3.0.0", None).map(drop).unwrap_err();
    assert!([Code::Initialised, Code::Locked].contains(&error.code()), "{error:?}");
    drop(engine);
    let error = Engine::init(disk.clone(), Config::default(), "3.0.0", None).map(drop).unwrap_err();
    assert_eq!(error.code(), Code::Initialised, "{error:?}");
    assert_eq!(recover(&disk).unwrap().state, "trial");
}

#[test]
fn a_tree_that_was_said_to_be_under_care_is() {
    Explorer::new(|disk| _ = disk.write_file("a", "a"))
        .run(|disk| Engine::init(disk.clone(), Config::default(), "1.0.0", None).is_ok())
        .judge(|disk, done| match (done, Engine::open(disk.clone())) {
            (true, Err(error)) => Err(error.to_string()),
            _ => Ok(()),
        })
        .unwrap_or_else(|violation| panic!("{violation}"));
}

fn place(path: &str) -> Place {
    Place::parse(path).unwrap()
}

/// A new file whose content is promised.
fn promised(path: &str, content: &[u8], source: Source) -> Change {
    let kind = Kind::File { size: content.len() as u64, digest: Digest::of(content) };
    let metadata = Metadata { mode: 0o644, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() };
    Change { path: TreePath::parse(path).unwrap(), after: Some(Node::new(kind, metadata)), source }
}

#[test]
fn contents_that_are_not_what_was_promised_are_refused() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("old", "old");
    drop(Tree::with(disk.clone()).unwrap());
    let before = disk.snapshot();
    for reflink in [false, true] {
        disk.set_options(|options| options.reflink = reflink);
        let change = promised("new", b"new", Source::Base(TreePath::parse("old").unwrap()));
        let mut engine = Engine::open(disk.clone()).unwrap();
        engine.commit(Request::new(vec![change], "lies"), &mut NoPayload, &()).unwrap_err();
        assert!(disk.snapshot() == before);
    }
}

#[test]
fn changes_that_lead_elsewhere_than_promised_are_refused() {
    let prepared = posix("removal first");
    let disk = prepared.disk.fork();
    let change = Change { path: TreePath::parse("a").unwrap(), after: None, source: Source::None };
    let mut request = Request::new(vec![change], "lies");
    request.target = Some(Digest::of(b"another tree"));
    let error = Engine::open(disk.clone()).unwrap().commit(request, &mut NoPayload, &()).unwrap_err();
    assert_eq!(error.code(), Code::PackageFormat, "{error:?}");
    assert!(prepared.snapshot(&disk) == prepared.old);
}

/// An update failed before its first step, and the next one begins in the half of the journal that was before it.
#[test]
fn an_update_after_one_that_failed_is_cut_at_every_call() {
    for profile in [Profile::Somc, Profile::PerInode, Profile::Posix] {
        let prepared = Prepared::new(&WORKLOADS[0], options(profile));
        let run = |disk: &SimVfs| {
            let Ok(mut engine) = Engine::open(disk.clone()) else { return Promise::Nothing };
            let change = promised("new", b"new", Source::Payload);
            // Its content never comes.
            for _ in 0..2 {
                let _ = engine.commit(Request::new(vec![change.clone()], "lies"), &mut NoPayload, &());
            }
            if prepared.apply(&mut engine, Settings::default()).is_ok() { Promise::New } else { Promise::Nothing }
        };
        Explorer::on(prepared.disk.fork())
            .budget(Budget { seed: seed(), ..Budget::default() })
            .run(run)
            .judge(|disk, promise| judge(&prepared, disk, *promise))
            .unwrap_or_else(|violation| panic!("{profile:?}: {violation}"));
    }
}

/// Where nothing is recorded there is nothing to compare a tree without its plan with, and where nothing is under care
/// there is nothing to tell of.
#[test]
fn what_is_not_there_is_not_asked() {
    let disk = SimVfs::with(options(Profile::Posix));
    assert_eq!(peek(&disk).unwrap_err().code(), Code::NotInitialised);
    disk.make_dir(".surefoot");
    assert_eq!(peek(&disk).unwrap_err().code(), Code::NotInitialised);
    disk.write_file("a", "a");
    drop(Tree::with(disk.clone()).unwrap());
    disk.remove_all(".surefoot/poison");
    Engine::open(disk.clone()).unwrap().forget_poison().unwrap();
    let change = |disk: &SimVfs| Tree::with(disk.clone())?.begin()?.put("a", &b"b"[..]).commit().map(drop);
    let whole = disk.fork();
    change(&whole).unwrap();
    let mut given_up = 0;
    for crash_at in disk.calls()..whole.calls() {
        let cut = disk.fork();
        cut.crash_at(crash_at);
        let _ = change(&cut);
        let (images, _) = cut.crash_images(&Budget::sample(4, seed()));
        for disk in images.iter().map(surefoot::vfs::sim::Image::mount) {
            let plan = disk.state_listing().into_iter().find(|path| path.ends_with("/plan"));
            let (Some(plan), Ok((status, records))) = (plan, peek(&disk)) else { continue };
            if status.state == "applying" && records.len() == 2 && disk.read_file("a").unwrap() == b"a" {
                disk.remove_all(&format!(".surefoot/{plan}"));
                recover(&disk).unwrap();
                assert_eq!(disk.read_file("a").unwrap(), b"a");
                given_up += 1;
            }
        }
    }
    assert!(given_up > 0);
}

/// Records and inputs that no transaction gives are refused, and texts are cut to what a record holds.
#[test]
fn the_state_machine_refuses_what_makes_no_sense() {
    let begin = |attempts| Record::Begin {
        transaction: [1; 16],
        base: [2; 16],
        target: [1; 16],
        work: Work::Apply,
        trial: true,
        attempts,
        recovery: Recovery::Forward,
        session: [3; 16],
        time: 0,
        title: String::new(),
    };
    for record in [begin(0), begin(surefoot::limits::TRIAL_ATTEMPTS + 1), Record::End] {
        State::Idle.on(Input::Start(record.clone()), &mut Vec::new()).unwrap_err();
        State::Idle.replay(&record).unwrap_err();
    }
    let records =
        [begin(2), Record::Prepared { plan: [0; 32], plan_size: 1, steps: 0 }, Record::Applied { session: [3; 16] }];
    let trial = records.iter().try_fold(State::Idle, |state, record| state.replay(record)).unwrap();
    trial.replay(&Record::Trying { attempt: 2, session: [4; 16] }).unwrap_err();
    let State::Trial { facts, .. } = trial else { panic!("{trial:?}") };
    State::Reverting { facts, left: 0 }.on(Input::Stepped, &mut Vec::new()).unwrap_err();
    let long = cut("\u{e9}".repeat(surefoot::limits::RECORD_TEXT));
    assert!(long.len() <= surefoot::limits::RECORD_TEXT && long.len() + 2 > surefoot::limits::RECORD_TEXT);
}
