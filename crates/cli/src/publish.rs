//! `roomcast pub`: payloads from the command line or from stdin into a room.

use std::io::BufRead as _;

use clap::{Args, ValueEnum};
use roomcast_client::{Client, Event, Priority, PublishOptions};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::failure::Failure;
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
    room: String,
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
    /// Do not wait for the node's ack
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

/// Runs it.
pub(crate) fn run(args: &Pub) -> Result<(), Failure> {
    target::runtime()?.block_on(async {
        let identity = || Identity::backend(args.target.user_or("cli"));
        let client = args.target.connect(identity).await?;
        // Refusals first: without acks they are the only sign that something went wrong.
        let published = tokio::select! {
            biased;
            failure = watch(&client) => Err(failure),
            published = publish_all(args, &client) => published,
        };
        client.close().await;
        published
    })
}

async fn publish_all(args: &Pub, client: &Client) -> Result<(), Failure> {
    if args.data != "-" {
        let data = serde_json::from_str(&args.data).unwrap_or_else(|_| json!(args.data));
        publish(args, client, &data, None).await?;
        return settle(args, client).await;
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
        if publish(args, client, &data, Some(number)).await? == Reader::Gone {
            break;
        }
    }
    settle(args, client).await
}

/// Without acks, a ping answered proves that everything before it was read; refusals came before its pong.
async fn settle(args: &Pub, client: &Client) -> Result<(), Failure> {
    if args.no_ack {
        client.ping().await?;
    }
    Ok(())
}

async fn publish(
    args: &Pub,
    client: &Client,
    data: &Value,
    line: Option<usize>,
) -> Result<Reader, Failure> {
    let options = args.options(line);
    let published = client.publish(&args.room, &args.kind, data, &options).await?;
    output::json_line(&published)
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
                | Event::Joined(_)
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
