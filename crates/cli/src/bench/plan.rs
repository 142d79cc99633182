//! What a job does: its audience, its pace, and the named jobs of the performance bars. Pure.

use std::time::Duration;

use clap::ValueEnum;
use roomcast_client::Format;

/// The jobs that have a bar, and their like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum JobName {
    /// 1 room of 1,000 at 20/s
    Paced,
    /// 1 room of 8,000 at 4/s
    Big,
    /// 1 room of 1,000, 8 at once, 80/s
    Burst,
    /// 1 room of 1,000, 16 outstanding
    Saturated,
    /// 100 rooms of 10, 2,000/s
    SmallRooms,
    /// 9,000 members of two rooms each that only answer pings
    Idle,
    /// 2,000 handshakes with token and join
    Connect,
    /// Publications with acks into a room without members
    Ingest,
    /// A room of 10 at 200/s beside a room of 10,000 at 4/s
    Neighbour,
    /// Redis brings 20,000/s that nobody on the node wants
    Relay,
    /// The same as fast as Redis can
    RelaySaturated,
    /// The same at 20,000/s, while the node asks for its own rooms only
    RelayExact,
    /// Two nodes over Redis, 1 room of 1, 2,000/s
    RelayLatency,
    /// Two nodes over Redis, 10 rooms of 50, 2,000/s
    Cluster,
    /// Publications into rooms that keep them through Redis, 256 under way, against a bare script there
    History,
}

impl JobName {
    /// All of them.
    pub(crate) const ALL: [Self; 15] = [
        Self::Paced,
        Self::Big,
        Self::Burst,
        Self::Saturated,
        Self::SmallRooms,
        Self::Idle,
        Self::Connect,
        Self::Ingest,
        Self::Neighbour,
        Self::Relay,
        Self::RelaySaturated,
        Self::RelayExact,
        Self::RelayLatency,
        Self::Cluster,
        Self::History,
    ];

    /// As the command line spells it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Paced => "paced",
            Self::Big => "big",
            Self::Burst => "burst",
            Self::Saturated => "saturated",
            Self::SmallRooms => "small-rooms",
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Ingest => "ingest",
            Self::Neighbour => "neighbour",
            Self::Relay => "relay",
            Self::RelaySaturated => "relay-saturated",
            Self::RelayExact => "relay-exact",
            Self::RelayLatency => "relay-latency",
            Self::Cluster => "cluster",
            Self::History => "history",
        }
    }
}

/// When publications leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// On time, whatever comes back: `burst` at once, `per_second` in all.
    Open {
        /// Publications per second.
        per_second: f64,
        /// How many leave at the same instant.
        burst: u32,
    },
    /// As many under way at once, the next when one was heard by all its members (or acked).
    Closed {
        /// How many.
        outstanding: u32,
    },
    /// None at all.
    Silent,
}

/// What a job plays in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// One node.
    Node,
    /// One node that has a big room besides.
    Neighbour,
    /// Redis and one node; what is published there is wanted by nobody.
    Relayed {
        /// The node asks for its own rooms only.
        exact: bool,
    },
    /// Redis and two nodes: one for publishers, one for members.
    Pair,
    /// Redis and the broker's client, without a node.
    History,
}

/// One job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// What it is called in reports.
    pub(crate) name: String,
    /// What it plays in.
    pub(crate) scene: Scene,
    /// Rooms.
    pub(crate) rooms: u32,
    /// Members of each room; each is one connection.
    pub(crate) members: u32,
    /// Publishing connections, none of them a member.
    pub(crate) publishers: u32,
    /// When they publish.
    pub(crate) pace: Pace,
    /// Whether they ask for acks.
    pub(crate) ack: bool,
    /// Size of a delivered payload that is aimed at. Units: bytes.
    pub(crate) payload_bytes: usize,
    /// How messages are written.
    pub(crate) format: Format,
    /// Publishing before it is measured.
    pub(crate) warmup: Duration,
    /// Publishing while it is measured; for silent jobs waiting.
    pub(crate) duration: Duration,
}

/// Jobs without parameters run for this long.
pub(crate) const DURATION: Duration = Duration::from_secs(5);

impl Plan {
    /// One room of `members`, 20/s: what the named jobs differ from.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            scene: Scene::Node,
            rooms: 1,
            members: 1_000,
            publishers: 1,
            pace: Pace::Open { per_second: 20.0, burst: 1 },
            ack: false,
            payload_bytes: 200,
            format: Format::Json,
            warmup: Duration::from_secs(1),
            duration: DURATION,
        }
    }

    /// A named job. Source: performance, "Bars".
    pub(crate) fn named(job: JobName) -> Self {
        let plan = Self::new(job.name());
        let fast = Pace::Open { per_second: 2_000.0, burst: 1 };
        match job {
            JobName::Paced => plan,
            JobName::Big => {
                Self { members: 8_000, pace: Pace::Open { per_second: 4.0, burst: 1 }, ..plan }
            }
            JobName::Burst => Self { pace: Pace::Open { per_second: 80.0, burst: 8 }, ..plan },
            JobName::Saturated => Self { pace: Pace::Closed { outstanding: 16 }, ..plan },
            JobName::SmallRooms => Self { rooms: 100, members: 10, pace: fast, ..plan },
            JobName::Idle => Self { rooms: 100, members: 90, ..plan.silent() },
            JobName::Connect => {
                Self { rooms: 20, members: 100, duration: Duration::ZERO, ..plan.silent() }
            }
            JobName::Ingest => Self {
                members: 0,
                publishers: 10,
                ack: true,
                pace: Pace::Closed { outstanding: 80 },
                ..plan
            },
            JobName::Neighbour => Self {
                scene: Scene::Neighbour,
                members: 10,
                pace: Pace::Open { per_second: 200.0, burst: 1 },
                ..plan
            },
            JobName::Relay => plan.relayed(false),
            JobName::RelaySaturated => {
                Self { pace: Pace::Closed { outstanding: 512 }, ..plan.relayed(false) }
            }
            JobName::RelayExact => plan.relayed(true),
            JobName::RelayLatency => Self { scene: Scene::Pair, members: 1, pace: fast, ..plan },
            JobName::History => Self {
                scene: Scene::History,
                ack: true,
                rooms: 10,
                members: 0,
                pace: Pace::Closed { outstanding: 256 },
                payload_bytes: 200,
                ..plan
            },
            JobName::Cluster => {
                Self { scene: Scene::Pair, rooms: 10, members: 50, pace: fast, ..plan }
            }
        }
    }

    fn silent(self) -> Self {
        Self { publishers: 0, pace: Pace::Silent, warmup: Duration::ZERO, ..self }
    }

    fn relayed(self, exact: bool) -> Self {
        let pace = Pace::Open { per_second: 20_000.0, burst: 1 };
        Self { scene: Scene::Relayed { exact }, members: 1, payload_bytes: 300, pace, ..self }
    }

    /// Connections of all kinds.
    pub(crate) fn connections(&self) -> u32 {
        self.rooms.saturating_mul(self.members).saturating_add(self.publishers)
    }

    /// What is wrong with it, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { rooms, pace, publishers, .. } = self;
        match pace {
            _ if *rooms == 0 => Err("--rooms must be at least 1".into()),
            Pace::Open { .. } | Pace::Closed { .. } if *publishers == 0 => {
                Err("--publishers must be at least 1".into())
            }
            Pace::Open { per_second, burst }
                if !per_second.is_finite() || *per_second <= 0.0 || *burst == 0 =>
            {
                Err("--rate and --burst must be above 0".into())
            }
            Pace::Closed { outstanding } if !(1..=MAX_OUTSTANDING).contains(outstanding) => {
                Err(format!("--outstanding must be 1 to {MAX_OUTSTANDING}"))
            }
            Pace::Closed { .. } if self.members == 0 && !self.ack => {
                Err("--outstanding needs members or --ack, else nothing says when to go on".into())
            }
            Pace::Open { .. } | Pace::Closed { .. } | Pace::Silent => Ok(()),
        }
    }
}

/// Publications under way at once in a closed loop.
pub(crate) const MAX_OUTSTANDING: u32 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_jobs_are_those_of_the_bars() {
        let sizes = JobName::ALL.map(|job| (job.name(), Plan::named(job).connections()));
        assert_eq!(
            sizes,
            [
                ("paced", 1_001),
                ("big", 8_001),
                ("burst", 1_001),
                ("saturated", 1_001),
                ("small-rooms", 1_001),
                ("idle", 9_000),
                ("connect", 2_000),
                ("ingest", 10),
                ("neighbour", 11),
                ("relay", 2),
                ("relay-saturated", 2),
                ("relay-exact", 2),
                ("relay-latency", 2),
                ("cluster", 501),
                ("history", 1),
            ]
        );
        for job in JobName::ALL {
            assert_eq!(Plan::named(job).check(), Ok(()), "{job:?}");
        }
    }

    #[test]
    fn jobs_that_cannot_be_run_are_refused() {
        let plan = Plan::new("x");
        for bad in [
            Plan { rooms: 0, ..plan.clone() },
            Plan { publishers: 0, ..plan.clone() },
            Plan { pace: Pace::Open { per_second: 0.0, burst: 1 }, ..plan.clone() },
            Plan { pace: Pace::Open { per_second: 1.0, burst: 0 }, ..plan.clone() },
            Plan { pace: Pace::Closed { outstanding: 0 }, ..plan.clone() },
            Plan { pace: Pace::Closed { outstanding: 1 }, members: 0, ..plan },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
