//! Following a repository: where it is, by which rules, and what is told of a look.

use super::args::{Choosing, Prefer, Web};
use super::output::Output;
use super::service;
use crate::device::{Follower, Look};
use crate::error::{Code, Error};
use crate::fetch::{self, Bundle, Carrier, Carriers};
use crate::repository::{Clock, Moment, Notice};
use crate::strategy;
use serde::Serialize;

/// Something that was accepted although not everything is as it should be.
#[derive(Serialize)]
struct Told<'a> {
    notice: &'static str,
    file: Option<&'a str>,
    message: String,
}

/// The bundle that was named, if it is a file of this machine.
pub(super) fn bundle(address: &str) -> Result<Option<Bundle>, Error> {
    let odd = |why: String| Error::new(Code::Usage, why);
    let path = fetch::local_path(address).map_err(odd)?.filter(|path| path.is_file());
    Ok(path.map(|path| Bundle::open(&path)).transpose()?)
}

/// Who follows the repository that was named: by the bundle, or else by whoever brings addresses.
pub(super) fn follower<'a>(
    (way, web): (&Choosing, &Web),
    architecture: &str,
    allow_downgrade: bool,
    (bundle, carriers): (Option<&'a Bundle>, &'a Carriers),
) -> Result<Follower<'a>, Error> {
    let (addresses, carrier): (Vec<String>, &dyn Carrier) = match bundle {
        // There is no other place for what is in a bundle.
        Some(_) if !web.mirror.is_empty() => return Err(Error::new(Code::Usage, "a bundle has no mirrors")),
        Some(bundle) => (vec![String::new()], bundle),
        None => (std::iter::once(&way.from).chain(&web.mirror).cloned().collect(), carriers),
    };
    let mut rules = service::policy(way, architecture)?;
    rules.allow_downgrade = allow_downgrade;
    rules.channel = Some(way.repository.channel.clone().unwrap_or_else(|| "stable".into()));
    rules.prefer = match way.repository.prefer {
        None | Some(Prefer::Bytes) => strategy::Prefer::Bytes,
        Some(Prefer::Time) => strategy::Prefer::Time,
        Some(Prefer::Space) => strategy::Prefer::Space,
    };
    Ok(Follower {
        addresses,
        carrier,
        options: service::options(web, None),
        clock: Clock::showing(now()),
        offline: way.repository.offline_policy.unwrap_or_default(),
        rules,
        again: way.again,
    })
}

/// What the clock of the machine shows.
pub(super) fn now() -> Moment {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Moment::from_seconds(now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX)))
}

/// Says what was accepted, and what was passed over.
pub(super) fn tell(look: &Look, output: &Output) {
    for notice in &look.notices {
        let (kind, file) = match notice {
            Notice::Expired { file, .. } => ("expired", Some(file.as_str())),
            Notice::NoClock { file } => ("no-clock", Some(file.as_str())),
            Notice::ClockBehind { .. } => ("clock-behind", None),
            Notice::PassedOver { .. } => ("passed-over", None),
        };
        output.item("notice", &Told { notice: kind, file, message: notice.to_string() });
        output.message(format_args!("warning: {notice}"));
    }
    for error in &look.unusable {
        output.item("notice", &Told { notice: "unusable", file: None, message: error.to_string() });
        output.message(format_args!("warning: passed over: {error}"));
    }
}

/// What makes no sense where the metadata says what is trusted.
pub(super) fn refuse_keys(trust: bool, unsigned: bool) -> Result<(), Error> {
    if trust || unsigned {
        let what = "a repository is believed by its metadata, from what init --trust was given on";
        return Err(Error::new(Code::Usage, what));
    }
    Ok(())
}
