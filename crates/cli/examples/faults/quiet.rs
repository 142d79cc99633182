//! A publication that is the last in its room is lost on the relay: how long until its members hear it, on a node with
//! 10,000 quiet rooms, and what so many rooms cost while nothing happens.

use std::path::Path;
use std::time::{Duration, Instant};

use roomcast_client::{Client, Event, Options, PublishOptions};
use roomcast_protocol::guard::Kind;
use serde_json::json;
use tokio::time::{sleep, timeout};
use xtask::servers::{Proxy, Redis};

use crate::crowd::token;
use crate::node::Node;
use crate::report::say;
use crate::stage::{Folder, RULES};

/// Rooms of the node, and how many of them each session is in.
const ROOMS: usize = 10_000;
const ROOMS_EACH: usize = 1_000;

/// How long the quiet is measured.
const QUIET: Duration = Duration::from_secs(6);

/// How many are lost, one after the other.
const LOST: usize = 8;

/// How soon a lost one must be heard, and the slack of a busy machine.
const HEARD: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(1);

/// What the quiet may cost here: the bar is 5 % of a core, measured by itself; this finds what is ten times as much.
/// Units: thousandths of a core.
const QUIET_MAX: u64 = 500;

/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quiet {
    slowest: Duration,
    mean: Duration,
    /// Units: thousandths of a core.
    cost: u64,
}

impl Quiet {
    /// What is printed of it.
    pub(crate) fn lines(&self) -> [String; 2] {
        let whole = |it: Duration| it.as_secs_f64();
        [
            format!(
                "the last publication of a room lost on the relay, {ROOMS} rooms: heard after {:.2} s in the mean, \
                 {:.2} s at most ({LOST} lost)",
                whole(self.mean),
                whole(self.slowest)
            ),
            format!(
                "{ROOMS} quiet rooms with history: {}.{} % of a core over {} s",
                self.cost / 10,
                self.cost % 10,
                QUIET.as_secs()
            ),
        ]
    }

    /// Whether it was in time.
    pub(crate) fn is_in_time(&self) -> bool {
        self.slowest <= HEARD + SLACK
    }

    /// Whether the quiet was cheap enough.
    pub(crate) fn is_cheap(&self) -> bool {
        self.cost <= QUIET_MAX
    }
}

/// Measures both.
///
/// # Errors
/// A server or the node does not start, or something is never heard.
pub(crate) fn measure(binary: &Path) -> Result<Quiet, String> {
    let redis = Redis::start(&[])?;
    let proxy = Proxy::start(redis.port())?;
    let folder = Folder::new("quiet")?;
    let config = folder.write("roomcast.toml", RULES)?;
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let rooms = format!("limits.rooms_per_session={}", ROOMS_EACH + 8);
    let args = ["--config", &config, "--redis", &url, "--set", &rooms];
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut node = Node::start(1, binary, folder.path(), &args)?;
    node.wait()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| format!("no runtime: {cause}"))?;
    say(&format!("quiet: {ROOMS} rooms with history"));
    let measured = runtime.block_on(play(&node, &proxy));
    measured.and_then(|measured| node.end().map(|()| measured))
}

async fn play(node: &Node, proxy: &Proxy) -> Result<Quiet, String> {
    let mut members = Vec::new();
    for first in (0..ROOMS).step_by(ROOMS_EACH) {
        let client = connect(node, "member", Kind::User).await?;
        for room in first..first + ROOMS_EACH {
            client.join(&name(room)).await.map_err(|cause| format!("{}: {cause}", name(room)))?;
        }
        members.push(client);
    }
    sleep(Duration::from_secs(3)).await;
    let before = node.processor_ms()?;
    sleep(QUIET).await;
    let spent = node.processor_ms()?.saturating_sub(before);
    let cost = spent / QUIET.as_secs();
    let publisher = connect(node, "publisher", Kind::Backend).await?;
    let (mut slowest, mut sum) = (Duration::ZERO, Duration::ZERO);
    for count in 0..LOST {
        let room = (count * 7_919) % ROOMS;
        let member = members.get(room / ROOMS_EACH).ok_or("no such member")?;
        let took = lose_one(proxy, &publisher, member, room).await?;
        slowest = slowest.max(took);
        sum += took;
    }
    let count = u32::try_from(LOST).unwrap_or(u32::MAX);
    Ok(Quiet { slowest, mean: sum / count, cost })
}

/// Has one publication lost on the way to the node, and waits until the member hears it.
async fn lose_one(
    proxy: &Proxy,
    publisher: &Client,
    member: &Client,
    room: usize,
) -> Result<Duration, String> {
    let name = name(room);
    proxy.lose(&format!("room:{name}"));
    let began = Instant::now();
    let options = PublishOptions::acked();
    let published = publisher.publish(&name, "probe", &json!({}), &options).await;
    let published = published.map_err(|cause| format!("{name}: {cause}"))?;
    while !proxy.has_lost() {
        if began.elapsed() > PATIENCE {
            return Err(format!("{name}: the relay brought nothing that could be lost"));
        }
        sleep(Duration::from_millis(1)).await;
    }
    loop {
        let event = timeout(PATIENCE, member.next()).await;
        match event.map_err(|_| format!("{name}: lost and never heard"))? {
            Some(Event::Publication(heard)) if heard.id == published.id => {
                return Ok(began.elapsed());
            }
            Some(Event::Publication(heard)) => return Err(format!("{name}: heard {}", heard.id)),
            Some(Event::Closed(closed)) => return Err(format!("{name}: {closed}")),
            Some(Event::Gap { reason, .. }) => {
                return Err(format!("{name}: told of a gap: {reason}"));
            }
            Some(
                Event::Error(_)
                | Event::Pong
                | Event::TokenExpiring { .. }
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
            None => return Err(format!("{name}: the connection is gone")),
        }
    }
}

fn name(room: usize) -> String {
    format!("kept-{room}")
}

async fn connect(node: &Node, subject: &str, kind: Kind) -> Result<Client, String> {
    let mut options = Options::new(format!("ws://{}/ws", node.public), token(subject, kind, &[])?);
    options.connect_timeout = PATIENCE;
    options.request_timeout = PATIENCE;
    roomcast_client::connect(options).await.map_err(|cause| cause.to_string())
}
