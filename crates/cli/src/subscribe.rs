//! `roomcast sub`: what is published in rooms, one JSON a line.

use std::time::Duration;

use clap::Args;
use roomcast_client::{Client, Event};

use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::target::{self, TargetArgs};
use crate::token::Identity;
use crate::units;

/// `roomcast sub`.
#[derive(Args, Debug)]
pub(crate) struct Sub {
    #[command(flatten)]
    target: TargetArgs,
    /// The rooms
    #[arg(required = true)]
    rooms: Vec<String>,
    /// End after so many publications
    #[arg(long, short = 'n')]
    count: Option<u64>,
    /// End after this time; with --count, too few by then is exit code 4
    #[arg(long, value_parser = units::duration)]
    timeout: Option<Duration>,
    /// Print only payloads of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &Sub) -> Result<(), Failure> {
    target::runtime()?.block_on(async {
        let identity = || Identity::viewer(args.target.user_or("cli"));
        let client = args.target.connect(identity).await?;
        let heard = tokio::select! {
            heard = hear(args, &client) => heard,
            timed_out = time_out(args) => timed_out,
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from),
        };
        client.close().await;
        heard
    })
}

async fn time_out(args: &Sub) -> Result<(), Failure> {
    let Some(timeout) = args.timeout else { return std::future::pending().await };
    tokio::time::sleep(timeout).await;
    match args.count {
        None => Ok(()),
        Some(count) => Err(Failure::Timeout(format!(
            "fewer than {count} publications in {:.3} s",
            timeout.as_secs_f64()
        ))),
    }
}

async fn hear(args: &Sub, client: &Client) -> Result<(), Failure> {
    for room in &args.rooms {
        client.join(room).await?;
        tracing::info!(%room, "joined");
    }
    let mut left = args.count;
    while left != Some(0) {
        match client.next().await {
            Some(Event::Publication(publication)) => {
                if args.kind.as_ref().is_some_and(|kind| *kind != publication.kind) {
                    continue;
                }
                if output::json_line(&publication)? == Reader::Gone {
                    return Ok(());
                }
                left = left.map(|left| left.saturating_sub(1));
            }
            Some(Event::Closed(closed)) => {
                return Err(Failure::from(roomcast_client::Error::Closed(closed)));
            }
            None => return Err(Failure::Failed("the connection is closed".into())),
            Some(Event::Error(refused)) => tracing::warn!(code = refused.code, "{refused}"),
            Some(Event::Gap { room, reason }) => {
                tracing::warn!(room, reason, "publications were lost");
            }
            Some(Event::Degraded { isolated: true }) => {
                tracing::warn!("the node is cut off: only what its own clients publish is heard");
            }
            Some(Event::Degraded { isolated: false }) => {
                tracing::info!("the node hears the others again");
            }
            Some(Event::TokenExpiring { expires_at }) => {
                tracing::warn!(expires_at, "the token runs out");
            }
            Some(Event::Other(message)) => {
                tracing::debug!(
                    kind = message.get("type").and_then(|kind| kind.as_str()),
                    "passed"
                );
            }
            Some(Event::Pong) => {}
        }
    }
    Ok(())
}
