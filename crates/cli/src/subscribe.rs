//! `roomcast sub`: what is published in rooms, one JSON a line.

use std::time::Duration;

use clap::Args;
use roomcast_client::{Client, Error, Event, Position, Publication, Session, SessionEvent};
use serde_json::Value;

use crate::failure::Failure;
use crate::notices;
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
    /// Come back after every loss of the connection, with what was missed; go on where the node says so
    #[arg(long, short = 'f')]
    follow: bool,
    /// With --follow: which device this is, where a user's devices have inboxes of their own
    #[arg(long, requires = "follow")]
    device: Option<String>,
}

impl Sub {
    /// Prints a notice, unless only payloads of one type are wanted.
    fn record(&self, notice: &Value) -> Result<Reader, Failure> {
        if self.kind.is_some() { Ok(Reader::Listening) } else { output::json_line(notice) }
    }

    /// Prints a publication, if it is wanted; whether it counts.
    fn publication(&self, publication: &Publication) -> Result<(Reader, bool), Failure> {
        if self.kind.as_ref().is_some_and(|kind| *kind != publication.kind) {
            return Ok((Reader::Listening, false));
        }
        Ok((output::json_line(publication)?, true))
    }
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
        let user = args.target.user_or("cli");
        let identity = move || Identity::viewer(user.clone());
        if args.follow {
            return follow(args, identity).await;
        }
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

/// The same over a session: it ends when it is told to, or when no attempt to come back succeeds.
async fn follow(
    args: &Sub,
    identity: impl Fn() -> Identity + Send + Sync + 'static,
) -> Result<(), Failure> {
    let session = args.target.session(args.device.clone(), identity).await?;
    let heard = tokio::select! {
        heard = hear_session(args, &session) => heard,
        timed_out = time_out(args) => timed_out,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from),
    };
    session.close().await;
    heard
}

async fn hear_session(args: &Sub, session: &Session) -> Result<(), Failure> {
    for room in &args.rooms {
        let joined = match &args.since {
            None => session.join(room).await?,
            Some(since) => session.join_since(room, since).await?,
        };
        notices::tell_of(&joined);
    }
    let mut left = args.count;
    while left != Some(0) {
        let Some(event) = session.next().await else {
            return Err(Failure::Failed("the session is over".into()));
        };
        notices::tell(&event);
        let reader = match event {
            SessionEvent::Publication(publication) => {
                let (reader, counts) = args.publication(&publication)?;
                left = left.map(|left| left.saturating_sub(u64::from(counts)));
                reader
            }
            SessionEvent::Gap { room, reason, position } => {
                args.record(&notices::gap(room.as_deref(), &reason, position.as_ref()))?
            }
            SessionEvent::Skip { room, to, count, reasons } => {
                args.record(&notices::skip(&room, &to, count, &reasons))?
            }
            SessionEvent::Lost { room, count } => args.record(&notices::lost(&room, count))?,
            SessionEvent::Presence(presence) => args.record(&notices::presence(&presence))?,
            SessionEvent::Receipts(receipts) => args.record(&notices::receipts(&receipts))?,
            SessionEvent::Resumed { session, recovered } => {
                args.record(&notices::resumed(session, recovered))?
            }
            SessionEvent::Closed(closed) => return Err(Error::Closed(closed).into()),
            SessionEvent::RoomLost { refused, .. } if args.rooms.len() == 1 => {
                return Err(Error::Refused(refused).into());
            }
            SessionEvent::RoomLost { .. }
            | SessionEvent::Joined(_)
            | SessionEvent::Connected(_)
            | SessionEvent::HandedOver
            | SessionEvent::Reconnecting { .. }
            | SessionEvent::MaxReconnectAttemptsReached { .. }
            | SessionEvent::Degraded { .. }
            | SessionEvent::TokenExpiring { .. }
            | SessionEvent::Unpublished { .. }
            | SessionEvent::Error(_)
            | SessionEvent::Other(_) => Reader::Listening,
        };
        if reader == Reader::Gone {
            return Ok(());
        }
    }
    Ok(())
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
        notices::tell_of(&joined);
    }
    let mut left = args.count;
    while left != Some(0) {
        match client.next().await {
            Some(Event::Publication(publication)) => {
                let (reader, counts) = args.publication(&publication)?;
                if reader == Reader::Gone {
                    return Ok(());
                }
                left = left.map(|left| left.saturating_sub(u64::from(counts)));
            }
            Some(Event::Closed(closed)) => {
                return Err(Failure::from(roomcast_client::Error::Closed(closed)));
            }
            None => return Err(Failure::Failed("the connection is closed".into())),
            Some(Event::Error(refused)) => tracing::warn!(code = refused.code, "{refused}"),
            Some(Event::Gap { room, reason, position }) => {
                tracing::warn!(room, reason, "publications were lost");
                let gap = notices::gap(room.as_deref(), &reason, position.as_ref());
                if args.record(&gap)? == Reader::Gone {
                    return Ok(());
                }
            }
            Some(Event::Skip { room, to, count, reasons }) => {
                if args.record(&notices::skip(&room, &to, count, &reasons))? == Reader::Gone {
                    return Ok(());
                }
            }
            Some(Event::Lost { room, count }) => {
                tracing::warn!(room, count, "unread publications were removed");
                if args.record(&notices::lost(&room, count))? == Reader::Gone {
                    return Ok(());
                }
            }
            Some(Event::Presence(presence)) => {
                if args.record(&notices::presence(&presence))? == Reader::Gone {
                    return Ok(());
                }
            }
            Some(Event::Receipts(receipts)) => {
                if args.record(&notices::receipts(&receipts))? == Reader::Gone {
                    return Ok(());
                }
            }
            Some(Event::Joined(joined)) => notices::tell_of(&joined),
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
                let kind = message.get("type").and_then(|kind| kind.as_str());
                tracing::debug!(kind, "passed");
            }
            Some(Event::Pong | Event::Drain(_)) => {}
        }
    }
    Ok(())
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
