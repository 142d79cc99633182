//! What other programs with access to Redis can do to a node: nothing but be heard as outsiders (attack 39).

mod common;

use common::{Real, Topology, options, subscribed};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::relay::RelayMode;

const ONE: NodeId = NodeId(1);

#[test]
fn a_channel_with_an_endless_name_costs_no_feed() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    for bytes in [1_020, 2_000, 9 << 20] {
        topology.publish(&format!("room:{}", "x".repeat(bytes)), "hi");
        topology.publish("room:news", "after");
        assert_eq!(
            broker.heard_until(ONE, "news message external after"),
            ["news message external after"],
            "{bytes} bytes"
        );
    }
}
