//! Data on stdout, one record a line. A reader that has heard enough (`| head`) is no failure.

use std::io::{self, ErrorKind, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Whether anybody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Go on.
    Listening,
    /// The pipe is closed: stop quietly.
    Gone,
}

/// Writes one JSON record as one line.
pub(crate) fn json_line(record: &impl Serialize) -> Result<Reader, Failure> {
    let text =
        serde_json::to_string(record).map_err(|cause| Failure::failed("cannot write", &cause))?;
    line(&text)
}

/// Writes one line for a person, on stderr.
pub(crate) fn note(text: &str) {
    // Where stderr is gone nobody reads it.
    drop(writeln!(io::stderr().lock(), "roomcast: {text}"));
}

/// Writes one line of text.
pub(crate) fn line(text: &str) -> Result<Reader, Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Listening),
        Err(cause) if cause.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(cause) => Err(Failure::failed("cannot write to stdout", &cause)),
    }
}
