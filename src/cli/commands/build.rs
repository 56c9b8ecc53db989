//! `build`: a package from two trees, or a full one from one.

use super::{build_entry, read_tree, version};
use crate::cli::args::{Build, Format};
use crate::cli::files::{Draft, directory_of, failed, read_secrets, spool};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{Output, bytes};
use crate::cli::progress::Meter;
use crate::cli::prove::{self, Proof};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::Manifest;
use crate::publish::{BuildReport, FileBuilt, Options, build_full, build_patch};
use crate::trust::SecretKey;
use crate::vfs::OsVfs;
use serde::Serialize;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Built {
    package: String,
    kind: &'static str,
    from: Option<String>,
    to: String,
    architecture: Option<String>,
    #[serde(flatten)]
    report: BuildReport,
    /// Was it applied, and taken back, by the real applier?
    proved: bool,
}

pub(super) fn run(asked: &Build, output: &Output) -> Result<(), Error> {
    let (old, new) = trees(asked)?;
    let to = version(&asked.to)?.to_string();
    let from = asked.from.as_deref().map(version).transpose()?.map(|version| version.to_string());
    refuse_inside(&asked.output, old.into_iter().chain([new]))?;
    let keys = read_secrets(&asked.key)?;
    if asked.format == Format::TarGz {
        let old = old.ok_or_else(|| usage("a tar.gz package is made from two trees"))?;
        return build_entry::run(asked, (old, new), &keys, output);
    }
    if asked.entry.is_some() {
        return Err(usage("only a tar.gz package has an entry"));
    }
    let signers: Vec<&SecretKey> = keys.iter().collect();
    let options = Options {
        to: to.clone(),
        architecture: asked.arch.clone(),
        notes: asked.notes.clone().unwrap_or_default(),
        level: asked.level.into(),
        signers: &signers,
        memory: memory(asked.max_memory),
        segment: None,
        progress: None,
    };
    let interrupt = Interrupt::catch();
    let meter = Meter::new(output).until(interrupt);
    let old = old.map(|path| read_tree(path, asked.identity, &meter)).transpose()?;
    let new = read_tree(new, asked.identity, &meter)?;
    drop(meter);
    interrupt.check()?;
    let before = match (&old, &from) {
        (None, _) => None,
        (Some((vfs, manifest)), Some(from)) => Some((from.as_str(), manifest, vfs)),
        (Some(_), None) => return Err(usage("a patch needs the version that it starts from: --from")),
    };
    let report = make(before, (&new.1, &new.0), (&options, !asked.no_prove), &asked.output, output)?;
    let built = Built {
        package: asked.output.display().to_string(),
        kind: if old.is_some() { "patch" } else { "full" },
        from: old.and(from),
        to,
        architecture: asked.arch.clone(),
        report,
        proved: !asked.no_prove,
    };
    for file in &built.report.files {
        output.item("file", file);
    }
    tell(&built, output);
    output.result(&built);
    Ok(())
}

/// Builds a package, a patch if there is something to start from, and proves it if that is asked for.
pub(super) fn make(
    old: Option<(&str, &Manifest, &OsVfs)>,
    new: (&Manifest, &OsVfs),
    (options, prove): (&Options<'_>, bool),
    path: &Path,
    output: &Output,
) -> Result<BuildReport, Error> {
    output.message("packing");
    let interrupt = Interrupt::catch();
    let meter = Meter::new(output).until(interrupt);
    let progress = |done: u64, total: u64| meter.built(done, total);
    let options = &Options {
        to: options.to.clone(),
        architecture: options.architecture.clone(),
        notes: options.notes.clone(),
        progress: Some(&progress),
        ..*options
    };
    let mut draft = Draft::create(path)?;
    let mut spool = spool(path)?;
    let mut out = BufWriter::with_capacity(limits::COPY_BUFFER, draft.file()?);
    let report = match old {
        None => build_full(new.0, new.1, options, &mut spool, &mut out)?,
        Some(old) => build_patch(old, new, options, &mut spool, &mut out)?,
    };
    out.flush().map_err(|error| failed("write", path, error))?;
    drop((out, spool));
    interrupt.check()?;
    if prove {
        output.message("proving: it is applied to a copy, and taken back");
        let (package, sources) = (draft.temporary(), report.sources.as_slice());
        let proof = Proof { package, old, sources, new: new.0, signers: options.signers };
        prove::run(&proof, path, &Meter::new(output).until(interrupt))?;
        interrupt.check()?;
    }
    draft.complete()?;
    Ok(report)
}

/// Bytes that a build may take: so many MiB, or half of what there is.
pub(super) fn memory(mebibytes: Option<u64>) -> Option<u64> {
    let asked = mebibytes.map(|mebibytes| mebibytes.saturating_mul(1 << 20));
    asked.or_else(|| Some(group_memory().into_iter().chain(machine_memory()).min()? / 2))
}

fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// The least that this process's control group, and those that it is in, may have. Files of cgroups(7): `memory.max` of
/// version 2, `memory.limit_in_bytes` of version 1, which has a very large number for no limit.
fn group_memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limit = |line: &str| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let (mounted, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let read = |group: &Path| {
            let at = Path::new(mounted).join(group.strip_prefix("/").unwrap_or(group)).join(file);
            fs::read_to_string(at).ok()?.trim().parse::<u64>().ok()
        };
        Path::new(group).ancestors().filter_map(read).min()
    };
    groups.lines().filter_map(limit).min()
}

fn trees(asked: &Build) -> Result<(Option<&Path>, &Path), Error> {
    match (asked.full, asked.trees.as_slice()) {
        (true, [new]) => Ok((None, new)),
        (false, [old, new]) => Ok((Some(old), new)),
        (true, _) => Err(usage("a full package is made from one tree")),
        (false, _) => Err(usage("a patch is made from two trees; --full makes a package of one")),
    }
}

pub(super) fn usage(what: &str) -> Error {
    Error::new(Code::Usage, what)
}

/// A package inside a tree that it is built from would be part of it, or not, by chance.
pub(super) fn refuse_inside<'a>(output: &Path, trees: impl Iterator<Item = &'a Path>) -> Result<(), Error> {
    let real =
        |path: &Path| -> Result<PathBuf, Error> { fs::canonicalize(path).map_err(|error| failed("open", path, error)) };
    let directory = real(directory_of(output))?;
    for tree in trees {
        if directory.starts_with(real(tree)?) {
            return Err(usage("the package would lie inside a tree that it is built from"));
        }
    }
    Ok(())
}

/// Files that are told of: those that cost most.
const MOST_EXPENSIVE: usize = 5;

/// What a file costs, and why.
fn told(file: &FileBuilt) -> String {
    let FileBuilt { path, size, packed, content, copied, differing, from, .. } = file;
    let from = from.as_ref().filter(|from| *from != path).map(|from| format!(" of {from}")).unwrap_or_default();
    format!(
        "{:>10} for {path}, {}: {} new, {} copied{from}, {} of that changed",
        bytes(*packed),
        bytes(*size),
        bytes(content.saturating_sub(*copied)),
        bytes(*copied),
        bytes(*differing)
    )
}

fn tell(built: &Built, output: &Output) {
    let Built { package, kind, from, to, report, .. } = built;
    let from = from.as_ref().map(|from| format!("{from} -> ")).unwrap_or_default();
    output.line(format_args!("{package}: {kind} {from}{to}, {}", bytes(report.written.bytes)));
    output.line(format_args!(
        "{} changes ({} new, {} removed); {} of content packed into {}; {} contents are in the base already, {} come twice",
        report.changes,
        report.added,
        report.removed,
        bytes(report.written.payload_bytes),
        bytes(report.written.packed_bytes),
        report.from_base,
        report.duplicates
    ));
    for file in report.files.iter().take(MOST_EXPENSIVE) {
        output.line(told(file));
    }
    output.line(format_args!("package {}", report.written.id));
    for key in &report.signers {
        output.line(format_args!("signed by key {key}"));
    }
    if report.signers.is_empty() {
        output.message("it is not signed: see sign");
    }
}
