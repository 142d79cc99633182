//! What a job is run against: a node of our own or a given one, or Redis with the nodes around it.

use std::time::Duration;

use super::node::Node;
use super::outcome::Outcome;
use super::plan::{Plan, Scene};
use super::redis::Redis;
use super::run::{self, Server};
use super::{history, neighbour, raw, relayed};
use crate::failure::Failure;

/// How long nodes that just began to hear each other are left alone.
const SETTLE: Duration = Duration::from_secs(2);

/// What is up for a job, in the order in which it ends.
pub(crate) enum Stage {
    /// A node that runs already.
    Given(Server),
    /// One node.
    Node(Node),
    /// Nodes around a Redis: the first one publishes, the last one hears.
    Cluster(Vec<Node>, Redis),
    /// A Redis alone.
    Redis(Redis),
}

impl Stage {
    /// Starts what a job needs.
    pub(crate) fn start(plan: &Plan) -> Result<Self, Failure> {
        let (nodes, mode) = match plan.scene {
            Scene::Node | Scene::Neighbour => return Ok(Self::Node(Node::start(plan, &[])?)),
            Scene::Relayed { exact: false } => (1, "pattern"),
            Scene::Relayed { exact: true } => (1, "exact"),
            Scene::Pair => (2, "pattern"),
            Scene::History => return Ok(Self::Redis(Redis::start()?)),
        };
        let redis = Redis::start()?;
        let arguments =
            ["--redis".to_owned(), redis.url(), "--set".into(), format!("relay.mode={mode}")];
        let nodes: Vec<_> =
            (0..nodes).map(|_| Node::start(plan, &arguments)).collect::<Result<_, _>>()?;
        redis.wait_for_feeds(nodes.len())?;
        std::thread::sleep(SETTLE);
        Ok(Self::Cluster(nodes, redis))
    }

    /// Runs the job once.
    pub(crate) fn run(&self, plan: &Plan) -> Result<Outcome, Failure> {
        match self {
            Self::Given(server) => on_node(plan, server),
            Self::Node(node) => on_node(plan, &node.server()?),
            Self::Redis(redis) => history::run(redis, plan),
            Self::Cluster(nodes, redis) => {
                let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else {
                    return Err(Failure::Failed("no node".into()));
                };
                match plan.scene {
                    Scene::Relayed { exact } => relayed::run(plan, redis, last, exact),
                    Scene::Node | Scene::Neighbour | Scene::Pair | Scene::History => {
                        run::run_and_tell(plan, &last.server()?, &first.server()?, || {})
                    }
                }
            }
        }
    }

    /// Runs what the job's latency is compared with.
    pub(crate) fn run_reference(&self, plan: &Plan) -> Result<Outcome, Failure> {
        match self {
            Self::Given(server) => run::run(plan, server),
            Self::Node(node) => run::run(plan, &node.server()?),
            Self::Cluster(_, redis) => raw::round_trip(redis, plan),
            Self::Redis(redis) => history::bare(redis, plan),
        }
    }
}

fn on_node(plan: &Plan, server: &Server) -> Result<Outcome, Failure> {
    match plan.scene {
        Scene::Node => run::run(plan, server),
        Scene::Neighbour => neighbour::run(plan, server),
        Scene::Relayed { .. } | Scene::Pair | Scene::History => Err(Failure::Usage(format!(
            "the job {} starts its own Redis and nodes: leave --url out",
            plan.name
        ))),
    }
}
