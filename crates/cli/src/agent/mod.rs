//! `roomcast agent`: publishes this machine's figures as the native seed's `agent_status`, and comes back after every
//! loss of its connection.

mod figures;

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use roomcast_client::{Backoff, Client, Error, Event, PublishOptions};
use roomcast_protocol::time::iso8601;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use self::figures::{Figures, Meter};
use crate::failure::Failure;
use crate::target::{self, TargetArgs};
use crate::token::Identity;
use crate::units;

/// `roomcast agent`.
#[derive(Args, Debug)]
pub(crate) struct Agent {
    #[command(flatten)]
    target: TargetArgs,
    /// The agent's number; by default one derived from the host's name
    #[arg(long)]
    id: Option<u64>,
    /// The host's name; by default this machine's
    #[arg(long)]
    hostname: Option<String>,
    /// Time between two reports
    #[arg(long, default_value = "1s", value_parser = units::duration)]
    interval: Duration,
    /// End after so many reports
    #[arg(long)]
    count: Option<u64>,
}

/// The payload of `agent_status`. Source: native seed, "Agent Status Update"; the figures beyond it are ours.
#[derive(Debug, Serialize)]
struct Status<'a> {
    agent_id: u64,
    hostname: &'a str,
    status: &'static str,
    last_seen: String,
    #[serde(flatten)]
    figures: Figures,
}

/// Why a connection's work ended.
enum Ended {
    /// As many reports as were asked for.
    Done,
    /// It may be tried again.
    Lost(Error),
}

/// Runs it until interrupted.
pub(crate) fn run(args: &Agent) -> Result<(), Failure> {
    if args.interval.is_zero() {
        return Err(Failure::Usage("--interval must be longer than 0".into()));
    }
    target::runtime()?.block_on(async {
        tokio::select! {
            ended = keep_reporting(args) => ended,
            interrupted = interrupted() => interrupted.map_err(Failure::from),
        }
    })
}

async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

async fn keep_reporting(args: &Agent) -> Result<(), Failure> {
    let hostname = args.hostname.clone().unwrap_or_else(figures::hostname);
    let id = args.id.unwrap_or_else(|| stable_id(&hostname));
    let mut reporter = Reporter {
        id,
        hostname,
        meter: Meter::new().map_err(|cause| Failure::failed("no figures", &cause))?,
        left: args.count,
        refused: HashSet::new(),
    };
    let mut backoff = Backoff::default();
    loop {
        let identity = || Identity::agent(args.target.user_or(&format!("agent-{id}")), id);
        let options = args.target.options(identity)?;
        let ended = match roomcast_client::connect(options).await {
            Ok(client) => {
                tracing::info!(agent_id = id, hostname = %reporter.hostname, "connected");
                backoff.reset();
                let ended = reporter.report(&client, args.interval).await?;
                client.close().await;
                ended
            }
            Err(error) => Ended::Lost(error),
        };
        let error = match ended {
            Ended::Done => return Ok(()),
            Ended::Lost(error) => error,
        };
        if error.is_denied() || matches!(error, Error::Url { .. }) {
            return Err(error.into());
        }
        let delay = backoff.next_delay(random());
        tracing::warn!(
            attempts = backoff.attempts(),
            delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            "no connection: {error}"
        );
        tokio::time::sleep(delay).await;
    }
}

struct Reporter {
    id: u64,
    hostname: String,
    meter: Meter,
    left: Option<u64>,
    /// Refusals that were logged already, by room and code: one a second would drown the log.
    refused: HashSet<(String, u16)>,
}

impl Reporter {
    /// Reports until the connection is lost.
    async fn report(&mut self, client: &Client, interval: Duration) -> Result<Ended, Failure> {
        tokio::select! {
            biased;
            error = lost(client) => Ok(Ended::Lost(error)),
            ended = self.report_all(client, interval) => ended,
        }
    }

    async fn report_all(&mut self, client: &Client, interval: Duration) -> Result<Ended, Failure> {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let rooms = ["agents".to_owned(), format!("agent-{}", self.id)];
        while self.left != Some(0) {
            ticks.tick().await;
            let figures =
                self.meter.read().map_err(|cause| Failure::failed("no figures", &cause))?;
            let status = Status {
                agent_id: self.id,
                hostname: &self.hostname,
                status: "online",
                last_seen: iso8601(unix_ms()),
                figures,
            };
            let status = serde_json::to_value(&status)
                .map_err(|cause| Failure::failed("no figures", &cause))?;
            let (one, two) = tokio::join!(
                publish(client, &rooms[0], &status),
                publish(client, &rooms[1], &status)
            );
            for (room, published) in rooms.iter().zip([one, two]) {
                if let Err(error) = published {
                    self.note(room, &error)?;
                }
            }
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        Ok(Ended::Done)
    }

    /// Logs a refusal once; no right at all ends the agent, since waiting mends nothing.
    fn note(&mut self, room: &str, error: &Error) -> Result<(), Failure> {
        if error.is_denied() {
            return Err(Failure::Refused(format!("{room}: {error}")));
        }
        if self.refused.insert((room.to_owned(), error.code().unwrap_or(0))) {
            tracing::warn!(room, "a report was not taken: {error}");
        }
        Ok(())
    }
}

async fn publish(client: &Client, room: &str, status: &Value) -> Result<(), Error> {
    client.publish(room, "agent_status", status, &PublishOptions::acked()).await.map(drop)
}

/// Takes events until the connection ends.
async fn lost(client: &Client) -> Error {
    loop {
        match client.next().await {
            Some(Event::Closed(closed)) => return Error::Closed(closed),
            None => return Error::Handshake("the connection is closed".into()),
            Some(Event::Error(refused)) => tracing::warn!(code = refused.code, "{refused}"),
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

/// The same number for the same name on every start: 31 bits of FNV-1a, so that every language holds it.
fn stable_id(hostname: &str) -> u64 {
    let hash = hostname.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) & 0x7fff_ffff
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// From 0 to 1; the 64 random bits of a UUID are random enough for jitter.
fn random() -> f64 {
    let (_, bits) = Uuid::new_v4().as_u64_pair();
    f64::from(u32::try_from(bits & 0xffff_ffff).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_number_is_stable_and_small_enough_for_every_language() {
        assert_eq!(stable_id("web-server-01"), stable_id("web-server-01"));
        assert_ne!(stable_id("web-server-01"), stable_id("web-server-02"));
        assert!(stable_id("web-server-01") < 1 << 31);
    }

    #[test]
    fn a_report_has_the_seeds_fields() {
        let figures = Meter::new().unwrap().read().unwrap();
        let status = Status {
            agent_id: 123,
            hostname: "web-server-01",
            status: "online",
            last_seen: iso8601(0),
            figures,
        };
        let status = serde_json::to_value(&status).unwrap();
        for (field, number) in [
            ("agent_id", true),
            ("hostname", false),
            ("status", false),
            ("last_seen", false),
            ("cpu_usage", true),
            ("memory_usage", true),
            ("disk_usage", true),
        ] {
            assert_eq!(status[field].is_number(), number, "{field}: {status}");
            assert_eq!(status[field].is_string(), !number, "{field}: {status}");
        }
        for field in ["bytes_sent", "bytes_received"] {
            assert!(status["network_io"][field].is_u64(), "{field}: {status}");
        }
    }

    #[test]
    fn jitter_stays_between_zero_and_one() {
        assert!((0..1_000).map(|_| random()).all(|jitter| (0.0..=1.0).contains(&jitter)));
    }
}
