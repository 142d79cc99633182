//! A lane thread: one current-thread runtime with its own listener, connections and the pure lane. Shares nothing
//! with other lanes but messages, publications' bytes and the counters of users and addresses.

mod connection;
mod door;
mod permission;
mod refused;
mod served;
mod shell;
mod task;
mod telling;
mod turns;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_broker::feed::SPARE_MAX;
use roomcast_protocol::codes::Close;
use roomcast_protocol::limits::{DecodeLimits, LimitName};
use roomcast_router::happenings::Wanted;
use roomcast_router::lane::{Counters, Lane, SLICE_MEMBERS, Sizes};
use roomcast_router::messages::LaneMessage;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::Config;
use crate::core::FromLane;
use crate::drain::Draining;
use crate::metrics::Latencies;
use crate::places::Places;
use crate::public::Site;
use crate::queue::{Receiver, Sender};
use crate::system::{raise_open_files, sockets_max};
use crate::transport::client_addr::TrustedProxies;
use crate::transport::http::HttpLimits;
use crate::transport::websocket::reader::FrameLimits;
use crate::upstream::Upstream;

use served::{Served, served};
pub(crate) use shell::Pressures;
use shell::Shell;
pub(crate) use telling::Told;

/// Messages taken from the hub at once.
const TURN_MAX: usize = 1_024;

/// How often a lane reports and looks for stalled sockets. Units: milliseconds.
const HOUSEKEEPING_MS: u64 = 250;

/// The same while the node drains. Units: milliseconds.
const DRAIN_REPORT_MS: u64 = 20;

/// After a turn this long the lane rests, so that what its publishers send next is merged into one write per member
/// rather than begun one by one: under saturation that halves the writes.
const LONG_TURN: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_millis(2);

/// How long clients get to answer Close frames when the node stops.
const STOP_GRACE: Duration = Duration::from_millis(2_500);

/// What a lane thread is told at its start.
#[derive(Clone)]
pub(crate) struct LaneSettings {
    pub(crate) clock: Clock,
    pub(crate) frames: FrameLimits,
    /// The same before the session is ready: nothing but a token is worth reading.
    pub(crate) first_frames: FrameLimits,
    pub(crate) decode: DecodeLimits,
    /// Longer tokens are no good; here they are only counted.
    pub(crate) token_bytes_max: usize,
    pub(crate) http: HttpLimits,
    pub(crate) outbox_bytes_max: usize,
    /// This lane's share of the node's.
    pub(crate) outboxes_bytes_max: usize,
    pub(crate) write_timeout_ms: u64,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_ip: u32,
    pub(crate) connections_per_user: u32,
    /// This lane's share of the node's.
    pub(crate) unauthenticated_max: usize,
    pub(crate) places: Arc<Places>,
    pub(crate) site: Arc<Site>,
    /// The dialects that are served.
    pub(crate) served: Arc<[Served]>,
    pub(crate) pressures: Pressures,
    pub(crate) latencies: Arc<Latencies>,
    pub(crate) draining: Arc<Draining>,
    pub(crate) upstream: Upstream,
    /// What the application is told.
    pub(crate) wanted: Wanted,
}

/// What the lanes of a node share, beside its configuration.
pub(crate) struct SettingsParts {
    pub(crate) clock: Clock,
    pub(crate) places: Arc<Places>,
    pub(crate) latencies: Arc<Latencies>,
    pub(crate) site: Arc<Site>,
    pub(crate) pressures: Pressures,
    pub(crate) draining: Arc<Draining>,
    pub(crate) upstream: Upstream,
    pub(crate) wanted: Wanted,
}

/// Longest frame of a client that has not authenticated: a token and its envelope. Units: bytes.
const FIRST_FRAME_BYTES: usize = 10 * 1_024;

impl LaneSettings {
    /// What the configuration means for each lane of a node.
    pub(crate) fn new(config: &Config, parts: SettingsParts) -> Self {
        let SettingsParts { clock, places, latencies, site, pressures, .. } = parts;
        let SettingsParts { draining, upstream, wanted, .. } = parts;
        let limits = &config.limits;
        let lanes = config.node.lanes.max(1);
        let frames = FrameLimits {
            frame_bytes_max: limits.frame_bytes,
            message_bytes_max: limits.message_bytes,
            fragments_max: limits.fragments,
            controls_per_second_max: limits.control_frames_per_second,
        };
        let first_frames = FrameLimits {
            frame_bytes_max: limits.frame_bytes.min(FIRST_FRAME_BYTES),
            message_bytes_max: limits.message_bytes.min(FIRST_FRAME_BYTES),
            ..frames
        };
        let http = HttpLimits {
            header_ms: limits.header_ms,
            header_bytes_max: limits.header_bytes,
            write_ms: limits.write_ms,
            proxy_protocol: config.listen.proxy_protocol,
            trusted: Arc::new(TrustedProxies::new(config.listen.trusted_proxies.clone())),
            ..HttpLimits::default()
        };
        Self {
            clock,
            frames,
            first_frames,
            decode: limits.decode,
            token_bytes_max: limits.token_bytes,
            http,
            outbox_bytes_max: limits.outbox_bytes,
            outboxes_bytes_max: limits.outboxes_bytes / lanes,
            write_timeout_ms: limits.write_ms,
            connections_max: sockets_max(limits.connections_max, raise_open_files()),
            connections_per_ip: limits.connections_per_ip,
            connections_per_user: limits.session.connections_per_user,
            unauthenticated_max: limits.unauthenticated_max.div_ceil(lanes),
            places,
            site,
            served: served(config),
            pressures,
            latencies,
            draining,
            upstream,
            wanted,
        }
    }
}

/// What a lane shows of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct LaneReport {
    pub(crate) counters: Counters,
    pub(crate) sizes: Sizes,
    pub(crate) limits: [u64; LimitName::ALL.len()],
    pub(crate) closes: [u64; Close::ALL.len()],
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) blocked: u64,
    pub(crate) accepted: u64,
    pub(crate) handshakes_refused: u64,
    pub(crate) drain_refused: u64,
    pub(crate) told: Told,
    pub(crate) outboxes_bytes: u64,
    pub(crate) queue_bytes: u64,
    /// When the lane last turned. Units: monotonic milliseconds.
    pub(crate) turned_ms: u64,
    /// Its longest turn of the last minute or two. Units: milliseconds.
    pub(crate) longest_turn_ms: u64,
}

/// What a lane thread is made of.
pub(crate) struct LaneParts {
    pub(crate) settings: LaneSettings,
    pub(crate) lane: Lane,
    pub(crate) listener: std::net::TcpListener,
    pub(crate) to_core: Sender<FromLane>,
    pub(crate) messages: Receiver<LaneMessage>,
    pub(crate) own_queue: Arc<crate::queue::Pressure>,
    pub(crate) reports: watch::Sender<LaneReport>,
}

/// Runs a lane until the hub tells it to stop. Call on a thread of its own, where local tasks can be spawned.
///
/// # Errors
/// The listener could not be used.
pub(crate) async fn run(parts: LaneParts) -> std::io::Result<()> {
    let LaneParts { settings, lane, listener, to_core, mut messages, own_queue, reports } = parts;
    let listener = TcpListener::from_std(listener)?;
    let shell = Shell::new(settings, lane, to_core);
    let accepting = tokio::task::spawn_local(door::accept(Rc::clone(&shell), listener));
    let mut taken = Vec::new();
    let mut housekept_ms = 0;
    let mut stopping = false;
    let mut cut = false;
    // Members of rooms wait for what is on its way to them.
    let mut more = false;
    while !stopping {
        let now = shell.now();
        let next = shell.lane.borrow().next_wake().unwrap_or(u64::MAX);
        let wake = next.min(now.mono_ms + shell.report_every_ms());
        tokio::select! {
            () = std::future::ready(()), if more || !taken.is_empty() => {}
            count = messages.recv_many(&mut taken, TURN_MAX) => stopping = count == 0,
            () = tokio::time::sleep(shell.settings.clock.until(wake)) => {}
        }
        let began = Instant::now();
        loop {
            let from = Instant::now();
            stopping |= turn(&shell, &mut taken);
            more = shell.act(|lane, effects| lane.serve(SLICE_MEMBERS, effects));
            shell.note_deliveries();
            shell.note_failures();
            shell.flush();
            let now_ms = shell.now().mono_ms;
            shell.turns.note(now_ms, from.elapsed());
            if more {
                // To other threads first: woken by what a small room needs, they would else wait for the scheduler's
                // slice of 3 ms each where lanes are as many as processors.
                std::thread::yield_now();
                tokio::task::yield_now().await;
            }
            messages.try_recv_many(&mut taken, TURN_MAX);
            let housekeeping_ms = housekept_ms + shell.report_every_ms();
            let is_due = !stopping && now_ms >= housekeeping_ms;
            if !more && taken.is_empty() || is_due {
                break;
            }
        }
        if !more && began.elapsed() >= LONG_TURN && !stopping {
            tokio::time::sleep(REST).await;
        }
        let now = shell.now();
        if !cut && shell.settings.draining.is_cutting() {
            cut = true;
            shell.end_all(Close::Drain);
            shell.flush();
        }
        if now.mono_ms >= housekept_ms + shell.report_every_ms() {
            housekept_ms = now.mono_ms;
            shell.end_stalled();
            shell.relieve_all();
            shell.tell_held();
            shell.flush();
            taken.shrink_to(SPARE_MAX);
            messages.give_back();
            shell.give_back();
            reports.send_replace(shell.report(now, own_queue.bytes()));
        }
    }
    end(&shell, &accepting).await;
    reports.send_replace(shell.report(shell.now(), 0));
    Ok(())
}

/// The lane takes nothing any more: clients get a while to answer Close frames.
async fn end(shell: &Shell, accepting: &tokio::task::JoinHandle<()>) {
    shell.flush();
    shell.end();
    accepting.abort();
    let deadline = tokio::time::Instant::now() + STOP_GRACE;
    while shell.settings.places.sockets() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shell.tell_the_rest();
    shell.flush();
}

/// Handles what came from the hub and what time has brought; says whether the lane shall stop.
fn turn(shell: &Shell, taken: &mut Vec<LaneMessage>) -> bool {
    let now = shell.now();
    let mut stopping = false;
    for message in taken.drain(..) {
        stopping |= matches!(message, LaneMessage::Stop);
        shell.act(|lane, effects| lane.message(now, message, effects));
    }
    if shell.lane.borrow().next_wake().is_some_and(|wake| wake <= now.mono_ms) {
        shell.act(|lane, effects| lane.tick(now, effects));
    }
    stopping
}
