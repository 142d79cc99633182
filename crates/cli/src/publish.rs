//! `roomcast pub`: payloads from the command line or from stdin into a room.

use std::io::BufRead as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use roomcast_client::{Client, Event, Priority, PublishOptions, Session, SessionEvent};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api::{ApiArgs, batch};
use crate::failure::Failure;
use crate::notices;
use crate::output::{self, Reader};
use crate::target::{self, TargetArgs};
use crate::token::Identity;

/// Lines read ahead of what the node has acked.
const LINES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PriorityArg {
    High,
    Normal,
    Low,
}

/// `roomcast pub`.
#[derive(Args, Debug)]
pub(crate) struct Pub {
    #[command(flatten)]
    target: TargetArgs,
    /// The room
    #[arg(required_unless_present = "batch")]
    room: Option<String>,
    /// Publish the envelopes of a file by the server API, one a line; `-` reads them from stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["room", "data", "kind", "priority", "ttl", "requires", "no_ack"])]
    batch: Option<PathBuf>,
    #[command(flatten)]
    api: ApiArgs,
    /// The payload: JSON, other text is sent as a JSON string; `-` reads one JSON value a line from stdin
    #[arg(default_value = "-")]
    data: String,
    /// The publication's type
    #[arg(long = "type", value_name = "TYPE", default_value = "message")]
    kind: String,
    /// Its id: the same id again is published once (with `-`, line n gets `ID-n`)
    #[arg(long)]
    id: Option<String>,
    /// Its class
    #[arg(long, value_enum)]
    priority: Option<PriorityArg>,
    /// Seconds after which it is not delivered any more
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u32>,
    /// Permissions a member must hold to get it, separated by commas
    #[arg(long, value_delimiter = ',')]
    requires: Vec<String>,
    /// Send it once and do not wait for the node's ack; else it is sent until the node has it, for at most 110 s
    #[arg(long)]
    no_ack: bool,
}

impl Pub {
    fn options(&self, line: Option<usize>) -> PublishOptions {
        PublishOptions {
            ack: !self.no_ack,
            id: match (&self.id, line) {
                (Some(id), Some(line)) => Some(format!("{id}-{line}")),
                (id, _) => id.clone(),
            },
            priority: self.priority.map(|priority| match priority {
                PriorityArg::High => Priority::High,
                PriorityArg::Normal => Priority::Normal,
                PriorityArg::Low => Priority::Low,
            }),
            ttl_s: self.ttl,
            requires: self.requires.clone(),
            correlation_id: None,
        }
    }
}

/// Whom it is published through.
enum Through<'a> {
    /// A session, which sends until the node has acked.
    Session(&'a Session),
    /// One connection, which sends once.
    Client(&'a Client),
}

/// Runs it.
pub(crate) fn run(args: &Pub) -> Result<(), Failure> {
    if let Some(file) = &args.batch {
        return batch::run(&args.api, file, args.id.as_deref());
    }
    let user = args.target.user_or("cli");
    let identity = move || Identity::backend(user.clone());
    target::runtime()?.block_on(async {
        if args.no_ack {
            let client = args.target.connect(identity).await?;
            let through = Through::Client(&client);
            // Refusals first: without acks they are the only sign that something went wrong.
            let published = tokio::select! {
                biased;
                failure = watch(&client) => Err(failure),
                published = publish_all(args, &through) => published,
            };
            client.close().await;
            return published;
        }
        let session = args.target.session(None, identity).await?;
        let through = Through::Session(&session);
        let published = tokio::select! {
            published = publish_all(args, &through) => published,
            failure = keep(&session) => Err(failure),
        };
        session.close().await;
        published
    })
}

async fn publish_all(args: &Pub, through: &Through<'_>) -> Result<(), Failure> {
    if args.data != "-" {
        let data = serde_json::from_str(&args.data).unwrap_or_else(|_| json!(args.data));
        publish(args, through, &data, None).await?;
        return settle(through).await;
    }
    let mut lines = stdin_lines()?;
    let mut number = 0_usize;
    while let Some(line) = lines.recv().await {
        number += 1;
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let data: Value = serde_json::from_str(&line).map_err(|cause| {
            Failure::Usage(format!("line {number} of stdin is no JSON value: {cause}"))
        })?;
        if publish(args, through, &data, Some(number)).await? == Reader::Gone {
            break;
        }
    }
    settle(through).await
}

/// Without acks, a ping answered proves that everything before it was read; refusals came before its pong.
async fn settle(through: &Through<'_>) -> Result<(), Failure> {
    match through {
        Through::Session(_) => {}
        Through::Client(client) => drop(client.ping().await?),
    }
    Ok(())
}

async fn publish(
    args: &Pub,
    through: &Through<'_>,
    data: &Value,
    line: Option<usize>,
) -> Result<Reader, Failure> {
    let options = args.options(line);
    // Without one clap lets through a batch alone.
    let room = args.room.as_deref().unwrap_or_default();
    let published = match through {
        Through::Session(session) => session.publish(room, &args.kind, data, &options).await,
        Through::Client(client) => client.publish(room, &args.kind, data, &options).await,
    };
    output::json_line(&published?)
}

/// Takes a session's events, and says when it comes back; ends with it.
async fn keep(session: &Session) -> Failure {
    while let Some(event) = session.next().await {
        notices::tell(&event);
        if let SessionEvent::Closed(closed) = event {
            return roomcast_client::Error::Closed(closed).into();
        }
    }
    Failure::Failed("the session is over".into())
}

/// Takes events so that none clogs the queue; ends with the first refusal or with the connection.
async fn watch(client: &Client) -> Failure {
    loop {
        match client.next().await {
            Some(Event::Error(refused)) => {
                return Failure::from(roomcast_client::Error::Refused(refused));
            }
            Some(Event::Closed(closed)) => {
                return Failure::from(roomcast_client::Error::Closed(closed));
            }
            None => return Failure::Failed("the connection is closed".into()),
            Some(
                Event::Publication(_)
                | Event::Pong
                | Event::TokenExpiring { .. }
                | Event::Gap { .. }
                | Event::Skip { .. }
                | Event::Lost { .. }
                | Event::Presence(_)
                | Event::Receipts(_)
                | Event::Drain(_)
                | Event::Joined(_)
                | Event::Left { .. }
                | Event::Degraded { .. }
                | Event::Other(_),
            ) => {}
        }
    }
}

/// Reads stdin on a thread of its own: blocking reads must not hold up acks and pings.
fn stdin_lines() -> Result<mpsc::Receiver<std::io::Result<String>>, Failure> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    // Not joined: it may wait in a read that never ends, and leaves with the process.
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    })?;
    Ok(lines)
}
