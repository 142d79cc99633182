//! The broker contract on real servers, in each mode and topology, and what only a broker that can fail does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests fail as tests do, and look for one event among all"
)]

mod common;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use common::{Real, Topology, options, subscribed, traits};
use roomcast_protocol::contract::{
    HISTORY, INBOX, OCCUPANCY, PRESENCE, RECEIPTS, SCRIPTS, SESSIONS, Script, run,
};
use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::relay::RelayMode;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// Scripts about what is kept of sessions, users, cursors and receipts.
const STATE: [&[Script]; 5] = [SESSIONS, PRESENCE, OCCUPANCY, INBOX, RECEIPTS];

/// Scripts are played side by side on so many servers, or groups of them: most of their time they wait.
const SIDE_BY_SIDE: usize = 8;

/// The scripts in these modes, each of which has all servers for itself: they remember what went before. Those of
/// `state` wait for leases to end, and ask little of a mode; they begin first, so that nobody waits for them at last.
fn keep_the_contract(start: fn() -> Topology, modes: &[RelayMode], state: &[&'static [Script]]) {
    let state = state.iter().copied().flatten().map(|script| (modes.last(), script));
    let each = modes
        .iter()
        .flat_map(|mode| SCRIPTS.iter().chain(HISTORY).map(move |script| (Some(mode), script)));
    let plays: Mutex<VecDeque<_>> = Mutex::new(state.chain(each).collect());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                let topology = start();
                let next = || plays.lock().unwrap().pop_front();
                while let Some((Some(mode), script)) = next() {
                    topology.flush();
                    let broker = Real::new(options(&topology, *mode));
                    let failure = run(script, &traits(&topology), broker).err();
                    failed.lock().unwrap().extend(failure.map(|it| format!("{mode:?}: {it}")));
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_contract_is_kept_on_one_server_in_every_mode() {
    use RelayMode::{Exact, Pattern, Sharded};
    keep_the_contract(Topology::standalone, &[Exact, Sharded, Pattern], &STATE);
}

#[test]
fn the_contract_is_kept_behind_sentinels() {
    keep_the_contract(Topology::sentinel, &[RelayMode::Pattern], &[SESSIONS, INBOX, RECEIPTS]);
}

#[test]
fn the_contract_is_kept_on_a_cluster_in_every_mode() {
    use RelayMode::{Exact, Pattern, Sharded};
    keep_the_contract(Topology::cluster, &[Pattern, Exact, Sharded], &STATE);
}

#[test]
fn outsiders_are_heard_in_every_mode() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        for mode in RelayMode::ALL {
            let mut broker = Real::new(options(&topology, mode));
            broker.attach_node(ONE);
            subscribed(&mut broker, ONE, "news", 1);
            topology.publish("room:news", r#"{"type":"greeting","data":{"n":1}}"#);
            let heard = broker.wait(ONE, "the outsider's publication", |event| match event {
                BrokerEvent::Envelope(envelope) => Some(common::shown(envelope)),
                _ => None,
            });
            assert_eq!(heard, "news greeting external {\"n\":1}", "{mode:?} {topology:?}");
            topology.publish("room:other", "{}");
            topology.publish("room:news", "last");
            let heard = broker.wait(ONE, "the last one", |event| match event {
                BrokerEvent::Envelope(envelope) => Some(common::shown(envelope)),
                _ => None,
            });
            assert_eq!(heard, "news message external last", "nothing of a room nobody wants");
        }
    }
}

#[test]
fn a_beat_comes_back_over_every_link_and_tells_of_the_others() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        for mode in RelayMode::ALL {
            topology.flush();
            let mut broker = Real::new(options(&topology, mode));
            let links = broker.attach_node(ONE);
            broker.attach_node(TWO);
            let beat = |seq| BrokerCommand::Beat {
                seq,
                hears: true,
                life: 1,
                retired: None,
                taken: Vec::new(),
                told: None,
                reads: false,
            };
            broker.command(TWO, beat(1));
            broker.wait(TWO, "its answer", |event| match event {
                BrokerEvent::BeatAnswered { seq: 1, report: Some(report) } => {
                    Some(report.peers.is_empty())
                }
                _ => None,
            });
            broker.command(ONE, beat(7));
            let report = broker.wait(ONE, "the answer", |event| match event {
                BrokerEvent::BeatAnswered { seq: 7, report } => report.clone(),
                _ => None,
            });
            assert_eq!(report.links, links);
            let [peer] = report.peers[..] else { panic!("{:?}", report.peers) };
            assert_eq!((peer.node, peer.hears, peer.agrees), (TWO, true, true));
            for link in links {
                let master = broker.wait(ONE, "a beat over each link", |event| match event {
                    BrokerEvent::Beat { link: over, seq: 7, master, .. } if *over == link => {
                        Some(*master)
                    }
                    _ => None,
                });
                if matches!(topology, Topology::Standalone(_)) {
                    assert_eq!(master, report.master);
                }
            }
        }
    }
}

#[test]
fn a_cut_link_is_told_and_replaced_with_all_that_was_wanted() {
    for mode in RelayMode::ALL {
        let topology = Topology::proxied();
        let mut broker = Real::new(options(&topology, mode));
        let links = broker.attach_node(ONE);
        subscribed(&mut broker, ONE, "news", 1);
        topology.proxy().cut();
        broker.wait(ONE, "the loss", |event| matches!(event, BrokerEvent::FeedDown).then_some(()));
        // Asked for while the feed is down.
        let room = common::room("later");
        broker.command(ONE, BrokerCommand::Subscribe { room, request: 2 });
        let (again, request) = broker.wait(ONE, "the return", |event| match event {
            BrokerEvent::FeedUp { links, request } => Some((links.clone(), *request)),
            _ => None,
        });
        assert!(again.iter().all(|link| !links.contains(link)), "links are new ones");
        if request < 2 {
            broker.wait(ONE, "the confirmation", |event| {
                matches!(event, BrokerEvent::Subscribed { request: 2, .. }).then_some(())
            });
        }
        for name in ["news", "later"] {
            topology.publish(&format!("room:{name}"), "x");
            let heard = broker.wait(ONE, "both rooms", |event| match event {
                BrokerEvent::Envelope(envelope) => Some(common::shown(envelope)),
                _ => None,
            });
            assert_eq!(heard, format!("{name} message external x"));
        }
    }
}

#[test]
fn nodes_of_other_modes_hear_each_other_until_they_agree() {
    let topology = Topology::standalone();
    let mut exact = options(&topology, RelayMode::Exact);
    exact.modes_digest = 2;
    let mut one = Real::new(options(&topology, RelayMode::Pattern));
    let mut two = Real::new(exact);
    one.attach_node(ONE);
    two.attach_node(TWO);
    subscribed(&mut one, ONE, "news", 1);
    subscribed(&mut two, TWO, "news", 1);
    for seq in 1..=2 {
        for (broker, node) in [(&mut one, ONE), (&mut two, TWO)] {
            broker.command(
                node,
                BrokerCommand::Beat {
                    seq,
                    hears: true,
                    life: 1,
                    retired: None,
                    taken: Vec::new(),
                    told: None,
                    reads: false,
                },
            );
            broker.wait(node, "the beat's answer", |event| {
                matches!(event, BrokerEvent::BeatAnswered { report: Some(_), .. }).then_some(())
            });
        }
    }
    for (broker, node) in [(&mut one, ONE), (&mut two, TWO)] {
        broker.wait(node, "new links", |event| {
            matches!(event, BrokerEvent::FeedUp { .. }).then_some(())
        });
    }
    one.publish(ONE, 1, "news", "by pattern", false);
    two.publish(TWO, 2, "news", "exactly", false);
    for (broker, node) in [(&mut one, ONE), (&mut two, TWO)] {
        let mut heard: Vec<String> = (0..2)
            .map(|_| {
                broker.wait(node, "both publications", |event| match event {
                    BrokerEvent::Envelope(envelope) => Some(common::shown(envelope)),
                    _ => None,
                })
            })
            .collect();
        heard.sort();
        assert_eq!(heard, ["news message ann by pattern", "news message ann exactly"]);
    }
}

#[test]
fn a_publication_with_an_id_survives_a_frozen_server_once() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    topology.freeze(Duration::from_millis(2_500), || {
        broker.publish(ONE, 1, "news", "once", true);
    });
    let outcome = broker.outcome(ONE, 1);
    assert!(outcome.is_ok(), "{outcome:?}");
    broker.publish(ONE, 2, "news", "last", false);
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "news message ann last") {
        heard.push(broker.wait(ONE, "publications", |event| match event {
            BrokerEvent::Envelope(envelope) => Some(common::shown(envelope)),
            _ => None,
        }));
    }
    assert_eq!(heard, ["news message ann once", "news message ann last"]);
}

#[test]
fn without_a_server_the_outcome_is_certain_and_nothing_ends() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    topology.kill();
    broker.wait(ONE, "the loss", |event| matches!(event, BrokerEvent::FeedDown).then_some(()));
    broker.command(
        ONE,
        BrokerCommand::Beat {
            seq: 1,
            hears: false,
            life: 1,
            retired: None,
            taken: Vec::new(),
            told: None,
            reads: false,
        },
    );
    broker.wait(ONE, "an answer all the same", |event| {
        matches!(event, BrokerEvent::BeatAnswered { seq: 1, report: None }).then_some(())
    });
    broker.publish(ONE, 1, "news", "never", true);
    let refused = broker.outcome(ONE, 1).unwrap_err();
    assert!(!refused.unknown, "it was never sent: {refused:?}");
    topology.restart();
    broker
        .wait(ONE, "the return", |event| matches!(event, BrokerEvent::FeedUp { .. }).then_some(()));
    broker.publish(ONE, 2, "news", "at last", true);
    assert!(broker.outcome(ONE, 2).is_ok());
}

#[test]
fn a_password_and_a_wrong_one_are_told_apart() {
    let topology = Topology::with_password("open sesame");
    let mut broker = Real::new(options(&topology, RelayMode::Exact));
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    broker.publish(ONE, 1, "news", "x", true);
    assert!(broker.outcome(ONE, 1).is_ok());
    let mut wrong = options(&topology, RelayMode::Exact);
    wrong.credentials.password = Some("guess".to_owned());
    let mut broker = Real::new(wrong);
    broker.attach_without_feed(TWO);
    broker.publish(TWO, 1, "news", "x", true);
    assert!(broker.outcome(TWO, 1).is_err());
}

#[test]
fn what_waits_for_the_server_is_bounded() {
    let topology = Topology::standalone();
    let mut options = options(&topology, RelayMode::Pattern);
    let weight = common::publication("news", "x", 0).weight();
    options.pending_bytes_max = 2 * weight;
    let mut broker = Real::new(options);
    broker.attach_node(ONE);
    topology.freeze(Duration::from_millis(300), || {
        for ticket in 1..=3 {
            broker.publish(ONE, ticket, "news", "x", false);
        }
        let refused = broker.outcome(ONE, 3).unwrap_err();
        assert_eq!(refused.retry_after_ms, Some(100));
    });
    assert!(broker.outcome(ONE, 1).is_ok() && broker.outcome(ONE, 2).is_ok());
}
