//! What kept rooms have on real servers: positions, what is kept, ids, heads, and beats that tell what moved.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::collections::HashMap;

use common::{KEEP, Real, Topology, offsets, options, subscribed};
use roomcast_protocol::envelope::Envelope;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::{Kept, Position};
use roomcast_protocol::relay::{RelayFormat, RelayMode};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// The positions that come over a node's feed.
#[track_caller]
fn next_position(broker: &mut Real, node: NodeId) -> (String, Position) {
    match broker.next_envelope(node) {
        Envelope::Publication { publication, .. } => {
            (publication.id.to_string(), publication.position.unwrap())
        }
        Envelope::Unreadable { position, .. } => panic!("{position:?} cannot be read"),
    }
}

#[test]
fn positions_are_consecutive_over_all_nodes_in_every_mode_and_format() {
    let topologies = [Topology::standalone(), Topology::sentinel(), Topology::cluster()];
    for topology in &topologies {
        for (mode, format) in [
            (RelayMode::Pattern, RelayFormat::MessagePack),
            (RelayMode::Exact, RelayFormat::Json),
            (RelayMode::Sharded, RelayFormat::MessagePack),
        ] {
            topology.flush();
            let mut broker = Real::new(common::with_format(options(topology, mode), format));
            for node in [ONE, TWO] {
                broker.attach_node(node);
                subscribed(&mut broker, node, "news", 1);
            }
            let first = broker.stored(ONE, 1, "news", KEEP);
            assert_eq!(first.offset, 1);
            for ticket in 2..=41 {
                let node = if ticket % 3 == 0 { TWO } else { ONE };
                broker.publish_kept(node, ticket, ticket, "news", KEEP);
            }
            let mut of_ids = HashMap::from([("id-0001".to_owned(), first)]);
            for ticket in 2..=41 {
                let node = if ticket % 3 == 0 { TWO } else { ONE };
                let accepted = broker.outcome(node, ticket).unwrap();
                of_ids.insert(format!("id-{ticket:04}"), accepted.position.unwrap());
            }
            for node in [ONE, TWO] {
                for offset in 1..=41 {
                    let (id, position) = next_position(&mut broker, node);
                    assert_eq!(position, first.at(offset), "{mode:?} {topology:?}");
                    assert_eq!(of_ids[&id], position, "the answer is where it stands");
                }
            }
            let page = broker.kept(TWO, "news", KEEP);
            assert_eq!((page.head.position, page.head.first), (first.at(41), 1));
            assert_eq!((offsets(&page), page.whole), ((1..=41).collect(), true));
            for kept in &page.entries {
                let Kept::Publication(publication) = kept else { panic!("{kept:?}") };
                assert_eq!(of_ids[&*publication.id], publication.position.unwrap());
            }
        }
    }
}
