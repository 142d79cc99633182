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
use crate::unasked::{Unasked, leave_own, leave_own_of_session, room_of, room_of_session};
use crate::units;

/// `roomcast sub`.
#[derive(Args, Debug)]
pub(crate) struct Sub {
    #[command(flatten)]
    target: TargetArgs,
    /// The rooms; nothing of others is printed, and what waits in an inbox that is not named goes on waiting
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
    let mut unasked = Unasked::new(&args.rooms, &session.ready().await?);
    leave_own_of_session(&mut unasked, session).await;
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
        let leave = async |room: &str| session.leave(room).await;
        if !unasked.passes(room_of_session(&event), leave).await {
            continue;
        }
        notices::tell(&event);
        let reader = match event {
            SessionEvent::Publication(publication) => {
                let (reader, counts) = args.publication(&publication)?;
                left = left.map(|left| left.saturating_sub(u64::from(counts)));
                // Behind its print: what a pipe did not take is given again.
                if publication.requires_ack && reader == Reader::Listening {
                    session.ack(&publication).await?;
                }
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
            SessionEvent::Connected(_) | SessionEvent::HandedOver => {
                leave_own_of_session(&mut unasked, session).await;
                Reader::Listening
            }
            SessionEvent::RoomLost { .. }
            | SessionEvent::TakenOut { .. }
            | SessionEvent::Joined(_)
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
    let mut unasked = Unasked::new(&args.rooms, client.welcome());
    leave_own(&mut unasked, client).await;
    for room in &args.rooms {
        let joined = match &args.since {
            None => client.join(room).await?,
            Some(since) => client.join_since(room, since).await?,
        };
        notices::tell_of(&joined);
    }
    let mut left = args.count;
    while left != Some(0) {
        let Some(event) = client.next().await else {
            return Err(Failure::Failed("the connection is closed".into()));
        };
        let leave = async |room: &str| client.leave(room).await;
        if !unasked.passes(room_of(&event), leave).await {
            continue;
        }
        notices::log(&event);
        let reader = match event {
            Event::Publication(publication) => {
                let (reader, counts) = args.publication(&publication)?;
                left = left.map(|left| left.saturating_sub(u64::from(counts)));
                reader
            }
            Event::Closed(closed) => return Err(Error::Closed(closed).into()),
            Event::Gap { room, reason, position } => {
                let gap = notices::gap(room.as_deref(), &reason, position.as_ref());
                args.record(&gap)?
            }
            Event::Skip { room, to, count, reasons } => {
                args.record(&notices::skip(&room, &to, count, &reasons))?
            }
            Event::Lost { room, count } => args.record(&notices::lost(&room, count))?,
            Event::Presence(presence) => args.record(&notices::presence(&presence))?,
            Event::Receipts(receipts) => args.record(&notices::receipts(&receipts))?,
            Event::Error(_)
            | Event::Joined(_)
            | Event::Left { .. }
            | Event::Degraded { .. }
            | Event::TokenExpiring { .. }
            | Event::Other(_)
            | Event::Pong
            | Event::Drain(_) => Reader::Listening,
        };
        if reader == Reader::Gone {
            return Ok(());
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
