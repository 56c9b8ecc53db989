//! `Failure`: what went wrong with one request, and whether asking again can help. Pure.

use std::time::Duration;

/// What went wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no connection, or it broke.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// No byte came for too long.
    #[error("no byte came for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The server said no.
    #[error("the server answered with status {status}")]
    Status {
        /// With this status.
        status: u16,
        /// And asked to be left alone for so long.
        retry_after: Option<Duration>,
    },
    /// The carrier will not do it: a redirection that is refused, a kind of address that it does not know.
    #[error("{0}")]
    Refused(String),
    /// The body is coded, so that neither ranges nor digests fit it.
    #[error("the body is coded ({0}) although it was asked for as it is")]
    Coded(String),
    /// The content is not as long as published.
    #[error("the content has {promised} bytes instead of {wanted}")]
    Length {
        /// So long it is.
        promised: u64,
        /// So long it should be.
        wanted: u64,
    },
    /// The content is longer than anything that is fetched.
    #[error("the content is longer than {max} bytes", max = crate::limits::DOWNLOAD_BYTES)]
    TooLong,
    /// The part of the content is not the one that was asked for.
    #[error("a part was sent that was not asked for: {0:?}")]
    Range(String),
    /// The content is another one than before.
    #[error("the content has changed on the server")]
    Changed,
    /// The body ends too early.
    #[error("the body ended too early")]
    Truncated,
    /// The body goes on after its end.
    #[error("the body goes on after its end")]
    Overlong,
    /// A block does not have its digest.
    #[error("block {0} does not have its digest")]
    Block(usize),
    /// The whole does not have its digest, and came from one address in one go.
    #[error("the content does not have its digest")]
    Digest,
    /// The whole does not have its digest, but came in parts that may not belong together.
    #[error("the parts do not belong together")]
    Mixed,
    /// A response that nobody has asked for: a mistake of the caller.
    #[error("a response that nobody has asked for")]
    Unasked,
}

impl Failure {
    /// Is there no use in asking the same address again?
    pub fn is_final(&self) -> bool {
        match self {
            // Too early, too many, and what the client itself was slow at.
            Self::Status { status, .. } => (400..500).contains(status) && !matches!(status, 408 | 425 | 429),
            Self::Refused(_)
            | Self::Coded(_)
            | Self::Length { .. }
            | Self::TooLong
            | Self::Overlong
            | Self::Block(_)
            | Self::Digest
            | Self::Unasked => true,
            Self::Connection(_) | Self::Stalled(_) | Self::Range(_) | Self::Changed | Self::Truncated | Self::Mixed => {
                false
            }
        }
    }

    /// Is what came not what was published?
    pub fn is_distrust(&self) -> bool {
        matches!(self, Self::Block(_) | Self::Digest | Self::Mixed)
    }

    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
