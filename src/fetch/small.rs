//! Small things: metadata, in memory, whole and bounded. The door for whoever reads a repository.

use super::{Carrier, Failure, FetchError, Head, Pace, Patience, Request, Watch};
use crate::limits;
use std::time::Duration;

/// How a small file is asked for.
///
/// Bounded in every way: an endless body ends with an error at the limit, and one that trickles after
/// [`limits::METADATA_SECONDS`].
pub struct Asking<'a> {
    /// Who brings it.
    pub carrier: &'a dyn Carrier,
    /// How often each address is asked again for what it fails to send, and after which pauses.
    pub patience: Patience,
    /// The time.
    pub pace: &'a dyn Pace,
    /// Who may ask to stop.
    pub watch: &'a dyn Watch,
    /// It has at most so many bytes.
    pub limit: u64,
}

/// What somebody makes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what was asked for.
    Good,
    /// It is not; another address may have a better one.
    Bad,
    /// The others may have a better one, and are asked for the last time.
    Last,
}

impl std::fmt::Debug for Asking<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("limit", &self.limit).field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Asking<'_> {
    /// Asks addresses in rounds, in each round each of them once, beginning with number `first`, so that one which is
    /// dead does not keep the others waiting. Every answer is judged: the bytes, or nothing if the server says that there
    /// is no such thing, or what has failed. Gives the number of the address that had the good one, if any had.
    ///
    /// An address is asked again if it has failed in a way that may pass, after a pause that grows with the rounds.
    pub fn ask(
        &self,
        addresses: &[String],
        first: usize,
        judge: &mut dyn FnMut(usize, Result<Option<Vec<u8>>, Failure>) -> Verdict,
    ) -> Result<Option<usize>, FetchError> {
        let count = addresses.len();
        let mut left: Vec<usize> = (0..count).map(|step| (first + step) % count).collect();
        // Until when each has asked to be left alone.
        let mut not_before = vec![Duration::ZERO; count];
        let mut last = false;
        for round in 0..=self.patience.attempts {
            let mut again = Vec::new();
            for address in left {
                if self.watch.cancelled() {
                    return Err(FetchError::Cancelled);
                }
                if not_before[address] > self.pace.now() {
                    again.push(address);
                    continue;
                }
                let came = self.once(&addresses[address]);
                if let Err(failure) = &came {
                    let wait = failure.retry_after().unwrap_or_default();
                    if !failure.is_final() && wait.as_secs() <= limits::RETRY_AFTER_SECONDS {
                        again.push(address);
                        not_before[address] = self.pace.now().saturating_add(wait);
                    }
                }
                match judge(address, came) {
                    Verdict::Good => return Ok(Some(address)),
                    Verdict::Bad => {}
                    Verdict::Last => last = true,
                }
            }
            let earliest = again.iter().map(|address| not_before[*address]).min();
            let Some(earliest) = earliest.filter(|_| !last && round < self.patience.attempts) else { break };
            let now = self.pace.now();
            let pause = self.patience.pause_of(round, now.as_nanos() as u64).max(earliest.saturating_sub(now));
            self.pace.wait(pause, &|| self.watch.cancelled());
            left = again;
        }
        Ok(None)
    }

    fn once(&self, address: &str) -> Result<Option<Vec<u8>>, Failure> {
        let limit = self.limit.min(limits::METADATA_BYTES);
        let longest = Duration::from_secs(limits::METADATA_SECONDS);
        let start = self.pace.now();
        let request = Request { address: address.into(), range: None, if_range: None };
        let mut response = match self.carrier.get(&request) {
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
            if self.pace.now().saturating_sub(start) > longest {
                return Err(Failure::Stalled(longest));
            }
        }
        if promised.is_some_and(|promised| promised != bytes.len() as u64) {
            return Err(Failure::Truncated);
        }
        Ok(Some(bytes))
    }
}

/// Fetches at most `limit` bytes from one address, as [`Asking`] does; nothing if the server says that there is no such
/// thing.
pub fn fetch_small(
    carrier: &dyn Carrier,
    address: &str,
    limit: u64,
    patience: Patience,
    pace: &dyn Pace,
    watch: &dyn Watch,
) -> Result<Option<Vec<u8>>, FetchError> {
    let mut found = Ok(None);
    Asking { carrier, patience, pace, watch, limit }.ask(&[address.to_owned()], 0, &mut |_, came| {
        found = came;
        if found.is_ok() { Verdict::Good } else { Verdict::Bad }
    })?;
    found.map_err(|failure| FetchError::of(address, failure, limit))
}

impl FetchError {
    /// What has failed for good when an address was asked for at most so many bytes.
    pub fn of(address: &str, failure: Failure, limit: u64) -> Self {
        let label = super::shown(address);
        match failure {
            Failure::TooLong => Self::TooLong { address: label, limit: limit.min(limits::METADATA_BYTES) },
            failure => Self::GaveUp { label, failures: vec![(address.to_owned(), failure)] },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::{Body, Response};
    use std::sync::Mutex;

    /// What each address answers, again and again, and who was asked.
    struct Net(Vec<(&'static str, Result<&'static str, u16>)>, Mutex<Vec<String>>);

    struct Text(Option<&'static str>);

    impl Body for Text {
        fn chunk(&mut self) -> Result<Option<&[u8]>, Failure> {
            Ok(self.0.take().map(str::as_bytes))
        }
    }

    impl Carrier for Net {
        fn get(&self, request: &Request) -> Result<Response, Failure> {
            self.1.lock().unwrap().push(request.address.clone());
            let (_, answer) = self.0.iter().find(|(address, _)| *address == request.address).unwrap();
            match *answer {
                Ok(text) => {
                    Ok(Response { head: Head { status: 200, ..Head::default() }, body: Box::new(Text(Some(text))) })
                }
                Err(0) => Err(Failure::Connection("refused".into())),
                Err(429) => Err(Failure::Status { status: 429, retry_after: Some(Duration::from_secs(600)) }),
                Err(status) => Ok(Response { head: Head { status, ..Head::default() }, body: Box::new(Text(None)) }),
            }
        }
    }

    /// Time that passes only while somebody waits.
    struct Waits(Mutex<Vec<Duration>>);

    impl Pace for Waits {
        fn now(&self) -> Duration {
            self.0.lock().unwrap().iter().sum()
        }

        fn wait(&self, pause: Duration, _: &dyn Fn() -> bool) {
            self.0.lock().unwrap().push(pause);
        }
    }

    /// Asks, and takes what is "good"; gives who had it, who was asked, and how often there was a pause.
    fn ask(
        answers: &[(&'static str, Result<&'static str, u16>)],
        first: usize,
        attempts: u32,
    ) -> (Option<usize>, String, usize) {
        let net = Net(answers.to_vec(), Mutex::default());
        let waits = Waits(Mutex::default());
        let patience = Patience { attempts, ..Patience::default() };
        let asking = Asking { carrier: &net, patience, pace: &waits, watch: &(), limit: 100 };
        let addresses: Vec<String> = answers.iter().map(|(address, _)| (*address).to_owned()).collect();
        let found = asking.ask(&addresses, first, &mut |_, came| match came {
            Ok(Some(bytes)) if bytes == b"good" => Verdict::Good,
            Ok(None) => Verdict::Last,
            _ => Verdict::Bad,
        });
        (found.unwrap(), net.1.into_inner().unwrap().concat(), waits.0.into_inner().unwrap().len())
    }

    /// All retries of an address that is dead once came before the next one was asked, for every file again.
    #[test]
    fn an_address_that_is_dead_is_asked_once_before_the_next_one() {
        let answers = [("a", Err(0)), ("b", Ok("good"))];
        assert_eq!(ask(&answers, 0, 8), (Some(1), "ab".into(), 0));
        assert_eq!(ask(&answers, 1, 8), (Some(1), "b".into(), 0), "who has answered last is asked first");
    }

    #[test]
    fn only_those_that_may_come_back_are_asked_again() {
        let answers = [("a", Err(503)), ("b", Ok("bad")), ("c", Err(401)), ("d", Err(0))];
        assert_eq!(ask(&answers, 0, 2), (None, "abcdadad".into(), 2));
        assert_eq!(ask(&answers, 2, 0), (None, "cdab".into(), 0));
    }

    #[test]
    fn who_asks_to_be_left_alone_is_while_the_others_are_asked() {
        let answers = [("a", Err(429)), ("b", Err(0))];
        assert_eq!(ask(&answers, 0, 4), (None, "abbbbb".into(), 4));
        assert_eq!(ask(&answers[..1], 0, 1), (None, "aa".into(), 1));
    }

    #[test]
    fn after_the_last_round_nobody_is_asked() {
        let answers = [("a", Err(0)), ("b", Err(404)), ("c", Ok("bad"))];
        assert_eq!(ask(&answers, 0, 8), (None, "abc".into(), 0));
    }
}
