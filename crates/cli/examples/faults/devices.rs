//! Two devices of one user with an inbox in Redis, of which one is away while much comes: each gets what it has not acked,
//! once, in order, and is told what the quota removed.

use std::path::Path;
use std::time::{Duration, Instant};

use roomcast_client::{
    Client, Options, PublishOptions, Session, SessionEvent, SessionOptions, session,
};
use roomcast_protocol::guard::Kind;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use xtask::servers::Redis;

use crate::check::{Given, check, inbox};
use crate::crowd::token;
use crate::node::Node;
use crate::record::Facts;
use crate::report::say;
use crate::stage::{Folder, Outcome, RULES};

/// What both hear, what comes while one is away, and what the inbox keeps.
const BEFORE: u64 = 100;
const AWAY: u64 = 3_000;
const CAP: u64 = 1_000;

/// How long a device waits for something that comes, and for something that must not.
const PATIENCE: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_secs(7);

const USER: &str = "ann";
const INBOX: &str = "user-ann";

const RULES_OF_ROOM: &str = r#"
[[rooms]]
match = "user-{id}"
join = "user.id == id"
publish = "user.kind == 'backend'"
history = { size = 1000, bytes_max = "8 MiB", ttl = "1h" }
requires_ack = true
cursor = "device"
"#;

/// Plays it.
///
/// # Errors
/// A server does not start, or somebody cannot connect.
pub(crate) fn play(binary: &Path) -> Result<Outcome, String> {
    let redis = Redis::start(&[])?;
    let folder = Folder::new("devices")?;
    let config = folder.write("roomcast.toml", &format!("{RULES}{RULES_OF_ROOM}"))?;
    let url = redis.url();
    let args = ["--config", &config, "--redis", &url].map(str::to_owned);
    let mut nodes = Node::start_all(2, binary, folder.path(), &args)?;
    let [first, second] = nodes.as_slice() else { return Err("two nodes".to_owned()) };
    let (first, second) = (&first.public, &second.public);
    say(&format!("devices: one is away while {AWAY} publications come"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| format!("no runtime: {cause}"))?;
    let (mut notes, mut troubles) = (Vec::new(), Vec::new());
    runtime.block_on(scene((first, second), &mut notes, &mut troubles))?;
    let memory_kib = nodes.iter().map(Node::memory_kib).max().unwrap_or_default();
    for node in &mut nodes {
        troubles.extend(node.end().err());
    }
    let verdict = check(&Facts::default());
    Ok(Outcome { name: "devices", verdict, memory_kib, troubles, notes })
}

async fn scene(
    (first, second): (&str, &str),
    notes: &mut Vec<String>,
    troubles: &mut Vec<String>,
) -> Result<(), String> {
    let options = Options::new(format!("ws://{first}/ws"), token("backend", Kind::Backend, &[])?);
    let backend = roomcast_client::connect(options).await.map_err(|cause| cause.to_string())?;
    let (desk, phone) = (device(first, "desk").await?, device(second, "phone").await?);
    let (published, at_desk, at_phone) = tokio::join!(
        publish(&backend, 1..=BEFORE),
        hear_until(&desk, BEFORE),
        hear_until(&phone, BEFORE)
    );
    published?;
    judge(troubles, ("desk", CAP), 1..=BEFORE, &at_desk);
    judge(troubles, ("phone", CAP), 1..=BEFORE, &at_phone);
    // Its last acks are on their way.
    sleep(Duration::from_secs(1)).await;
    phone.close().await;
    let last = BEFORE + AWAY;
    let began = Instant::now();
    let (published, at_desk) =
        tokio::join!(publish(&backend, BEFORE + 1..=last), hear_until(&desk, last));
    published?;
    let took = began.elapsed();
    // Whoever is there gets all of it.
    judge(troubles, ("desk", u64::MAX), BEFORE + 1..=last, &at_desk);
    let came = Instant::now();
    let phone = device(first, "phone").await?;
    let at_phone = hear_until(&phone, last).await;
    notes.push(format!(
        "{AWAY} published within {:.1} s; who was there heard {}; who came back, on another node, heard {} within {:.1} s \
         and was told of {} lost ones",
        took.as_secs_f64(),
        at_desk.heard.len(),
        at_phone.heard.len(),
        came.elapsed().as_secs_f64(),
        at_phone.lost
    ));
    judge(troubles, ("phone, back", CAP), BEFORE + 1..=last, &at_phone);
    let more = hear_for(&phone, QUIET).await;
    judge(troubles, ("phone, a while later", CAP), last + 1..=last, &more);
    phone.close().await;
    let phone = device(second, "phone").await?;
    let more = hear_for(&phone, QUIET).await;
    judge(troubles, ("phone, back again", CAP), last + 1..=last, &more);
    notes.push(format!("back again it heard {} of what it had acked", more.heard.len()));
    phone.close().await;
    desk.close().await;
    backend.close().await;
    Ok(())
}

/// Judges what a device was given of what it had not acked, where so many are kept for it.
fn judge(
    troubles: &mut Vec<String>,
    (who, cap): (&str, u64),
    sent: std::ops::RangeInclusive<u64>,
    given: &Given,
) {
    let wrong = inbox(sent, cap, given);
    troubles.extend(wrong.into_iter().map(|wrong| format!("{who}: {wrong}")));
}

async fn publish(backend: &Client, numbers: std::ops::RangeInclusive<u64>) -> Result<(), String> {
    for number in numbers {
        let data = json!({"n": number});
        let published = backend.publish(INBOX, "note", &data, &PublishOptions::acked()).await;
        published.map_err(|cause| format!("{number}: {cause}"))?;
    }
    Ok(())
}

/// A device, which acks what its application has taken.
async fn device(address: &str, name: &str) -> Result<Session, String> {
    let token = token(USER, Kind::User, &[])?;
    let mut options = SessionOptions::new(format!("ws://{address}/ws"), token);
    options.connect.continuation.device = Some(name.to_owned());
    let session = session(options).map_err(|cause| cause.to_string())?;
    session.ready().await.map_err(|cause| format!("{name}: {cause}"))?;
    Ok(session)
}

fn take(event: &SessionEvent, given: &mut Given) {
    match event {
        SessionEvent::Publication(heard) => {
            given.heard.extend(heard.data.get("n").and_then(Value::as_u64));
        }
        SessionEvent::Lost { count, .. } => given.lost += count,
        SessionEvent::Skip { .. }
        | SessionEvent::Gap { .. }
        | SessionEvent::Presence(_)
        | SessionEvent::Receipts(_)
        | SessionEvent::Joined(_)
        | SessionEvent::RoomLost { .. }
        | SessionEvent::Connected(_)
        | SessionEvent::Resumed { .. }
        | SessionEvent::HandedOver
        | SessionEvent::Reconnecting { .. }
        | SessionEvent::MaxReconnectAttemptsReached { .. }
        | SessionEvent::TakenOut { .. }
        | SessionEvent::Degraded { .. }
        | SessionEvent::TokenExpiring { .. }
        | SessionEvent::Unpublished { .. }
        | SessionEvent::Error(_)
        | SessionEvent::Other(_)
        | SessionEvent::Closed(_) => {}
    }
}

/// What a device is given until it hears this number, or nothing for a while.
async fn hear_until(session: &Session, last: u64) -> Given {
    let mut given = Given::default();
    while given.heard.last() != Some(&last) {
        let Ok(Some(event)) = timeout(PATIENCE, session.next()).await else { break };
        take(&event, &mut given);
    }
    given
}

/// What a device is given in this time.
async fn hear_for(session: &Session, time: Duration) -> Given {
    let mut given = Given::default();
    let all = async {
        while let Some(event) = session.next().await {
            take(&event, &mut given);
        }
    };
    // It ends with the time.
    drop(timeout(time, all).await);
    given
}
