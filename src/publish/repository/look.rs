//! Looks at the directory of a repository: as a device would, but without asking whether something has expired.

use super::{metadata_place, read};
use crate::error::{Code, Error};
use crate::repository::{
    Anchor, Answer, Client, Clock, OfflinePolicy, Request, Root, RunError, Signed, Step, Stored, metadata_name, role,
};
use crate::vfs::Vfs;
use std::collections::BTreeMap;

/// One look at the directory, under the last root that what is there is signed for; and the newest root.
pub(super) fn look_behind<V: Vfs>(vfs: &V, first: &[u8]) -> Result<(Client, Root), Error> {
    let missing = || Error::new(Code::Internal, "a look that is complete lacks metadata");
    let error = match look_until(vfs, first, u64::MAX) {
        Ok(client) => {
            let newest = client.root().ok_or_else(missing)?.clone();
            return Ok((client, newest));
        }
        Err(error) if error.code() == Code::Threshold => error,
        Err(error) => return Err(error),
    };
    let Some((newest, bytes)) = root_chain(vfs, first)?.pop_last() else { return Err(error) };
    let lowest = Signed::<Root>::parse("the first root metadata", first)?.body.version;
    let older = (lowest..newest).rev().find_map(|version| look_until(vfs, first, version).ok());
    match older {
        Some(client) => Ok((client, Signed::parse(&metadata_name(role::ROOT, Some(newest)), &bytes)?.body)),
        None => Err(error),
    }
}

/// The roots in the directory from this one on, each signed as the one before asks, by their versions.
pub(super) fn root_chain<V: Vfs>(vfs: &V, first: &[u8]) -> Result<BTreeMap<u64, Vec<u8>>, Error> {
    let mut version = Signed::<Root>::parse("the first root metadata", first)?.body.version;
    let mut chain = BTreeMap::from([(version, first.to_vec())]);
    let mut client = begin(first)?;
    loop {
        match client.step()? {
            Step::Fetch(request) if request.optional => {
                let bytes = read(vfs, &metadata_place(&request.name)?, request.most)?;
                client.answer(bytes.map_or(Answer::Missing, Answer::Bytes))?;
            }
            Step::Keep(kept) => {
                version += 1;
                chain.insert(version, kept.bytes);
            }
            Step::Fetch(_) | Step::Forget(_) | Step::Done => return Ok(chain),
        }
    }
}

/// Why nobody but who rotates goes on.
pub(super) fn interrupted(newest: u64) -> Error {
    let what = format!(
        "root {newest} is in place, and the timestamp is signed for an older one: a rotation was interrupted, run it again"
    );
    Error::new(Code::Threshold, what)
}

/// One look, as a device that was given this root, as if there were no roots after this version.
fn look_until<V: Vfs>(vfs: &V, first: &[u8], newest: u64) -> Result<Client, Error> {
    let mut client = begin(first)?;
    client.look_for_everything();
    let hidden = newest.checked_add(1).map(|version| metadata_name(role::ROOT, Some(version)));
    let mut fetch = |request: &Request| -> Result<Answer, Error> {
        if hidden.as_ref() == Some(&request.name) {
            return Ok(Answer::Missing);
        }
        let bytes = read(vfs, &metadata_place(&request.name)?, request.most)?;
        Ok(bytes.map_or(Answer::Missing, Answer::Bytes))
    };
    match client.run(&mut fetch, &mut |_, _| Ok(())) {
        Ok(()) => Ok(client),
        Err(RunError::Refused(error)) => Err(error.into()),
        Err(RunError::Driver(error)) => Err(error),
    }
}

fn begin(first: &[u8]) -> Result<Client, Error> {
    let stored = Stored(BTreeMap::from([(role::ROOT.to_owned(), first.to_vec())]));
    Ok(Client::new(stored, Anchor::Stored, Clock::Unknown, OfflinePolicy::IgnoreExpiry)?)
}
