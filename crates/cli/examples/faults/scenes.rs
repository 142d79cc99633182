//! The three scenes and the faults of each: one Redis with a replica behind proxies, Sentinels, a Cluster.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use xtask::servers::{Client, Cluster, Direction, Proxy, Redis, Sentinels};

use crate::report::say;
use crate::stage::{Outcome, Script, Stage, members, rooms};

/// Clients of a scene, publishers included: one for each of 20 rooms.
const MEMBERS: usize = 180;

/// How often a room is published to. Units: milliseconds.
const EVERY_MS: u64 = 85;

/// One payload of the flood that fills Redis' output buffer. Units: bytes.
const FLOOD_BYTES: usize = 60_000;

/// So many of them: more than the buffers of all sockets between, which take up to 16 MB.
const FLOODS: usize = 600;

/// How long a frozen Redis stays so.
const FROZEN: Duration = Duration::from_secs(10);

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn redis_url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

/// 20 rooms: most with a history, some with a short one, one that replicas must have, some without.
fn all_rooms() -> Vec<crate::record::Room> {
    rooms(&[("kept", 14), ("short", 2), ("safe", 1), ("loose", 3)])
}

/// One Redis with a replica, each node behind a proxy of its own.
///
/// # Errors
/// A server or node does not start, or a fault cannot be done.
pub(crate) fn alone(binary: &Path) -> Result<Outcome, String> {
    let mut redis = Redis::start(&["--repl-diskless-sync-delay", "0"])?;
    let port = redis.port().to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port])?;
    let proxies =
        [Proxy::start(redis.port())?, Proxy::start(redis.port())?, Proxy::start(redis.port())?];
    let mut stage = Stage::start(Script {
        name: "alone",
        binary,
        urls: [0, 1, 2]
            .map(|at: usize| proxies.get(at).map(|it| redis_url(it.port())).unwrap_or_default()),
        serve: Vec::new(),
        rooms: all_rooms(),
        members: members(MEMBERS, 20),
        every_ms: EVERY_MS,
        balanced: false,
    })?;
    let [first, second, third] = &proxies;
    stage.fault("Redis cut for 1.5 s", |_| {
        proxies.iter().for_each(Proxy::refuse);
        sleep(secs(1.5));
        proxies.iter().for_each(Proxy::heal);
        Ok(())
    })?;
    stage.fault("feed half-open", |_| match second.half_open("PSUBSCRIBE") {
        0 => Err("the node has no feed".into()),
        _ => Ok(()),
    })?;
    stage.fault("answers swallowed for 3 s", |_| {
        third.swallow(Direction::ToClient);
        sleep(secs(3.0));
        third.heal();
        third.cut();
        Ok(())
    })?;
    stage.fault("feeds killed by CLIENT KILL", |_| {
        redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).map(drop)
    })?;
    stage.fault("functions flushed", |_| redis.command(&["FUNCTION", "FLUSH"]).map(drop))?;
    stage.fault("node killed -9, started again", |stage| stage.kill_and_restart(0, secs(1.0)))?;
    stage.fault("node stopped for 5 s", |stage| {
        let node = stage.nodes.get(1).ok_or("no such node")?;
        node.stop()?;
        sleep(secs(5.0));
        node.go_on()
    })?;
    stage.fault("output buffer limit hit", |stage| flood(&redis, stage))?;
    stage.fault("Redis frozen for 10 s", |_| {
        redis.freeze()?;
        sleep(FROZEN);
        redis.thaw()
    })?;
    stage.fault("Redis restarted empty", |_| redis.restart())?;
    stage.fault("connections of one node cut", |_| {
        first.cut();
        Ok(())
    })?;
    let outcome = stage.end();
    drop(replica);
    Ok(outcome)
}

/// Fills the output buffer of a feed whose node does not read, until Redis closes it.
fn flood(redis: &Redis, stage: &Stage) -> Result<(), String> {
    let limit = |value: &str| {
        redis.command(&["CONFIG", "SET", "client-output-buffer-limit", value]).map(drop)
    };
    limit("pubsub 1mb 512kb 1")?;
    let node = stage.nodes.get(2).ok_or("no such node")?;
    let feeds =
        || redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).map(|it| it.text().lines().count());
    let before = feeds()?;
    node.stop()?;
    let mut client = redis.client()?;
    let payload = format!("{{\"type\":\"flood\",\"data\":\"{}\"}}", "x".repeat(FLOOD_BYTES));
    let mut flooded = Ok(());
    let mut least = before;
    for count in 0..FLOODS {
        // A room without members: nodes read and drop it.
        flooded = client.command(&["PUBLISH", "room:loose-99", &payload]).map(drop);
        if flooded.is_err() {
            break;
        }
        if count % 50 == 49 {
            least = least.min(feeds()?);
            sleep(secs(0.1));
        }
    }
    node.go_on()?;
    limit("pubsub 32mb 8mb 60")?;
    flooded?;
    if least >= before { Err("no feed was closed".into()) } else { Ok(()) }
}

/// A master and a replica that Sentinels watch.
///
/// # Errors
/// As of [`alone`].
pub(crate) fn sentinels(binary: &Path) -> Result<Outcome, String> {
    let mut all = Sentinels::start(3, &[])?;
    let ports: Vec<_> =
        all.sentinel_ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("redis-sentinel://{}/{}", ports.join(","), all.service());
    let mut stage = Stage::start(Script {
        name: "sentinels",
        binary,
        urls: [url.clone(), url.clone(), url],
        serve: Vec::new(),
        rooms: all_rooms(),
        members: members(MEMBERS, 20),
        every_ms: EVERY_MS,
        balanced: false,
    })?;
    let mut old = 0;
    stage.fault("failover with a lost tail", |_| {
        old = lose_the_tail(&mut all)?;
        all.promoted(old).map(drop)
    })?;
    all.restart(old)?;
    sleep(secs(3.0));
    stage.fault("master demoted alive", |_| {
        let old = all.master_port()?;
        let first = *all.sentinel_ports().first().ok_or("there is no Sentinel")?;
        // The other one must follow first.
        let order = ["SENTINEL", "FAILOVER", all.service()];
        let ordered = (0..40).find_map(|_| {
            let ordered = Client::connect(first).and_then(|mut it| it.command(&order));
            if ordered.is_err() {
                sleep(secs(0.5));
            }
            ordered.ok()
        });
        ordered.ok_or("the Sentinel orders no failover")?;
        all.promoted(old).map(drop)
    })?;
    Ok(stage.end())
}

/// Keeps the replica from following, lets some be stored on the master alone, and kills that. Answers with its port.
fn lose_the_tail(all: &mut Sentinels) -> Result<u16, String> {
    // A password where none is asked for: the replica cannot follow, and lives.
    all.replica()?.command(&["CONFIG", "SET", "masterauth", "none-is-asked-for"])?;
    all.master()?.command(&["CLIENT", "KILL", "TYPE", "replica"])?;
    sleep(secs(1.5));
    let at = |redis: &Redis| {
        let info = redis.command(&["INFO", "replication"])?.text();
        let offset = info.lines().find_map(|it| it.strip_prefix("master_repl_offset:"));
        offset.and_then(|it| it.trim().parse::<u64>().ok()).ok_or("no offset".to_owned())
    };
    let replica = at(all.replica()?)?;
    let lost = at(all.master()?)?.saturating_sub(replica);
    say(&format!("sentinels: {lost} bytes of the replication stream are on the master alone"));
    if lost == 0 {
        return Err("the replica follows all the same".into());
    }
    let old = all.kill_master()?;
    // Once it is master it must be able to follow again later.
    all.promoted(old)?;
    all.master()?.command(&["CONFIG", "SET", "masterauth", ""])?;
    Ok(old)
}

/// A Cluster of three masters, rooms relayed by sharded channels.
///
/// # Errors
/// As of [`alone`].
pub(crate) fn cluster(binary: &Path) -> Result<Outcome, String> {
    let cluster = Cluster::start(3)?;
    let ports: Vec<_> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("redis-cluster://{}", ports.join(","));
    let rooms = rooms(&[("kept", 5), ("loose", 1)]);
    let members = members(60, rooms.len());
    let mut stage = Stage::start(Script {
        name: "cluster",
        binary,
        urls: [url.clone(), url.clone(), url],
        serve: vec!["--set".into(), "relay.mode=sharded".into()],
        rooms,
        members,
        every_ms: EVERY_MS,
        balanced: false,
    })?;
    stage.fault("slots moved", |_| {
        for room in ["kept-0", "kept-1"] {
            let slot = slot_of(&cluster, room)?;
            let to = (cluster.owner(slot)? + 1) % ports.len();
            cluster.move_slot(slot, to)?;
        }
        Ok(())
    })?;
    stage.fault("a master's feeds killed", |_| {
        let master = cluster.nodes().first().ok_or("there is no master")?;
        master.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).map(drop)
    })?;
    Ok(stage.end())
}

/// The slot in which a room is kept: that of any of its keys.
fn slot_of(cluster: &Cluster, room: &str) -> Result<u16, String> {
    let pattern = format!("rc:*:{room}");
    for master in cluster.nodes() {
        let keys = master.command(&["KEYS", &pattern])?;
        if let Some(key) = keys.items().first() {
            return cluster.slot_of(&key.text());
        }
    }
    Err(format!("no key of {room} in the Cluster"))
}
