//! Where everything that is told goes: results to stdout, everything else to stderr; in JSON mode all to stdout.

use super::args::Global;
use crate::error::{Code, Error};
use crate::limits;
use crate::model::Finding;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::sync::{Mutex, PoisonError};

/// The voice of one run of the program.
pub(super) struct Output {
    /// One JSON object a line, and nothing else on stdout.
    pub(super) json: bool,
    /// Progress and messages are wanted.
    pub(super) talkative: bool,
    /// Bars can be drawn on stderr.
    pub(super) terminal: bool,
    command: &'static str,
    stdout: Mutex<Sink>,
}

struct Sink {
    out: BufWriter<Stdout>,
    /// The reader went away: it wants no more, and that is no error.
    closed: bool,
    failed: Option<io::Error>,
}

/// A JSON object with its type.
#[derive(Serialize)]
struct Tagged<'a, T: Serialize> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(flatten)]
    rest: &'a T,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: &'static str,
    message: &'a str,
    causes: Vec<String>,
    hint: &'static str,
    findings: &'a [Finding],
    found: usize,
}

impl Output {
    pub(super) fn new(global: &Global, command: &'static str) -> Self {
        Self {
            json: global.json,
            talkative: !global.quiet,
            terminal: io::stderr().is_terminal(),
            command,
            stdout: Mutex::new(Sink { out: BufWriter::new(io::stdout()), closed: false, failed: None }),
        }
    }

    /// The result, as an object; people get theirs through [`Output::line`].
    pub(super) fn result(&self, value: &impl Serialize) {
        if self.json {
            self.write(&object("result", Some(self.command), value));
        }
    }

    /// One of many parts of a result, as an object.
    pub(super) fn item(&self, kind: &str, value: &impl Serialize) {
        if self.json {
            self.write(&object(kind, None, value));
        }
    }

    /// How far it is, as an object, at once.
    pub(super) fn progress(&self, value: &impl Serialize) {
        if self.json && self.talkative {
            self.write(&object("progress", None, value));
            self.flush();
        }
    }

    /// A line of the result, for people.
    pub(super) fn line(&self, text: impl Display) {
        if !self.json {
            self.write(&text.to_string());
        }
    }

    /// Something that is no result, for people.
    pub(super) fn message(&self, text: impl Display) {
        if !self.json && self.talkative {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// What went wrong: for people on stderr, as an object on stdout.
    pub(super) fn error(&self, error: &Error) {
        if self.json {
            self.write(&Self::error_object(error));
            return;
        }
        self.flush();
        let mut text = format!("error: {} ({})\n", error.message(), error.code().as_str());
        for cause in causes(error) {
            text += &format!("  because: {cause}\n");
        }
        let (findings, found) = error.findings();
        for Finding { path, difference } in findings {
            text += &format!("  {path}: {difference}\n");
        }
        if found > findings.len() {
            text += &format!("  and {} more\n", found - findings.len());
        }
        text += &format!("hint: {}\n", error.hint());
        let _ = io::stderr().write_all(text.as_bytes());
    }

    pub(super) fn error_object(error: &Error) -> String {
        let (findings, found) = error.findings();
        let rest = ErrorObject {
            code: error.code().as_str(),
            message: error.message(),
            causes: causes(error),
            hint: error.hint(),
            findings,
            found,
        };
        object("error", None, &rest)
    }

    /// Writes out what is held back; an error if something could not be written, other than to a reader that left.
    pub(super) fn finish(&self) -> Result<(), Error> {
        self.flush();
        let mut sink = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        match sink.failed.take() {
            None => Ok(()),
            Some(error) => {
                sink.closed = true;
                Err(Error::new(Code::Io, "writing to standard output failed").because(error))
            }
        }
    }

    fn write(&self, text: &str) {
        self.with(|out| out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")));
    }

    fn flush(&self) {
        self.with(BufWriter::flush);
    }

    fn with(&self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) {
        let mut sink = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.closed || sink.failed.is_some() {
            return;
        }
        match write(&mut sink.out) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => sink.closed = true,
            Err(error) => sink.failed = Some(error),
        }
    }
}

fn object(kind: &str, command: Option<&str>, value: &impl Serialize) -> String {
    // Only maps with odd keys cannot be shown, and there are none.
    serde_json::to_string(&Tagged { kind, command, rest: value }).unwrap_or_default()
}

/// The chain of causes, without those that only repeat what was said.
fn causes(error: &Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut said = error.message().to_owned();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if text != said && causes.len() < limits::LISTED {
            said.clone_from(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

/// A number of bytes, for people.
pub(super) fn bytes(number: u64) -> String {
    indicatif::HumanBytes(number).to_string()
}
