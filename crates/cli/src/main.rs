//! The binary `roomcast`: reads the command line and hands over. Owns no behaviour of the node; every command prints
//! data on stdout, logs on stderr, and ends with a documented exit code.

mod agent;
mod api;
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
mod request;
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
  tail -f log.jsonl | roomcast pub --token \"$TOKEN\" tasks -
  roomcast pub --batch notes.jsonl --id import-7       many at once, by the server API

With --batch each line is an envelope, `{\"room\":\"tasks\",\"type\":\"note\",\"data\":..}`, a hundred of them a request; what became of
each is printed in their order, and exit code 1 says that some were refused. With --id the same file sent again within 120 s
is published once.")]
    Pub(publish::Pub),
    /// Hear rooms, one JSON a line
    #[command(after_help = "\
Examples:
  roomcast sub --dev agents | jq .data.cpu_usage
  roomcast sub --dev system alerts --count 1 --timeout 10s
  roomcast sub --dev --follow agents tasks      comes back by itself, with what it missed
  roomcast sub --follow --token \"$TOKEN\" user-7 --device phone

Beside publications a line tells what happened to a room, by its `type`:
  skip      publications that you do not get, and why (expired, filtered, conflated, acked, removed,
            own, unreadable)
  gap       publications that are lost: load anew what must not be missed
  lost      unread publications that your inbox could not keep
  presence  users who came and went
  receipt   users who have got, or read, more
  resumed   with --follow, all rooms are heard again; `recovered` says whether nothing is missing
With --follow it ends after 10 attempts in a row that failed, and with a token that is no good.")]
    Sub(subscribe::Sub),
    /// Publish one payload into several rooms at once, by the server API
    #[command(after_help = "\
Examples:
  roomcast broadcast system,alerts --type note '{\"text\":\"back at nine\"}'
  roomcast broadcast --key \"$KEY\" news-1,news-2 '\"hello\"' --id morning-1

Prints what became of it, one JSON a room; exit code 1 if any room did not take it. It speaks to the internal port
(--api, ROOMCAST_API); a node started with `serve --dev` needs no key there.")]
    Broadcast(api::broadcast::Broadcast),
    /// Show what a room keeps, one publication a line
    #[command(after_help = "\
Examples:
  roomcast history demo-team --limit 5                     the newest five
  roomcast history demo-team --direction forward --all     everything, oldest first
  roomcast history demo-team --direction forward --from 41 what came behind offset 41

It speaks to the internal port (--api, ROOMCAST_API) with a key that has the action `history`; a node started with
`serve --dev` needs none. Only rooms whose rule has `history` keep anything (with --dev: demo-team).
`metadata.offset` of a publication is its place; an `epoch` that changes means that the stream began anew there.")]
    History(api::history::History),
    /// List the rooms of all nodes, one JSON a page
    #[command(after_help = "\
Examples:
  roomcast rooms
  roomcast rooms --prefix agent- | jq -r '.rooms[] | \"\\(.members) \\(.room)\"'

A room is listed while it has members. `unanswered` names nodes that did not answer in time; then the exit code is 4.
Speaks to the internal port (--api, ROOMCAST_API) with a key that has the action `rooms`.")]
    Rooms(api::lists::Rooms),
    /// List the connections of all nodes, one JSON a page
    #[command(after_help = "\
Example:
  roomcast connections | jq -r '.connections[].user' | sort | uniq -c | sort -n

Speaks to the internal port (--api, ROOMCAST_API) with a key that has the action `connections`.")]
    Connections(api::lists::Connections),
    /// List the sessions of a user, one JSON a page
    #[command(after_help = "\
Example:
  roomcast sessions 7 | jq -r '.sessions[].session'

Speaks to the internal port (--api, ROOMCAST_API) with a key that has the action `connections`.")]
    Sessions(api::lists::Sessions),
    /// End the sessions of a user, or one session, on all nodes
    #[command(after_help = "\
Examples:
  roomcast disconnect 7
  roomcast disconnect --session 0f0e3c5a9b7d4e21a6c8d2f4b1903e57 --timeout 1s

Clients are closed with 4101 and do not come back by themselves; their tokens stay good (see revoke). Each node says when
it is done: `unanswered` names those that have not, which obey before they deliver anything; then the exit code is 4.")]
    Disconnect(api::orders::Disconnect),
    /// Refuse a user's tokens, or one token, and end the sessions that hold one
    #[command(after_help = "\
Examples:
  roomcast revoke 7                      all that were issued before now
  roomcast revoke 7 --before 1790000000
  roomcast revoke --jti 6f2c1e0e

Clients are closed with 4001; they come back with a new token. Exit code 4: some nodes have not confirmed it in time.")]
    Revoke(api::orders::Revoke),
    /// Put a user's sessions, or one, into a room, as far as their own rights allow it
    #[command(after_help = "\
Examples:
  roomcast subscribe task-17 7
  roomcast subscribe task-17 --session 0f0e3c5a9b7d4e21a6c8d2f4b1903e57

`refused` counts sessions that may not join it. Exit code 4: some nodes have not confirmed it in time.")]
    Subscribe(api::orders::Move),
    /// Take a user's sessions, or one, out of a room
    #[command(after_help = "\
Example:
  roomcast unsubscribe task-17 7

What to do when a user has lost a right before its token ends. Exit code 4: some nodes have not confirmed it in time.")]
    Unsubscribe(api::orders::Move),
    /// List what the application could not be told, and tell it again
    #[command(
        subcommand,
        after_help = "\
Speaks to the internal port (--api, ROOMCAST_API) with a key that has the action `webhooks`; all nodes list the same."
    )]
    Webhooks(api::webhooks::WebhooksCommand),
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
    /// Ask the application through the node
    #[command(after_help = "\
Examples:
  roomcast request --dev report.daily '{\"day\":\"2026-11-27\"}'
  roomcast request --token \"$TOKEN\" who | jq .body

Prints one JSON: the `status` that the application answered with, its `body`, and whether it is `stale`, that is kept from
before because the application cannot be asked. Which back-end serves which method is in the node's configuration:

  [[upstream.targets]]
  name = \"app\"
  url = \"http://127.0.0.1:8000\"
  [[upstream.calls]]
  name = \"reports\"
  target = \"app\"
  path = \"/reports\"
  [[upstream.requests]]
  methods = [\"report.*\"]
  call = \"reports\"

Exit codes beside the others: 1 also where the application answered with a status of 400 or more.")]
    Request(request::Request),
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
        | Command::Broadcast(_)
        | Command::History(_)
        | Command::Rooms(_)
        | Command::Connections(_)
        | Command::Sessions(_)
        | Command::Disconnect(_)
        | Command::Revoke(_)
        | Command::Subscribe(_)
        | Command::Unsubscribe(_)
        | Command::Webhooks(_)
        | Command::Presence(_)
        | Command::Receipts(_)
        | Command::Request(_)
        | Command::Sub(_) => start_logs("warn")?,
    }
    match &cli.command {
        Command::Serve(args) => serve::run(args, log, cli.json),
        Command::CheckConfig(args) => settings::check(args),
        Command::Config(command) => settings::run(command),
        Command::Token(command) => token::run(command, cli.json),
        Command::Pub(args) => publish::run(args),
        Command::Sub(args) => subscribe::run(args),
        Command::Broadcast(args) => api::broadcast::run(args),
        Command::History(args) => api::history::run(args),
        Command::Rooms(args) => api::lists::rooms(args),
        Command::Connections(args) => api::lists::connections(args),
        Command::Sessions(args) => api::lists::sessions(args),
        Command::Disconnect(args) => api::orders::disconnect(args),
        Command::Revoke(args) => api::orders::revoke(args),
        Command::Subscribe(args) => api::orders::subscribe(args),
        Command::Unsubscribe(args) => api::orders::unsubscribe(args),
        Command::Webhooks(command) => api::webhooks::run(command),
        Command::Presence(args) => presence::run(args),
        Command::Receipts(args) => receipts::run(args),
        Command::Request(args) => request::run(args),
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
