//! For the bench: publications that go straight to the broker, as the core sends them, without sockets and lanes. Never
//! used by a node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_broker::{AnyBroker, Feed, RelayStats};
use roomcast_protocol::codes::Refused;
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::Keep;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_router::messages::{QueryId, Ticket};

use crate::config::Config;
use crate::guard::RuleGuard;
use crate::relay;

/// Events taken in one turn, as by the core.
const TURN_MAX: usize = 1_024;

/// How long the feed may take to come up.
const UP_LIMIT: Duration = Duration::from_secs(10);

/// As which node the bench publishes.
const NODE: NodeId = NodeId(1);

/// What every room keeps.
const KEEP: Keep =
    Keep { size: 100, bytes_max: 256 << 10, ttl_ms: 600_000, replicated: false, inbox: None };

/// Publications into rooms that keep them.
#[derive(Clone, Copy, Debug)]
pub struct KeptJob {
    /// Rooms that are published to in turn.
    pub rooms: u32,
    /// Publications under way at once.
    pub in_flight: u32,
    /// Size of a payload. Units: bytes.
    pub payload_bytes: usize,
    /// How long nothing is measured at first.
    pub warmup: Duration,
    /// How long it is measured.
    pub duration: Duration,
}

/// The words of one command.
pub type Words = Vec<Vec<u8>>;

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptFigures {
    /// Publications that were accepted while measuring.
    pub publications: u64,
    /// Units: seconds.
    pub elapsed_s: f64,
}

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The configuration's rules cannot be used.
    #[error("the rules cannot be used")]
    Rules(#[source] crate::guard::GuardError),
    /// The system refused a runtime.
    #[error("the system refused a runtime")]
    Runtime(#[source] std::io::Error),
    /// The broker's feed did not come up.
    #[error("the broker cannot be reached")]
    Away,
    /// The broker refused a publication.
    #[error("the broker refuses: {}", .0.message)]
    Refused(Refused),
    /// The feed has ended.
    #[error("the broker's feed has ended")]
    Ended,
}

/// Publishes as fast as the broker answers.
///
/// # Errors
/// [`MeasureError`]: the broker cannot be reached, or refuses.
pub fn publish_kept(config: &Config, job: &KeptJob) -> Result<KeptFigures, MeasureError> {
    with_broker(config, async |broker| run(broker, job).await)
}

/// Runs something on the broker that a configuration names.
fn with_broker<T>(
    config: &Config,
    act: impl AsyncFnOnce(&AnyBroker<Ticket>) -> Result<T, MeasureError>,
) -> Result<T, MeasureError> {
    let guard = Arc::new(RuleGuard::new(config, "bench").map_err(MeasureError::Rules)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MeasureError::Runtime)?;
    runtime.block_on(act(&relay::broker(config, &guard)))
}

/// For each room the words of the command by which a node has a publication kept in Redis, as a bare program would send
/// them; the last but one begins with the hash of the publication's id.
///
/// # Errors
/// [`MeasureError`]: the broker cannot be reached, or is not Redis.
pub fn words_of_kept(config: &Config, job: &KeptJob) -> Result<Vec<Words>, MeasureError> {
    with_broker(config, async |broker| words(broker, job).await)
}

async fn words(broker: &AnyBroker<Ticket>, job: &KeptJob) -> Result<Vec<Words>, MeasureError> {
    let AnyBroker::Redis(redis) = broker else { return Err(MeasureError::Away) };
    attached(broker).await?;
    let mut publisher = Publisher::new(broker, NODE, job);
    let words = (0..job.rooms).map(|_| {
        let words = redis.words_of(NODE, &publisher.next()?, &KEEP)?;
        Some(words.iter().map(|word| word.to_vec()).collect())
    });
    let words = words.collect::<Option<_>>().ok_or(MeasureError::Away);
    broker.detach(NODE);
    words
}

/// Attaches the bench as a node, and waits for its feed.
async fn attached(broker: &AnyBroker<Ticket>) -> Result<Feed<BrokerEvent<Ticket>>, MeasureError> {
    let mut feed = broker.attach(NODE, &Arc::<RelayStats>::default());
    let mut events = Vec::new();
    let up = async {
        loop {
            feed.recv_many(&mut events, TURN_MAX).await;
            if events.drain(..).any(|event| matches!(event, BrokerEvent::FeedUp { .. })) {
                return;
            }
        }
    };
    tokio::time::timeout(UP_LIMIT, up).await.map_err(|_| MeasureError::Away)?;
    Ok(feed)
}

async fn run(broker: &AnyBroker<Ticket>, job: &KeptJob) -> Result<KeptFigures, MeasureError> {
    let mut feed = attached(broker).await?;
    let mut events = Vec::new();
    let mut publisher = Publisher::new(broker, NODE, job);
    let began = Instant::now();
    let (mut under_way, mut done) = (0, 0_u64);
    let mut measured: Option<(Instant, u64)> = None;
    let mut figures = None;
    while figures.is_none() || under_way > 0 {
        while figures.is_none() && under_way < job.in_flight {
            publisher.publish();
            under_way += 1;
        }
        if feed.recv_many(&mut events, TURN_MAX).await == 0 {
            return Err(MeasureError::Ended);
        }
        for event in events.drain(..) {
            if let BrokerEvent::Published { outcome, .. } = event {
                outcome.map_err(MeasureError::Refused)?;
                under_way -= 1;
                done += 1;
            }
        }
        match measured {
            None if began.elapsed() >= job.warmup => measured = Some((Instant::now(), done)),
            Some((since, before)) if figures.is_none() && since.elapsed() >= job.duration => {
                let elapsed_s = since.elapsed().as_secs_f64();
                figures = Some(KeptFigures { publications: done - before, elapsed_s });
            }
            Some(_) | None => {}
        }
    }
    broker.detach(NODE);
    Ok(figures.unwrap_or_default())
}

/// Makes publications, each with an id of its own.
struct Publisher<'a> {
    broker: &'a AnyBroker<Ticket>,
    node: NodeId,
    rooms: Vec<RoomName>,
    content: Content,
    count: u64,
}

impl<'a> Publisher<'a> {
    fn new(broker: &'a AnyBroker<Ticket>, node: NodeId, job: &KeptJob) -> Self {
        let room = |number| RoomName::parse(&format!("kept-{number}")).ok();
        let rooms = (0..job.rooms).filter_map(room).collect();
        let filler = job.payload_bytes.saturating_sub(8);
        let content = Content::Json(format!("{{\"x\":\"{}\"}}", "x".repeat(filler)).into());
        Self { broker, node, rooms, content, count: 0 }
    }

    fn next(&mut self) -> Option<Publication> {
        let at = usize::try_from(self.count).unwrap_or(0) % self.rooms.len().max(1);
        let room = self.rooms.get(at).cloned()?;
        self.count += 1;
        Some(Publication {
            id: self.count.to_string().into(),
            kind: "bench".into(),
            timestamp: "2024-01-15T10:30:00.000Z".into(),
            sender: "bench".into(),
            ..Publication::bare(room, self.content.clone())
        })
    }

    fn publish(&mut self) {
        let Some(publication) = self.next() else { return };
        let publication = Arc::new(publication);
        let ticket = Ticket::Query(QueryId(self.count));
        let command = BrokerCommand::Publish {
            ticket,
            publication,
            dedup: true,
            keep: Some(KEEP),
            collapse: None,
        };
        self.broker.execute(self.node, 0, command);
    }
}
