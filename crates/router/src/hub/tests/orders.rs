//! Orders to all nodes: ends of sessions, and what happens while some may be missing.

use std::sync::Arc;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{BrokerEvent, Envelope};
use roomcast_protocol::ids::{LaneId, NodeId};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use super::surveys::hears;
use super::{Rules, World, config};
use crate::hub::Ordered;
use crate::hub::answers::room_of;
use crate::hub::{BLIND_MS, CARRYING_MAX, Hub, PAUSED_BYTES_MAX, REPAIR_MS};
use crate::messages::{HubMessage, QueryId};
use crate::orders::{Order, Outcome, Revocation, Tokens, Whom, confirmation};

/// Over link 1, whole, with the orders at 3.
pub(super) fn world() -> World {
    let mut world = World::with(Hub::new(config(0, true), Arc::new(Rules)));
    world.orders = true;
    steps(
        &mut world,
        "auto over=1\nup 1\nat 1\nheads 3\nat 2\nheads 3\n1 joins news\nsubscribed news\nat 10",
    );
    world.seen.clear();
    world
}

fn steps(world: &mut World, script: &str) {
    script.lines().for_each(|line| world.step(line.trim()));
}

#[track_caller]
fn check(script: &str, expected: &str) {
    let mut world = world();
    steps(&mut world, script);
    let expected: Vec<_> = expected.lines().map(str::trim).collect();
    assert_eq!(world.seen, expected, "\nseen:\n{}\n", world.seen.join("\n"));
}

#[test]
fn an_order_travels_and_ends_sessions_on_every_lane_when_it_comes_back() {
    let mut world = world();
    disconnect(&mut world, "bob");
    steps(&mut world, &format!("accepted at=4\nfeed $control at=4 {OURS} text=bob"));
    world.event_is(BrokerEvent::SessionsEnded { request: 7, done: true });
    steps(&mut world, &format!("feed $control at=4 {OURS} text=bob"));
    steps(&mut world, "feed $control at=5 id=7 kind=disconnect by=node-2 text=ann");
    let expected = [
        "publish $control 0000000000000001-7 kept dedup",
        "end 7 all of bob as of 4",
        "0: disconnect bob",
        "1: disconnect bob",
        "2: disconnect bob",
        "obeyed 4",
        "0: disconnect ann",
        "1: disconnect ann",
        "2: disconnect ann",
        "obeyed 5",
    ];
    assert_eq!(world.seen, expected);
}

/// An order of this node, as the feed brings it.
const OURS: &str = "id=0000000000000001-7 kind=disconnect by=node-1";

/// The same of node 2.
const THEIRS: &str = "id=0000000000000002-7 kind=disconnect by=node-2";

/// Lanes have carried out the order of this number; each for as many sessions as its own number.
fn carry_out(world: &mut World, ticket: u64, lanes: &[u8]) {
    for lane in lanes.iter().copied() {
        let outcome = Outcome::of(lane.into());
        world.says(HubMessage::CarriedOut { lane: LaneId(lane), ticket, outcome });
    }
}

/// Another node's word, as the feed brings it.
fn confirms(world: &mut World, node: u64, sessions: u64) {
    let text = confirmation(7, NodeId(node), &Outcome::of(sessions));
    hears(world, room_of(NodeId(1)).unwrap(), "confirm", text);
}

/// Another node ends as it should.
pub(super) fn says_farewell(world: &mut World, node: u64) {
    let room = RoomName::system("$nodes").unwrap();
    hears(world, room, "farewell", NodeId(node).to_string());
}

/// An order is stored, and the records have ended; nodes 2 and 3 hold a lease.
fn ordered() -> World {
    let mut world = world();
    steps(&mut world, "auto over=1 peers=2,3\nat 1010");
    disconnect(&mut world, "bob");
    world.step("accepted at=4");
    world.event_is(BrokerEvent::SessionsEnded { request: 7, done: true });
    world.seen.clear();
    world
}

#[test]
fn an_order_is_answered_once_all_lanes_here_and_all_nodes_with_a_lease_have_carried_it_out() {
    let mut world = ordered();
    steps(&mut world, &format!("feed $control at=4 {OURS} text=bob"));
    world.seen.clear();
    confirms(&mut world, 3, 5);
    carry_out(&mut world, 1, &[0, 2, 2, 0]);
    confirms(&mut world, 3, 6);
    confirms(&mut world, 2, 0);
    assert_eq!(world.seen, [""; 0], "lane 1 has not, and node 3 said so twice");
    carry_out(&mut world, 1, &[1]);
    assert_eq!(world.seen, ["answer 7 accepted 4 1:5 2:0 3:5"]);
    confirms(&mut world, 2, 9);
    assert_eq!(world.seen.len(), 1, "what comes later is nobody's");
    assert!(world.hub.answers.are_idle());
}

#[test]
fn nodes_that_do_not_confirm_in_time_are_named_and_others_than_expected_count() {
    let mut world = ordered();
    steps(&mut world, &format!("feed $control at=4 {OURS} text=bob"));
    carry_out(&mut world, 1, &[0, 1, 2]);
    confirms(&mut world, 2, 1);
    confirms(&mut world, 4, 2);
    world.seen.clear();
    steps(&mut world, &format!("at {}", 1_010 + TIMEOUT_MS - 1));
    assert_eq!(world.seen, [""; 0]);
    steps(&mut world, &format!("at {}", 1_010 + TIMEOUT_MS));
    assert_eq!(world.seen, ["answer 7 accepted 4 1:3 2:1 4:2 not 3"]);
    assert_eq!(world.hub.counters().orders_unanswered, 1);
    assert!(world.hub.answers.are_idle());
}

/// An order is stored and carried out here; node 2 holds a lease, and that of node 3 has ended.
fn ordered_without_a_lease() -> World {
    let mut world = world();
    steps(&mut world, "auto over=1 peers=2,3\nat 1010\nauto over=1 peers=2\nat 2010");
    disconnect(&mut world, "bob");
    world.step("accepted at=4");
    world.event_is(BrokerEvent::SessionsEnded { request: 7, done: true });
    steps(&mut world, &format!("feed $control at=4 {OURS} text=bob"));
    carry_out(&mut world, 1, &[0, 1, 2]);
    world.seen.clear();
    world
}

#[test]
fn nodes_whose_lease_has_ended_are_named_but_not_waited_for() {
    let mut world = ordered_without_a_lease();
    confirms(&mut world, 2, 0);
    assert_eq!(world.seen, ["answer 7 accepted 4 1:3 2:0 not 3"]);
    assert_eq!(world.hub.counters().orders_unanswered, 1);
}

#[test]
fn a_node_that_was_lost_and_confirms_all_the_same_is_not_named() {
    let mut world = ordered_without_a_lease();
    confirms(&mut world, 3, 1);
    confirms(&mut world, 2, 0);
    assert_eq!(world.seen, ["answer 7 accepted 4 1:3 2:0 3:1"]);
}

#[test]
fn nobody_waits_for_a_node_that_said_farewell_or_names_it() {
    let mut world = ordered();
    steps(&mut world, &format!("feed $control at=4 {OURS} text=bob"));
    carry_out(&mut world, 1, &[0, 1, 2]);
    confirms(&mut world, 2, 1);
    world.seen.clear();
    says_farewell(&mut world, 1);
    assert_eq!(world.seen, [""; 0], "its own word of an earlier life says nothing");
    says_farewell(&mut world, 3);
    assert_eq!(world.seen, ["answer 7 accepted 4 1:3 2:1"]);
    // Its lease shows a while longer, and then does not.
    for peers in ["2,3", "2"] {
        let at_ms = if peers == "2" { 3_010 } else { 2_010 };
        steps(&mut world, &format!("auto over=1 peers={peers}\nat {at_ms}"));
        assert_eq!(world.hub.lost_nodes().len(), 0);
        assert_eq!(world.hub.all_nodes().len(), 2);
    }
}

#[test]
fn a_node_that_ends_says_farewell_to_all() {
    let mut world = world();
    world.act(|hub, now, out| hub.farewell(now, out));
    assert_eq!(world.seen, ["publish $nodes farewell 0000000000000001"]);
}

#[test]
fn an_order_that_is_not_stored_in_time_is_answered_once_it_is() {
    let mut world = world();
    disconnect(&mut world, "bob");
    steps(&mut world, &format!("at {}", 20 + TIMEOUT_MS));
    world.seen.clear();
    world.step("accepted at=4");
    assert_eq!(world.seen, ["end 7 all of bob as of 4"]);
    world.event_is(BrokerEvent::SessionsEnded { request: 7, done: true });
    assert_eq!(world.seen[1..], ["answer 7 accepted 4 not 1"]);
}

#[test]
fn another_nodes_order_is_confirmed_to_it_once_all_lanes_have_carried_it_out() {
    let mut world = world();
    steps(&mut world, &format!("feed $control at=4 {THEIRS} text=bob"));
    world.seen.clear();
    carry_out(&mut world, 1, &[2, 0]);
    assert_eq!(world.seen, [""; 0]);
    carry_out(&mut world, 1, &[1]);
    assert_eq!(world.seen, ["publish $node-0000000000000002 confirm 7 0000000000000001 3 0"]);
    // What is obeyed because it was read again is not confirmed again: it is not obeyed again.
    steps(&mut world, &format!("feed $control at=5 {THEIRS} text=bob"));
    assert_eq!(world.seen[1..], ["obeyed 5"]);
    assert!(world.hub.answers.are_idle());
}

#[test]
fn orders_under_way_in_lanes_have_a_bound_beyond_which_the_oldest_is_not_confirmed() {
    let mut world = world();
    let feed = |world: &mut World, from: usize, to: usize| {
        for at in from..=to {
            let id = format!("id=0000000000000002-{at} kind=disconnect by=node-2");
            steps(world, &format!("feed $control at={} {id} text=bob", at + 3));
        }
        world.seen.clear();
    };
    feed(&mut world, 1, CARRYING_MAX);
    assert_eq!(world.hub.counters().orders_unconfirmed, 0);
    feed(&mut world, CARRYING_MAX + 1, CARRYING_MAX + 1);
    assert_eq!(world.hub.counters().orders_unconfirmed, 1);
    carry_out(&mut world, 1, &[0, 1, 2]);
    assert_eq!(world.seen, [""; 0]);
    carry_out(&mut world, 2, &[0, 1, 2]);
    assert_eq!(world.seen.len(), 1);
}

fn disconnect(world: &mut World, user: &str) {
    let disconnect = ends(user);
    world.act(|hub, now, out| hub.message(now, disconnect, out));
}

#[test]
fn an_order_is_answered_once_sessions_without_a_connection_have_ended_too() {
    for (done, answer) in
        [(true, "answer 7 accepted 6 1:3"), (false, "answer 7 unavailable 2000 ms")]
    {
        let mut world = world();
        disconnect(&mut world, "bob");
        // The records end as of the order's position, which nobody knows before.
        world.event_is(BrokerEvent::SessionsEnded { request: 7, done: true });
        world.step("accepted at=6");
        assert_eq!(
            world.seen,
            ["publish $control 0000000000000001-7 kept dedup", "end 7 all of bob as of 6"]
        );
        steps(&mut world, &format!("feed $control at=4 {OURS} text=bob"));
        carry_out(&mut world, 1, &[0, 1, 2]);
        world.seen.clear();
        world.event_is(BrokerEvent::SessionsEnded { request: 7, done });
        assert_eq!(world.seen, [answer]);
        // What comes twice is nobody's.
        world.event_is(BrokerEvent::SessionsEnded { request: 7, done: true });
        assert_eq!(world.seen.len(), 1);
        assert!(world.hub.endings.are_idle() && world.hub.answers.are_idle());
    }
}

#[test]
fn lanes_are_told_what_they_have_obeyed_once_no_order_in_front_of_it_is_missing() {
    let mut world = World::with(Hub::new(config(0, true), Arc::new(Rules)));
    world.orders = true;
    steps(&mut world, "auto over=1\nup 1\nat 1\nheads 3\nat 2\nheads 3");
    let told = |world: &mut World| {
        let told = world.seen.iter().filter_map(|text| text.strip_prefix("obeyed "));
        let told: Vec<_> = told.map(str::to_owned).collect();
        world.seen.clear();
        told
    };
    assert_eq!(told(&mut world), ["3"], "at the start, once");
    let order = |at: u64| format!("feed $control at={at} id=z{at} kind=disconnect text=ann");
    steps(&mut world, &format!("{}\n{}\nat 600", order(5), order(6)));
    assert_eq!(told(&mut world), [""; 0]);
    steps(&mut world, "page 4-6 kind=disconnect text=ann id=z");
    assert_eq!(told(&mut world), ["6"]);
    // The stream begins anew: first all of it is read once more.
    steps(
        &mut world,
        "feed $control at=7 e=2 id=z7 kind=disconnect text=ann\nheads 7 e=2\nat 1300",
    );
    assert_eq!(told(&mut world), [""; 0]);
    steps(&mut world, "page 1-5 head=7 e=2 first=1 part kind=disconnect text=ann id=z\nat 1900");
    assert_eq!(told(&mut world), [""; 0]);
    steps(&mut world, "page 6-7 e=2 kind=disconnect text=ann id=z");
    assert_eq!(told(&mut world), ["7 of 2"]);
    // And once more, with none in it yet.
    steps(&mut world, "feed $control at=1 e=3 id=y kind=fence text=x\nheads 0 e=3");
    assert_eq!(told(&mut world), ["1 of 3"]);
}

#[test]
fn an_order_that_is_refused_is_answered_at_once() {
    let mut world = world();
    disconnect(&mut world, "bob");
    world.step("refused");
    assert_eq!(world.seen.last().unwrap(), "answer 7 unavailable");
    world.event_is(BrokerEvent::SessionsEnded { request: 7, done: true });
    assert_eq!(world.seen.last().unwrap(), "answer 7 unavailable");
    assert!(world.hub.endings.are_idle() && world.hub.answers.are_idle());
}

#[test]
fn outsiders_give_no_orders() {
    check("feed $control id=0000000000000001-7 kind=disconnect by=node-1 text=bob", "");
}

#[test]
fn after_a_loss_of_the_feed_orders_come_first() {
    check(
        "down
         up 1
         feed news id=a
         heads 3
         heads 5
         at 600
         page 4-5 kind=disconnect text=bob id=z",
        "cut at 10
         0: lost
         1: lost
         2: lost
         heads? $control
         whole at 10
         heads? $control
         read? $control above 3
         0: disconnect bob
         1: disconnect bob
         2: disconnect bob
         0: disconnect bob
         1: disconnect bob
         2: disconnect bob
         obeyed 5
         1: news a",
    );
}

#[test]
fn a_core_that_was_stopped_looks_for_orders_before_it_delivers() {
    check(
        "auto away
         asleep until 5000
         feed news id=a
         heads 3",
        "heads? $control
         1: news a",
    );
}

#[test]
fn a_late_lane_waits_until_orders_are_known() {
    let mut world = world();
    world.act(|hub, now, out| hub.message(now, HubMessage::Late(LaneId(2)), out));
    steps(&mut world, "heads 3");
    assert_eq!(world.seen, ["heads? $control", "2: hold false"]);
}

#[test]
fn orders_that_begin_anew_are_read_again_and_obeyed_once() {
    check(
        "feed $control at=4 id=z4 kind=disconnect text=bob
         feed $control at=5 id=b kind=disconnect text=cyd e=2
         heads 5 e=2
         at 700
         page 3-5 head=5 e=2 first=3 kind=disconnect text=bob id=z",
        "0: disconnect bob
         1: disconnect bob
         2: disconnect bob
         obeyed 4
         heads? $control
         read? $control above 0
         0: disconnect bob
         1: disconnect bob
         2: disconnect bob
         0: disconnect bob
         1: disconnect bob
         2: disconnect bob
         obeyed 5 of 2",
    );
}

#[test]
fn orders_that_are_lost_for_good_have_every_session_prove_itself() {
    check(
        "feed $control at=9 id=a kind=disconnect text=ann
         at 700
         page 8-9 first=8 kind=disconnect text=bob id=z",
        "read? $control above 3
         0: revalidate
         1: revalidate
         2: revalidate
         0: disconnect bob
         1: disconnect bob
         2: disconnect bob
         0: disconnect bob
         1: disconnect bob
         2: disconnect bob
         obeyed 9",
    );
}

#[test]
fn orders_that_cannot_be_read_in_time_have_every_session_prove_itself() {
    let mut world = world();
    steps(&mut world, "down\nup 1\nfeed news id=a");
    steps(&mut world, &format!("at {}", 10 + REPAIR_MS - 1));
    assert_ne!(world.seen.last().unwrap(), "1: news a");
    steps(&mut world, &format!("at {}", 10 + REPAIR_MS));
    assert_eq!(world.seen[world.seen.len() - 2..], ["2: revalidate", "1: news a"]);
}

#[test]
fn what_waits_for_orders_is_bounded_and_what_is_too_much_is_told() {
    let mut world = world();
    let half = PAUSED_BYTES_MAX / 2;
    steps(&mut world, "down\nup 1");
    for id in ["a", "b"] {
        steps(&mut world, &format!("feed news id={id} bytes={half}"));
    }
    assert_eq!(world.hub.health(world.now).paused_bytes, PAUSED_BYTES_MAX);
    steps(&mut world, "feed news id=c bytes=400\nheads 3\nheads 3");
    let heard = world.seen.iter().filter(|text| text.starts_with("1: ")).collect::<Vec<_>>();
    assert_eq!(heard, ["1: lost", "1: news a", "1: news b", "1: lost by overload"]);
}

#[test]
fn an_isolated_node_obeys_alone_and_says_so() {
    let mut world = world();
    steps(&mut world, "auto away\ndown\nat 3000");
    world.seen.clear();
    let disconnect = ends("bob");
    world.act(|hub, now, out| hub.message(now, disconnect, out));
    let own = ["0: disconnect bob", "1: disconnect bob", "2: disconnect bob"];
    assert_eq!(world.seen[..3], own);
    assert_eq!(world.seen[3], "answer 7 unavailable 2000 ms");
}

#[test]
fn an_order_that_waits_when_the_broker_goes_is_obeyed_alone() {
    let mut world = world();
    steps(&mut world, "auto away\ndown");
    let disconnect = ends("bob");
    world.act(|hub, now, out| hub.message(now, disconnect, out));
    steps(&mut world, "at 3000");
    let told = ["0: disconnect bob", "1: disconnect bob", "2: disconnect bob"];
    let at = world.seen.iter().position(|text| text == told[0]).unwrap();
    assert_eq!(world.seen[at..at + 3], told);
    assert_eq!(world.seen[at + 3], "answer 7 unavailable 2000 ms");
}

#[test]
fn what_was_read_meanwhile_waits_for_orders_too() {
    let mut world = world();
    steps(&mut world, "1 joins kept\nsubscribed kept\nheads 5\nfeed kept at=7\nat 600");
    world.seen.clear();
    world.act(|hub, now, out| hub.message(now, HubMessage::Late(LaneId(1)), out));
    steps(&mut world, "page 6-7");
    assert_eq!(world.seen, ["heads? $control"]);
    steps(&mut world, "heads 3");
    assert_eq!(world.seen[1..], ["1: hold false", "1: kept 6", "1: kept 7"]);
}

#[test]
fn strict_rooms_are_not_served_once_orders_have_been_missing_for_long() {
    let mut world = world();
    let publish = "1 publishes strict ack id=a";
    steps(&mut world, &format!("auto away\ndown\nat {}\n{publish}", 10 + BLIND_MS - 1));
    assert_eq!(world.seen.last().unwrap(), "1: isolated for 3 a");
    steps(&mut world, &format!("at {}", 10 + BLIND_MS));
    assert_eq!(world.seen[world.seen.len() - 3..], ["0: blind", "1: blind", "2: blind"]);
    world.seen.clear();
    steps(&mut world, &format!("{publish}\n1 publishes news ack id=b"));
    assert_eq!(world.seen[0], "1: unavailable 2000 ms for 3 a");
    assert_eq!(world.seen.last().unwrap(), "1: isolated for 3 b");
    steps(&mut world, "auto over=1\nup 1\n1 publishes strict ack id=c");
    assert_eq!(world.seen.last().unwrap(), "publish strict c dedup");
}

/// How long nodes have in scripts. Units: milliseconds.
const TIMEOUT_MS: u64 = 1_000;

fn ends(user: &str) -> HubMessage {
    let order = Order::End(Whom::User(user.into()));
    HubMessage::Order { query: QueryId(7), order, timeout_ms: TIMEOUT_MS }
}

/// How scripts show what lanes are told.
pub(super) fn told(order: &Order) -> String {
    match order {
        Order::End(Whom::User(user)) => format!("disconnect {user}"),
        Order::End(Whom::Session(_))
        | Order::Revoke(_)
        | Order::Leave(..)
        | Order::Enter(..)
        | Order::Admit(..) => format!("{order:?}"),
    }
}

/// How scripts show the answer to an order.
pub(super) fn answered(query: QueryId, outcome: &Result<Ordered, Refused>) -> String {
    match outcome {
        Ok(Ordered { accepted, nodes, unanswered }) => {
            let nodes: String =
                nodes.iter().map(|(node, it)| format!(" {}:{}", node.0, it.sessions)).collect();
            let missing: String =
                unanswered.iter().map(|node| format!(" not {}", node.0)).collect();
            format!("answer {} {}{nodes}{missing}", query.0, super::ended(&Ok(*accepted)))
        }
        Err(refused) => format!("answer {} {}", query.0, super::ended(&Err(refused.clone()))),
    }
}

/// How scripts show what lanes are told of revoked tokens.
pub(super) fn told_revoked(revocations: &[Revocation], whole: bool) -> String {
    let texts: Vec<_> = revocations.iter().map(Revocation::text).collect();
    format!("revoked {}{}", texts.join(", "), if whole { ", the last" } else { "" })
}

/// Tokens of a user from before now are revoked.
fn revoke(world: &mut World, user: &str, before_unix_ms: u64) {
    let tokens = Tokens::Of { user: user.into(), before_unix_ms };
    let order = Order::Revoke(Revocation { tokens, until_unix_ms: 9_000 });
    world.says(HubMessage::Order { query: QueryId(7), order, timeout_ms: TIMEOUT_MS });
}

#[test]
fn a_revocation_is_kept_before_it_is_ordered() {
    let mut world = world();
    revoke(&mut world, "bob", 5_000);
    assert_eq!(world.seen, ["publish $revoked 0000000000000001-7 kept dedup"]);
    world.step("accepted at=1");
    assert_eq!(world.seen[1..], ["publish $control 0000000000000001-7 kept dedup"]);
    world.step("accepted at=4");
    let order = "id=0000000000000001-7 kind=revoke by=node-1";
    let text = "user 9000 5000 bob";
    let publication = Publication {
        content: Content::Text(text.into()),
        ..(*super::publication(&format!("feed $control at=4 {order}"))).clone()
    };
    world.event_is(BrokerEvent::Envelope(Envelope::Publication {
        publication: Arc::new(publication),
        published_us: 0,
    }));
    carry_out(&mut world, 1, &[0, 1, 2]);
    assert_eq!(world.seen.last().unwrap(), "answer 7 accepted 4 1:3");
    assert!(world.hub.endings.are_idle());
}

#[test]
fn a_revocation_that_cannot_be_kept_is_not_ordered() {
    let mut world = world();
    revoke(&mut world, "bob", 5_000);
    world.step("refused");
    assert_eq!(world.seen[1..], ["answer 7 unavailable"]);
    assert!(world.hub.endings.are_idle() && world.hub.answers.are_idle());
}

#[test]
fn all_that_is_kept_is_told_to_lanes_once_the_place_of_orders_is_known() {
    let mut world = World::with(Hub::new(config(0, true), Arc::new(Rules)));
    world.revocations = true;
    steps(&mut world, "auto over=1\nup 1\nat 1");
    let read = |world: &World| world.seen.iter().filter(|text| text.contains("$revoked")).count();
    assert_eq!(read(&world), 1);
    assert!(!world.hub.health(world.now).takes_tokens);
    world.seen.clear();
    let page = |from: u64, to: u64, last: u64| {
        let more = if to < last { " part" } else { "" };
        format!("page {from}-{to} head={last} first=1{more} kind=revoke id=r text=user_9_5_bob")
    };
    steps(&mut world, &page(1, 2, 3));
    assert_eq!(world.seen.iter().filter(|text| text.starts_with("0: revoked")).count(), 1);
    assert!(!world.hub.health(world.now).takes_tokens);
    assert_eq!(read(&world), 1, "the next page");
    world.seen.clear();
    steps(&mut world, &page(3, 3, 3));
    assert!(world.hub.health(world.now).takes_tokens);
    assert!(world.seen[0].ends_with("the last"), "{:?}", world.seen);
}

#[test]
fn a_page_that_does_not_come_is_asked_for_again() {
    let mut world = World::with(Hub::new(config(0, true), Arc::new(Rules)));
    world.revocations = true;
    steps(&mut world, "auto over=1\nup 1\nat 1\npage none");
    world.seen.clear();
    steps(&mut world, "at 500");
    assert_eq!(world.seen, [""; 0]);
    steps(&mut world, "at 510");
    assert_eq!(world.seen, ["read? $revoked above 0"]);
}

#[test]
fn after_a_loss_of_orders_what_is_kept_is_read_again() {
    let mut world = world();
    world.revocations = true;
    assert!(world.hub.health(world.now).takes_tokens);
    steps(&mut world, "feed $control at=9 id=z9 kind=disconnect text=bob\nat 600");
    world.seen.clear();
    steps(&mut world, "page 8-8 head=9 first=8 kind=disconnect text=bob id=z");
    let seen = |text: &str| world.seen.iter().any(|it| it == text);
    assert!(seen("0: revalidate") && seen("read? $revoked above 0"), "{:?}", world.seen);
    assert!(!world.hub.health(world.now).takes_tokens);
}
