//! `roomcast history`: what a room keeps, one publication a line.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{ApiArgs, segment};
use crate::failure::Failure;
use crate::output::{self, Reader};

/// Publications of one question. Source: docs/API.md, "History".
const PAGE_MAX: u64 = 256;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DirectionArg {
    /// The newest first
    Backward,
    /// The oldest first
    Forward,
}

/// `roomcast history`.
#[derive(Args, Debug)]
pub(crate) struct History {
    #[command(flatten)]
    api: ApiArgs,
    /// The room
    room: String,
    /// Those behind this offset, in the direction of reading
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(u64).range(..=9_007_199_254_740_991))]
    from: Option<u64>,
    /// Which come first
    #[arg(long, value_enum, default_value = "backward")]
    direction: DirectionArg,
    /// How many publications at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// All that the room keeps
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Runs it.
pub(crate) fn run(args: &History) -> Result<(), Failure> {
    let mut api = args.api.connect()?;
    let mut left = if args.all { u64::MAX } else { args.limit };
    let mut from = args.from;
    loop {
        let page = api.get(&path(args, from, left.min(PAGE_MAX)))?;
        for publication in page.get("publications").and_then(Value::as_array).into_iter().flatten()
        {
            if output::json_line(publication)? == Reader::Gone {
                return Ok(());
            }
            left = left.saturating_sub(1);
        }
        // Offsets only rise, or only fall, so it ends even if the node errs.
        match page.get("next").and_then(Value::as_u64) {
            Some(next) if left > 0 && goes_on(args.direction, from, next) => from = Some(next),
            Some(_) | None => return Ok(()),
        }
    }
}

fn goes_on(direction: DirectionArg, from: Option<u64>, next: u64) -> bool {
    from.is_none_or(|from| match direction {
        DirectionArg::Backward => next < from,
        DirectionArg::Forward => next > from,
    })
}

fn path(args: &History, from: Option<u64>, limit: u64) -> String {
    let direction = match args.direction {
        DirectionArg::Backward => "backward",
        DirectionArg::Forward => "forward",
    };
    let from = from.map_or(String::new(), |from| format!("&from={from}"));
    let room = segment(&args.room);
    format!("/api/v1/rooms/{room}/history?direction={direction}&limit={limit}{from}")
}
