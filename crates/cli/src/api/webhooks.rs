//! `roomcast webhooks dead` and `replay`: what the application could not be told, one dead letter a line, and telling it
//! again.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ApiArgs;
use crate::failure::Failure;
use crate::output::{self, Reader};

/// `roomcast webhooks`.
#[derive(Debug, Subcommand)]
pub(crate) enum WebhooksCommand {
    /// List what the application could not be told, one dead letter a line
    #[command(after_help = "\
Examples:
  roomcast webhooks dead | jq -r '\"\\(.id) \\(.why) \\(.event.type) \\(.event.subject)\"'
  roomcast webhooks dead --after 41 --limit 10")]
    Dead(Dead),
    /// Tell the application again
    #[command(after_help = "\
Examples:
  roomcast webhooks replay --all
  roomcast webhooks replay 41 42

`queued` are tried again, and listed until they are delivered; `left` are not: they are under way already, are not listed
any more, have no webhook on that node, or find no place now.")]
    Replay(Replay),
}

/// `roomcast webhooks dead`.
#[derive(Args, Debug)]
pub(crate) struct Dead {
    #[command(flatten)]
    api: ApiArgs,
    /// Those behind this id
    #[arg(long, value_name = "ID", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=9_007_199_254_740_991))]
    after: u64,
    /// How many of them one question asks for
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=256))]
    limit: u64,
}

/// `roomcast webhooks replay`.
#[derive(Args, Debug)]
pub(crate) struct Replay {
    #[command(flatten)]
    api: ApiArgs,
    /// Which, by their ids; at most 1000
    #[arg(required_unless_present = "all", conflicts_with = "all", num_args = 1..=1000)]
    ids: Vec<u64>,
    /// All that are listed
    #[arg(long)]
    all: bool,
}

/// Runs it.
pub(crate) fn run(command: &WebhooksCommand) -> Result<(), Failure> {
    match command {
        WebhooksCommand::Dead(args) => dead(args),
        WebhooksCommand::Replay(args) => {
            let answer = args.api.connect()?.post(REPLAY, None, &wish(args).to_string())?;
            output::json_line(&answer).map(|_| ())
        }
    }
}

const DEAD: &str = "/api/v1/webhooks/dead";
const REPLAY: &str = "/api/v1/webhooks/dead/replay";

fn dead(args: &Dead) -> Result<(), Failure> {
    let mut api = args.api.connect()?;
    let mut after = args.after;
    loop {
        let page = api.get(&format!("{DEAD}?after={after}&limit={}", args.limit))?;
        for letter in page.get("dead").and_then(Value::as_array).into_iter().flatten() {
            if output::json_line(letter)? == Reader::Gone {
                return Ok(());
            }
        }
        // Ids only rise, so it ends even if the node errs.
        match page.get("next").and_then(Value::as_u64) {
            Some(next) if next > after => after = next,
            Some(_) | None => return Ok(()),
        }
    }
}

fn wish(args: &Replay) -> Value {
    if args.all { json!({}) } else { json!({ "ids": args.ids }) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: WebhooksCommand,
    }

    fn asked(line: &str) -> Option<Value> {
        let cli = Cli::try_parse_from(["webhooks"].into_iter().chain(line.split(' '))).ok()?;
        match cli.command {
            WebhooksCommand::Dead(args) => Some(json!([args.after, args.limit])),
            WebhooksCommand::Replay(args) => Some(wish(&args)),
        }
    }

    #[test]
    fn a_replay_names_dead_letters_or_all() {
        for (line, expected) in [
            ("replay 7 9", Some(json!({"ids": [7, 9]}))),
            ("replay --all", Some(json!({}))),
            ("replay", None),
            ("replay 7 --all", None),
            ("replay seven", None),
            ("dead", Some(json!([0, 100]))),
            ("dead --after 7 --limit 256", Some(json!([7, 256]))),
            ("dead --limit 257", None),
            ("dead --limit 0", None),
        ] {
            assert_eq!(asked(line), expected, "{line}");
        }
    }
}
