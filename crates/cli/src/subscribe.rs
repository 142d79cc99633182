//! `roomcast sub`: what is published in rooms, one JSON a line.

use std::time::Duration;

use clap::Args;
use roomcast_client::{Client, Event, Joined, Position};
use serde_json::json;

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
    /// Begin with what was published behind this position, as its metadata tell it (one room with a history)
    #[arg(long, value_name = "EPOCH:OFFSET", value_parser = position)]
    since: Option<Position>,
}

/// Reads `EPOCH:OFFSET`.
fn position(text: &str) -> Result<Position, String> {
    let parts = text.split_once(':').filter(|(epoch, _)| !epoch.is_empty());
    let parts = parts.and_then(|(epoch, offset)| Some((epoch, offset.parse().ok()?)));
    let (epoch, offset) = parts.ok_or_else(|| {
        format!("{text:?} is no position; write EPOCH:OFFSET, both as `metadata` of a publication has them")
    })?;
    Ok(Position { epoch: epoch.to_owned(), offset })
}

/// Runs it.
pub(crate) fn run(args: &Sub) -> Result<(), Failure> {
    if args.since.is_some() && args.rooms.len() > 1 {
        let text = "--since is a position in one room: name one room, or leave --since out";
        return Err(Failure::Usage(text.into()));
    }
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
        let joined = match &args.since {
            None => client.join(room).await?,
            Some(since) => client.join_since(room, since).await?,
        };
        tell_of(&joined);
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
            Some(Event::Gap { room, reason, position }) => {
                tracing::warn!(room, reason, "publications were lost");
                let data = match room {
                    Some(room) => json!({"room": room, "reason": reason}),
                    None => json!({"reason": reason}),
                };
                let gap = json!({"type": "gap", "data": data, "metadata": position});
                if args.kind.is_none() && output::json_line(&gap)? == Reader::Gone {
                    return Ok(());
                }
            }
            Some(Event::Skip { room, to, count, reasons }) => {
                let data =
                    json!({"room": room, "to": to.offset, "count": count, "reasons": reasons});
                let metadata = json!({"epoch": to.epoch});
                let skip = json!({"type": "skip", "data": data, "metadata": metadata});
                if args.kind.is_none() && output::json_line(&skip)? == Reader::Gone {
                    return Ok(());
                }
            }
            Some(Event::Joined(joined)) => tell_of(&joined),
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

/// Says from where the room is heard, and what of it is missing.
fn tell_of(joined: &Joined) {
    let at = joined.position.as_ref().map(|it| format!("{}:{}", it.epoch, it.offset));
    let position = at.as_deref();
    let room = &joined.room;
    match &joined.recovered {
        Some(Err(reason)) => tracing::warn!(%room, position, reason, "joined, not recovered"),
        Some(Ok(())) | None if !joined.live => {
            tracing::warn!(%room, "joined, but the node's broker is away");
        }
        Some(Ok(())) => tracing::info!(%room, position, "joined and recovered"),
        None => tracing::info!(%room, position, "joined"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_publications_carry_it() {
        let epoch = "0123456789abcdef0011223344556677";
        let expected = Position { epoch: epoch.into(), offset: 7 };
        assert_eq!(position(&format!("{epoch}:7")), Ok(expected));
        for text in ["", "7", ":7", "e:", "e:x", "e:-1", "e:7:8"] {
            assert!(position(text).unwrap_err().contains("EPOCH:OFFSET"), "{text}");
        }
    }
}
