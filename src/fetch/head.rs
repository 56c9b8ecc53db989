//! The heads of responses: what a server says about the bytes that follow. Pure.

use std::time::Duration;

/// The beginning of a response: the status, and the fields that decide what the body is worth.
///
/// Fields are as they were sent; nothing of them is believed before it is parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The status, after redirections.
    pub status: u16,
    /// `Content-Length`, as the transport understood it.
    pub content_length: Option<u64>,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// `Date`: what a `Retry-After` with a date is measured from, so that no clock of the device is needed.
    pub date: Option<String>,
}

/// A parsed `Content-Range` in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// The body is these bytes, both ends included, of a content of that length, if it is told.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte.
        last: u64,
        /// Length of the whole content.
        total: Option<u64>,
    },
    /// No byte that was asked for exists: the content is this long.
    Unsatisfied {
        /// Length of the whole content.
        total: u64,
    },
}

impl ContentRange {
    /// Reads `bytes 0-9/10`, `bytes 0-9/*` or `bytes */10`; nothing if it is anything else, or contradicts itself.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = rest.trim().split_once('/')?;
        if range == "*" {
            return Some(Self::Unsatisfied { total: number(total)? });
        }
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        let sound = first <= last && last < total.unwrap_or(u64::MAX);
        sound.then_some(Self::Part { first, last, total })
    }
}

/// A strong entity tag, quotes included; nothing if it is weak or no tag: then equal tags are not equal bytes.
pub fn strong_tag(text: &str) -> Option<&str> {
    let text = text.trim();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let sound = text.len() <= crate::limits::ENTITY_TAG_BYTES
        && text.len() >= 2
        && inner.bytes().all(|byte| byte == 0x21 || (0x23..=0x7e).contains(&byte));
    sound.then_some(text)
}

impl Head {
    /// The strong entity tag of the content.
    pub fn tag(&self) -> Option<&str> {
        strong_tag(self.etag.as_deref()?)
    }

    /// The coding that hides the content; nothing if it is sent as it is.
    pub fn coding(&self) -> Option<&str> {
        let coding = self.content_encoding.as_deref()?.trim();
        (!coding.is_empty() && !coding.eq_ignore_ascii_case("identity")).then_some(coding)
    }

    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.retry_after.as_deref()?.trim();
        if let Some(seconds) = number(text) {
            return Some(Duration::from_secs(seconds));
        }
        let (then, now) = (http_date(text)?, http_date(self.date.as_deref()?.trim())?);
        Some(Duration::from_secs(then.saturating_sub(now)))
    }
}

/// Digits only: the parser of the standard library would take a sign.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that servers may still send.
fn http_date(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let (day, month, year) = (number(words.next()?)?, words.next()?, number(words.next()?)?);
    let mut time = words.next()?.split(':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    if words.next() != Some("GMT") || words.next().is_some() || time.next().is_some() {
        return None;
    }
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let sound = (1970..=9999).contains(&year) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !sound {
        return None;
    }
    // Days of the civil calendar, with years that begin in March so that the leap day comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_or_refused() {
        let part = |first, last, total| Some(ContentRange::Part { first, last, total });
        for (text, expected) in [
            ("bytes 0-9/10", part(0, 9, Some(10))),
            ("Bytes 5-5/*", part(5, 5, None)),
            (" bytes 1-2/18446744073709551615 ", part(1, 2, Some(u64::MAX))),
            ("bytes */10", Some(ContentRange::Unsatisfied { total: 10 })),
            ("bytes */*", None),
            ("bytes 0-10/10", None),
            ("bytes 3-2/10", None),
            ("bytes 0-/10", None),
            ("bytes -5/10", None),
            ("bytes +0-9/10", None),
            ("bytes 0-9", None),
            ("bytes 0 - 9/10", None),
            ("items 0-9/10", None),
            ("bytes 0-18446744073709551616/*", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn only_strong_tags_vouch_for_bytes() {
        for (text, expected) in [
            ("\"a-1\"", Some("\"a-1\"")),
            (" \"a\" ", Some("\"a\"")),
            ("\"\"", Some("\"\"")),
            ("W/\"a\"", None),
            ("a", None),
            ("\"", None),
            ("\"a\"b\"", None),
            ("\"a b\"", None),
            ("\"a\nb\"", None),
        ] {
            assert_eq!(strong_tag(text), expected, "{text}");
        }
        assert_eq!(strong_tag(&format!("\"{}\"", "x".repeat(10_000))), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_beside_a_date() {
        let head = |after: &str, date: Option<&str>| Head {
            retry_after: Some(after.into()),
            date: date.map(Into::into),
            ..Head::default()
        };
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        let date = Some(now);
        assert_eq!(http_date(now), Some(784_111_777), "the example of RFC 9110");
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for (after, date, expected) in [
            ("120", None, Some(120)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", date, Some(60)),
            ("Sun, 06 Nov 1994 08:40:37 GMT", date, Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", None, None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", date, None),
            ("-1", date, None),
            ("soon", date, None),
        ] {
            assert_eq!(head(after, date).retry_after(), expected.map(Duration::from_secs), "{after}");
        }
    }

    #[test]
    fn codings_other_than_none_are_told() {
        let head = |text: &str| Head { content_encoding: Some(text.into()), ..Head::default() };
        assert_eq!(head("gzip").coding(), Some("gzip"));
        assert_eq!(head("Identity").coding(), None);
        assert_eq!(head(" ").coding(), None);
        assert_eq!(Head::default().coding(), None);
    }
}
