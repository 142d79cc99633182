//! The binary `roomcast`: reads the command line and hands over. Owns no behaviour of the node; every command prints
//! data on stdout, logs on stderr, and ends with a documented exit code.

mod agent;
mod bench;
mod failure;
mod limits;
mod logs;
mod output;
mod publish;
mod subscribe;
mod target;
mod token;
mod units;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Fan-out makes many small buffers on several threads, which the system's allocator keeps apart badly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A real-time message gateway: rooms, publications, members.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "\
Try it:
  roomcast serve --dev &                 an open node on 127.0.0.1:8080
  roomcast sub --dev agents              hear a room
  roomcast agent --dev                   publish this machine's figures into it
  roomcast pub --dev system '\"hello\"'    publish something yourself

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (token or right), 4 timed out.
Data goes to stdout, logs to stderr. NO_COLOR is respected."
)]
struct Cli {
    /// Write records as JSON where the default is text
    #[arg(long, global = true)]
    json: bool,
    /// What to log: error, warn, info, debug, trace, or targets with levels
    #[arg(long, global = true, env = "ROOMCAST_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mint and verify tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Publish into a room
    #[command(after_help = "Examples:
  roomcast pub --dev alerts --type alert_triggered '{\"alert_id\":1,\"severity\":\"low\",\"title\":\"disk\"}'
  tail -f log.jsonl | roomcast pub --token \"$TOKEN\" tasks -")]
    Pub(publish::Pub),
    /// Hear rooms, one JSON a line
    #[command(after_help = "Examples:
  roomcast sub --dev agents | jq .data.cpu_usage
  roomcast sub --dev system alerts --count 1 --timeout 10s")]
    Sub(subscribe::Sub),
    /// Publish this machine's figures each second
    #[command(after_help = "Examples:
  roomcast agent --dev
  roomcast agent --token \"$TOKEN\" --id 7 --interval 5s")]
    Agent(agent::Agent),
    /// Measure a node: latency, loss, order, processor time per delivery, memory per connection
    #[command(after_help = "Examples:
  roomcast bench paced                         a node of its own, 1 room of 1,000 at 20/s
  roomcast bench small-rooms --duration 20s --json
  roomcast bench --url ws://127.0.0.1:8080/ws --pid 4711 --rooms 10 --members 50 --rate 200
  roomcast bench bars                          every bar against its floor")]
    Bench(Box<bench::Bench>),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where stderr is gone as well, the exit code still says it.
            drop(writeln!(std::io::stderr().lock(), "roomcast: {failure}"));
            failure.exit_code()
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let quiet = match cli.command {
        Command::Agent(_) | Command::Bench(_) => "info",
        Command::Token(_) | Command::Pub(_) | Command::Sub(_) => "warn",
    };
    logs::start(cli.log.as_deref().unwrap_or(quiet))?;
    match &cli.command {
        Command::Token(command) => token::run(command, cli.json),
        Command::Pub(args) => publish::run(args),
        Command::Sub(args) => subscribe::run(args),
        Command::Agent(args) => agent::run(args),
        Command::Bench(args) => bench::run(args, cli.json),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Cli::command().debug_assert();
    }
}
