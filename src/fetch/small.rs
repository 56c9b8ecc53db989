//! Small things: metadata, in memory, whole and bounded. The door for whoever reads a repository.

use super::{Carrier, Failure, FetchError, Head, Next, Pace, Patience, Request, Resume, Wanted, Watch};
use crate::limits;
use std::time::Duration;

/// Fetches at most `limit` bytes; nothing if the server says that there is no such thing.
///
/// Bounded in every way: an endless body ends with an error at the limit, and one that trickles after
/// [`limits::METADATA_SECONDS`]. What a server fails to send is asked for again, as `patience` says.
pub fn fetch_small(
    carrier: &dyn Carrier,
    address: &str,
    limit: u64,
    patience: Patience,
    pace: &dyn Pace,
    watch: &dyn Watch,
) -> Result<Option<Vec<u8>>, FetchError> {
    let limit = limit.min(limits::METADATA_BYTES);
    let mut resume = Resume::new(Wanted::at(address), patience);
    loop {
        if watch.cancelled() {
            return Err(FetchError::Cancelled);
        }
        let gave_up = |resume: &Resume| FetchError::GaveUp {
            label: super::shown(address),
            failures: resume.failures().map(|(address, failure)| (address.to_owned(), failure.clone())).collect(),
        };
        if resume.proceed() == Next::Fail {
            return Err(gave_up(&resume));
        }
        match once(carrier, address, limit, pace) {
            Ok(answer) => return Ok(answer),
            Err(Failure::TooLong) => return Err(FetchError::TooLong { address: super::shown(address), limit }),
            Err(failure) => match resume.failed(failure, pace.now().as_nanos() as u64) {
                Some(pause) => pace.wait(pause, &|| watch.cancelled()),
                None => return Err(gave_up(&resume)),
            },
        }
    }
}

fn once(carrier: &dyn Carrier, address: &str, limit: u64, pace: &dyn Pace) -> Result<Option<Vec<u8>>, Failure> {
    let longest = Duration::from_secs(limits::METADATA_SECONDS);
    let start = pace.now();
    let request = Request { address: address.into(), range: None, if_range: None };
    let mut response = match carrier.get(&request) {
        Err(Failure::Status { status: 404 | 410, .. }) => return Ok(None),
        response => response?,
    };
    match &response.head {
        Head { status: 404 | 410, .. } => return Ok(None),
        head @ Head { status: 200, .. } => {
            if let Some(coding) = head.coding() {
                return Err(Failure::Coded(coding.chars().take(100).collect()));
            }
        }
        head => return Err(Failure::Status { status: head.status, retry_after: head.retry_after() }),
    }
    let promised = response.head.content_length;
    if promised.is_some_and(|promised| promised > limit) {
        return Err(Failure::TooLong);
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.body.chunk()? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(Failure::TooLong);
        }
        bytes.extend_from_slice(chunk);
        if pace.now().saturating_sub(start) > longest {
            return Err(Failure::Stalled(longest));
        }
    }
    if promised.is_some_and(|promised| promised != bytes.len() as u64) {
        return Err(Failure::Truncated);
    }
    Ok(Some(bytes))
}
