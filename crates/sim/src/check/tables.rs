//! How full things are: I8 (every queue and table keeps its bound), G20 (when all connections are gone every table is
//! empty).

use roomcast_router::hub::WAITING_BYTES_MAX;
use roomcast_router::lane::{BACKLOG_BYTES_MAX, Sizes};

use crate::node::core::{CORE_QUEUE_BYTES, LANE_QUEUE_BYTES, SLACK_BYTES};
use crate::node::feed::FEED_BYTES;
use crate::node::socket::OUTBOX_BYTES;
use crate::world::World;

impl World {
    fn bound(&mut self, what: &str, bytes: usize, max: usize) {
        if bytes > max {
            self.book.violate("I8", &[], || format!("{what} holds {bytes}, at most {max}"));
        }
    }

    /// I8 of a node's core, after its turn.
    pub(crate) fn check_node(&mut self, node: usize) {
        let now = self.nodes[node].now(self.now_ms);
        let core = &self.nodes[node].core;
        let (feed, from_lanes) = (core.feed_bytes, core.from_lanes_bytes);
        let waiting = core.hub.health(now).waiting_bytes;
        self.bound("the feed", feed, FEED_BYTES + SLACK_BYTES);
        self.bound("lanes to core", from_lanes, CORE_QUEUE_BYTES + SLACK_BYTES);
        self.bound("the hub's waiting publications", waiting, WAITING_BYTES_MAX);
        for lane in 0..crate::node::LANES {
            let bytes = self.nodes[node].lanes[lane].inbox_bytes;
            self.bound("core to lane", bytes, LANE_QUEUE_BYTES + SLACK_BYTES);
        }
    }

    /// I8 of a lane, after its turn.
    pub(crate) fn check_lane(&mut self, node: usize, lane: usize) {
        let actor = &self.nodes[node].lanes[lane];
        let backlog = actor.lane.backlog_bytes();
        let outboxes = actor.sockets.iter().flatten();
        let outboxes = outboxes.filter_map(|socket| self.sockets[*socket].outbox.as_ref());
        let fullest = outboxes.map(|outbox| outbox.bytes()).max().unwrap_or_default();
        self.bound("a lane's rooms", backlog, BACKLOG_BYTES_MAX + SLACK_BYTES);
        self.bound("an outbox", fullest, OUTBOX_BYTES);
    }

    /// G20: nobody is there any more.
    pub(crate) fn check_empty(&mut self) {
        for node in 0..self.nodes.len() {
            let now = self.nodes[node].now(self.now_ms);
            let it = &self.nodes[node];
            let health = it.core.hub.health(now);
            let lanes = it.lanes.iter().map(|lane| (lane.lane.sizes(), lane.lane.backlog_bytes()));
            let lanes: Vec<_> = lanes.collect();
            let counts = [
                ("rooms of the hub", it.core.hub.rooms()),
                ("agents", it.core.hub.agents()),
                ("waiting publications", health.waiting),
                ("orders of the broker", it.broker.open()),
                ("users", it.users.len()),
                ("things asked of conversations", it.core.hub.presence_sizes().talks),
                ("untold events", it.core.hub.presence_sizes().untold),
            ];
            // Beats are always under way.
            let left = counts
                .iter()
                .find(|(name, count)| *count > usize::from(*name == "orders of the broker"));
            let lane = lanes.iter().find(|it| **it != (Sizes::default(), 0));
            let said = match (left, lane) {
                (Some((name, count)), _) => format!("node {node} has {count} {name}"),
                (None, Some(sizes)) => format!("a lane of node {node} has {sizes:?}"),
                (None, None) => continue,
            };
            self.book.violate("G20", &[], || said);
        }
    }
}
