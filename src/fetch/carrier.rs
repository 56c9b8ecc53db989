//! `Carrier`: who brings bytes.

use super::address::local_path;
use super::{Failure, Head, LocalCarrier};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub address: String,
    /// The first byte, and the one after the last if that is not the end; nothing for the whole content.
    pub range: Option<(u64, Option<u64>)>,
    /// The entity tag that the content must still have for a part of it to be of use.
    pub if_range: Option<String>,
}

/// One response: its head is here, its body arrives while it is read.
pub struct Response {
    /// The head.
    pub head: Head,
    /// The body.
    pub body: Box<dyn Body>,
}

/// A body that arrives.
pub trait Body: Send {
    /// The next bytes; nothing at the end. An end that its sender did not mean is an error.
    fn chunk(&mut self) -> Result<Option<&[u8]>, Failure>;
}

/// Who brings bytes. Connecting and waiting for bytes are bounded in time; the whole is not.
pub trait Carrier: Send + Sync {
    /// Asks, and gives the head of the answer whatever its status.
    fn get(&self, request: &Request) -> Result<Response, Failure>;

    /// Is it known without asking that there is nothing at this address?
    fn lacks(&self, _: &str) -> bool {
        false
    }
}

/// The carrier of each kind of address: files of this machine, and the web where there is somebody for it.
pub struct Carriers {
    web: Option<Box<dyn Carrier>>,
}

impl Carriers {
    /// Files only.
    pub fn local() -> Self {
        Self { web: None }
    }

    /// Files, and addresses of the web by that carrier.
    pub fn with_web(web: impl Carrier + 'static) -> Self {
        Self { web: Some(Box::new(web)) }
    }
}

impl Carrier for Carriers {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        match (local_path(&request.address).map_err(Failure::Refused)?, &self.web) {
            (Some(_), _) => LocalCarrier.get(request),
            (None, Some(web)) => web.get(request),
            (None, None) => Err(Failure::Refused("this build has no downloads: fetch it and give its path".into())),
        }
    }
}

impl std::fmt::Debug for Carriers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carriers").field("web", &self.web.is_some()).finish()
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("head", &self.head).finish_non_exhaustive()
    }
}
