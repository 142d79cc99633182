//! `roomcast pub --batch`: envelopes from a file or from stdin, many at once. And how what became of several is told.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Api, ApiArgs};
use crate::failure::Failure;
use crate::output::{self, Reader};

/// Publications of one request. Source: the defaults of `limits.api_batch` and `limits.api_batch_bytes`.
const COUNT_MAX: usize = 100;
const BYTES_MAX: usize = 900 << 10;

/// Publishes each line of a file, `-` for stdin, as it stands: a native envelope with `room` and `type`. With `id` the
/// batches have keys of their own under it, so that the same file may be sent again.
pub(crate) fn run(args: &ApiArgs, file: &Path, id: Option<&str>) -> Result<(), Failure> {
    let mut api = args.connect()?;
    let (mut batches, mut tally) = (Batches::default(), Tally::default());
    for (number, line) in open(file)?.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        // Here, so that a slip is told with its line, and spoils no other.
        serde_json::from_str::<&RawValue>(&line).map_err(|cause| {
            Failure::Usage(format!("line {} is no JSON value: {cause}", number + 1))
        })?;
        if let Some(body) = batches.add(&line)
            && batches.send(&mut api, id, &body, &mut tally)? == Reader::Gone
        {
            return Ok(());
        }
    }
    if let Some(body) = batches.take() {
        batches.send(&mut api, id, &body, &mut tally)?;
    }
    tally.verdict("publications")
}

fn open(file: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let failed = |cause| Failure::failed(&format!("{} cannot be read", file.display()), &cause);
    Ok(Box::new(BufReader::new(File::open(file).map_err(failed)?)))
}

/// Lines on their way into bodies. Bounds: [`COUNT_MAX`] lines, [`BYTES_MAX`], or one line that is longer.
#[derive(Default)]
struct Batches {
    lines: String,
    count: usize,
    sent: usize,
}

impl Batches {
    /// Takes a line; gives the body of those before it where there is no place for it among them.
    fn add(&mut self, line: &str) -> Option<String> {
        let full = self.count >= COUNT_MAX || self.lines.len() + line.len() > BYTES_MAX;
        let body = if full { self.take() } else { None };
        if !self.lines.is_empty() {
            self.lines.push(',');
        }
        self.lines.push_str(line);
        self.count += 1;
        body
    }

    /// The body of what waits.
    fn take(&mut self) -> Option<String> {
        let lines = std::mem::take(&mut self.lines);
        self.count = 0;
        (!lines.is_empty()).then(|| format!("{{\"publications\":[{lines}]}}"))
    }

    fn send(
        &mut self,
        api: &mut Api,
        id: Option<&str>,
        body: &str,
        tally: &mut Tally,
    ) -> Result<Reader, Failure> {
        self.sent += 1;
        let once = id.map(|id| format!("{id}-{}", self.sent));
        tally.print(&api.post("/api/v1/batch", once.as_deref(), body)?)
    }
}

/// How many of several were published.
#[derive(Default)]
pub(super) struct Tally {
    all: usize,
    refused: usize,
}

impl Tally {
    /// Prints each result on a line of its own.
    pub(super) fn print(&mut self, answer: &Value) -> Result<Reader, Failure> {
        for result in answer["results"].as_array().into_iter().flatten() {
            self.all += 1;
            self.refused += usize::from(result["status"] != 200);
            if output::json_line(result)? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        Ok(Reader::Listening)
    }

    /// Errors: some were not published.
    pub(super) fn verdict(&self, what: &str) -> Result<(), Failure> {
        if self.refused == 0 {
            return Ok(());
        }
        let text = format!("{} of {} {what} failed: see the lines", self.refused, self.all);
        Err(Failure::Failed(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_leaves_before_the_next_line_is_taken() {
        let mut batches = Batches::default();
        assert!((0..COUNT_MAX).all(|_| batches.add("1").is_none()));
        let body = batches.add("2").unwrap();
        assert_eq!(body.matches('1').count(), COUNT_MAX);
        assert_eq!(batches.take().unwrap(), "{\"publications\":[2]}");
        assert_eq!(batches.take(), None);
    }

    #[test]
    fn lines_of_the_most_bytes_go_together_and_one_byte_more_goes_later() {
        let line = |size| "1".repeat(size);
        for (size, together) in [(BYTES_MAX - 1, true), (BYTES_MAX, false)] {
            let mut batches = Batches::default();
            assert_eq!(batches.add("1"), None);
            assert_eq!(batches.add(&line(size)).is_none(), together);
        }
    }
}
