//! What a device does about time: without a clock, with one that is wrong, and after a long absence.

use super::{Moment, RepositoryError};
use crate::limits;
use std::fmt;
use std::str::FromStr;

/// What the device knows of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It is this moment, as far as the device knows.
    Now(Moment),
    /// It has none, or one that nobody should believe.
    Unknown,
}

impl Clock {
    /// What a clock shows, unless it shows a time before there were any repositories: then it was never set.
    pub fn showing(moment: Moment) -> Self {
        if moment < Moment::from_seconds(limits::CLOCK_SECONDS) { Self::Unknown } else { Self::Now(moment) }
    }
}

/// What is done with metadata that has expired, or of which that cannot be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfflinePolicy {
    /// It is refused.
    #[default]
    Strict,
    /// It is accepted, and said so, if it has expired less than so many days ago.
    Grace(u32),
    /// It is accepted however old it is, and said so: who holds back updates is not noticed any more.
    IgnoreExpiry,
}

/// Something that was accepted although not everything is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Metadata that has expired.
    Expired {
        /// Which file.
        file: String,
        /// When.
        expires: Moment,
    },
    /// Metadata of which it cannot be told whether it has expired.
    NoClock {
        /// Which file.
        file: String,
    },
    /// The clock shows a time before the moment at which the trusted timestamp was signed; that moment is taken
    /// instead.
    ClockBehind {
        /// What the clock shows.
        clock: Moment,
        /// When the timestamp was signed.
        signed: Moment,
    },
    /// More roles are delegated to than are visited: what this one says, and those after it, is not known.
    PassedOver {
        /// Which role.
        role: String,
    },
}

impl OfflinePolicy {
    /// Asks that metadata is still valid (5.3.10, 5.4.4, 5.5.6, 5.6.5). `clock` is the fixed update start time, and
    /// `floor` a moment that is over for sure.
    pub(super) fn check(
        self,
        file: &str,
        expires: Moment,
        clock: Clock,
        floor: Option<Moment>,
    ) -> Result<Option<Notice>, RepositoryError> {
        let expired = || Notice::Expired { file: file.into(), expires };
        let refused = || RepositoryError::Expired { file: file.into(), expires };
        let now = match clock {
            Clock::Now(now) => floor.map_or(now, |floor| floor.max(now)),
            // What has expired by the floor has expired; of the rest nothing is known.
            Clock::Unknown if self == Self::IgnoreExpiry => return Ok(Some(Notice::NoClock { file: file.into() })),
            Clock::Unknown if floor.is_some_and(|floor| floor >= expires) => return Err(refused()),
            Clock::Unknown => return Err(RepositoryError::NoClock { file: file.into() }),
        };
        match self {
            _ if now < expires => Ok(None),
            Self::IgnoreExpiry => Ok(Some(expired())),
            Self::Grace(days) if now < expires.plus_days(days) => Ok(Some(expired())),
            Self::Strict | Self::Grace(_) => Err(refused()),
        }
    }
}

/// Some text that is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy is strict, grace:DAYS (at most {most} days) or ignore-expiry", most = limits::GRACE_DAYS)]
pub struct PolicyError;

impl FromStr for OfflinePolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "strict" => Ok(Self::Strict),
            "ignore-expiry" => Ok(Self::IgnoreExpiry),
            _ => {
                let days = text.strip_prefix("grace:").filter(|days| days.bytes().all(|b| b.is_ascii_digit()));
                let days = days.and_then(|days| days.parse().ok()).filter(|days| *days <= limits::GRACE_DAYS);
                days.map(Self::Grace).ok_or(PolicyError)
            }
        }
    }
}

impl fmt::Display for OfflinePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict => f.write_str("strict"),
            Self::Grace(days) => write!(f, "grace:{days}"),
            Self::IgnoreExpiry => f.write_str("ignore-expiry"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { file, expires } => write!(f, "{file} has expired at {expires} and is accepted by policy"),
            Self::NoClock { file } => {
                write!(f, "whether {file} has expired is not known without a clock; it is accepted by policy")
            }
            Self::ClockBehind { clock, signed } => {
                write!(f, "the clock shows {clock}, but the repository was signed at {signed}, which is taken instead")
            }
            Self::PassedOver { role } => {
                let most = limits::DELEGATIONS;
                write!(f, "more than {most} roles are delegated to: {role} and those after it are passed over")
            }
        }
    }
}
