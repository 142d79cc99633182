//! The binary `roomcast`: reads the command line and hands over. Owns no behaviour of the node; every command prints
//! data on stdout, logs on stderr, and ends with a documented exit code.

mod agent;
mod bench;
mod failure;
mod limits;
mod logs;
mod notices;
mod output;
mod pages;
mod presence;
mod publish;
mod receipts;
mod redis_url;
mod serve;
mod settings;
mod subscribe;
mod target;
mod token;
mod unasked;
mod units;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::logs::Form;

/// A real-time message gateway: rooms, publications, members.
#[derive(Debug, Parser)]
#[command(
    version,
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
    /// Run a node
    #[command(after_help = "Examples:
  roomcast serve --dev                                     open, on 127.0.0.1:8080, with a demo page
  roomcast serve --config roomcast.toml
  roomcast serve --dev --redis redis://127.0.0.1:6379      one of several nodes
  roomcast serve --dev --public 127.0.0.1:0 --set limits.connections_per_ip=5000 --ready-file node.json

SIGTERM lets clients go one after the other ([drain]), SIGINT stops it at once but cleanly; a second one of either quits.")]
    Serve(serve::Serve),
    /// Say whether a configuration is good, and what is wrong with it
    #[command(after_help = "Example:
  roomcast check-config --config roomcast.toml")]
    CheckConfig(settings::ConfigArgs),
    /// Print the configuration in force, or a commented example
    #[command(subcommand)]
    Config(settings::ConfigCommand),
    /// Mint and verify tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Publish into a room
    #[command(after_help = "Examples:
  roomcast pub --dev alerts --type alert_triggered '{\"alert_id\":1,\"severity\":\"low\",\"title\":\"disk\"}'
  tail -f log.jsonl | roomcast pub --token \"$TOKEN\" tasks -")]
    Pub(publish::Pub),
    /// Hear rooms, one JSON a line
    #[command(after_help = "\
Examples:
  roomcast sub --dev agents | jq .data.cpu_usage
  roomcast sub --dev system alerts --count 1 --timeout 10s
  roomcast sub --dev --follow agents tasks      comes back by itself, with what it missed
  roomcast sub --follow --token \"$TOKEN\" user-7 --device phone

Beside publications a line tells what happened to a room, by its `type`:
  skip      publications that you do not get, and why (expired, filtered, conflated, acked, removed, unreadable)
  gap       publications that are lost: load anew what must not be missed
  lost      unread publications that your inbox could not keep
  presence  users who came and went
  receipt   users who have got, or read, more
  resumed   with --follow, all rooms are heard again; `recovered` says whether nothing is missing
With --follow it ends after 10 attempts in a row that failed, and with a token that is no good.")]
    Sub(subscribe::Sub),
    /// Show who is in a room, one JSON a page
    #[command(after_help = "\
Examples:
  roomcast presence --dev demo-team
  roomcast presence --token \"$TOKEN\" team-7 --limit 100 | jq -r '.users[]'

A room tells who is in it (`users`), their number alone (`count`), or nothing (refused with 102), as its rule says
(`presence`). Of the rooms without a rule of your own only demo-team does, with --dev.
`next` is the user behind whom the following page begins.")]
    Presence(presence::Presence),
    /// Show how far users have got, and read, a room, one JSON a page
    #[command(after_help = "\
Examples:
  roomcast receipts --dev demo-team
  roomcast receipts --token \"$TOKEN\" team-7 --of 41 | jq -r '.receipts[] | select(.read) | .user'

A room whose rule has `receipts = true` (with --dev: demo-team) remembers for each user up to which offset it was `delivered` and is `read`, and when
that was marked first. With --of it tells of one publication: who has got and read it, and since when.
`next` is the user behind whom the following page begins.")]
    Receipts(receipts::Receipts),
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
    let log = cli.log.as_deref();
    let start_logs = |level| logs::start(log.unwrap_or(level), Form::Auto);
    match cli.command {
        // The node's configuration says what to log.
        Command::Serve(_) => {}
        Command::Agent(_) | Command::Bench(_) => start_logs("info")?,
        Command::CheckConfig(_)
        | Command::Config(_)
        | Command::Token(_)
        | Command::Pub(_)
        | Command::Presence(_)
        | Command::Receipts(_)
        | Command::Sub(_) => start_logs("warn")?,
    }
    match &cli.command {
        Command::Serve(args) => serve::run(args, log, cli.json),
        Command::CheckConfig(args) => settings::check(args),
        Command::Config(command) => settings::run(command),
        Command::Token(command) => token::run(command, cli.json),
        Command::Pub(args) => publish::run(args),
        Command::Sub(args) => subscribe::run(args),
        Command::Presence(args) => presence::run(args),
        Command::Receipts(args) => receipts::run(args),
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
