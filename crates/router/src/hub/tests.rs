//! Scripts for the hub: text in, effects out.

use std::collections::VecDeque;
use std::sync::Arc;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{Accepted, BrokerCommand, BrokerEvent, Envelope};
use roomcast_protocol::ids::{LaneId, SessionKey};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::{Hub, HubConfig};
use crate::messages::{HubEffect, HubMessage, LaneMessage, QueryId, Ticket};

const LINGER_MS: u64 = 1_000;
const GRACE_MS: u64 = 5_000;

/// Runs a script and compares what the hub wanted done. One step a line: `1 joins news` (lane 1), `1 leaves news`,
/// `1 publishes news [ack]`, `agent 7 up`, `subscribed news` (the broker confirms), `feed news` (an envelope),
/// `accepted` and `refused` (the oldest publication), `at 500`.
#[track_caller]
fn check(script: &str, expected: &str) {
    let mut world = World::new(0);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
    }
    let expected: Vec<_> =
        expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(world.seen, expected, "\nseen:\n{}\n", world.seen.join("\n"));
}

struct World {
    hub: Hub,
    now: Now,
    tickets: VecDeque<Ticket>,
    /// Subscriptions that the broker has not confirmed, oldest first.
    asked: VecDeque<(RoomName, u64)>,
    seen: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let hub = Hub::new(HubConfig {
            linger_ms: LINGER_MS,
            leave_grace_ms: GRACE_MS,
            node: "node-1".into(),
            seed,
            lanes: 3,
            watched: false,
        });
        Self {
            hub,
            now: Now::default(),
            tickets: VecDeque::new(),
            asked: VecDeque::new(),
            seen: Vec::new(),
        }
    }

    fn step(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let mut out = Vec::new();
        match words[0] {
            "at" => self.turn_clock(words[1].parse().unwrap(), &mut out),
            "agent" => {
                let message = HubMessage::Agent { agent_id: words[1].into(), up: words[2] == "up" };
                self.hub.message(self.now, message, &mut out);
            }
            "subscribed" => {
                let at = self.asked.iter().position(|(asked, _)| asked.as_str() == words[1]);
                let unasked = (room(words[1]), 99);
                let (room, request) = at.and_then(|at| self.asked.remove(at)).unwrap_or(unasked);
                self.hub.broker_event(
                    self.now,
                    BrokerEvent::Subscribed { room, request },
                    &mut out,
                );
            }
            "feed" => {
                let envelope =
                    Envelope::Publication { publication: publication(words[1]), published_us: 0 };
                self.hub.broker_event(self.now, BrokerEvent::Envelope(envelope), &mut out);
            }
            "accepted" | "refused" => {
                let outcome = if words[0] == "accepted" {
                    Ok(Accepted::WHOLE)
                } else {
                    Err(Refused::new(Refusal::Unavailable))
                };
                let ticket = self.tickets.pop_front().expect("something was published");
                self.hub.broker_event(
                    self.now,
                    BrokerEvent::Published { ticket, outcome },
                    &mut out,
                );
            }
            "counted" => {
                let (hub, counters) = (&self.hub, self.hub.counters());
                self.seen.push(format!(
                    "{} rooms, {} agents, {} published, {} received, {} unwanted",
                    hub.rooms(),
                    hub.agents(),
                    counters.published,
                    counters.received,
                    counters.unwanted
                ));
            }
            lane => {
                let message = lane_says(lane, &words[1..]);
                self.hub.message(self.now, message, &mut out);
            }
        }
        for effect in out {
            self.show(effect);
        }
        self.walk();
    }

    /// Every deadline is wanted still.
    fn walk(&self) {
        self.hub.waiting.walk();
        for (request, unconfirmed) in &self.hub.unconfirmed {
            let room = &self.hub.rooms[&unconfirmed.room];
            assert_eq!(room.request, *request);
            assert_eq!(unconfirmed.waiting & !room.lanes, 0, "a lane waits that has left");
        }
        for (at, deadline) in &self.hub.deadlines {
            let wanted = match deadline {
                super::Deadline::Room(name) => self.hub.rooms[name].until_ms == *at,
                super::Deadline::Agent(id) => self.hub.agents[id].gone_at_ms == Some(*at),
            };
            assert!(wanted, "{deadline:?}");
        }
    }

    fn turn_clock(&mut self, at_ms: u64, out: &mut Vec<HubEffect>) {
        while let Some(wake) = self.hub.next_wake().filter(|wake| *wake <= at_ms) {
            self.now = Now { mono_ms: wake, unix_ms: wake };
            self.hub.tick(self.now, out);
            assert!(self.hub.next_wake().is_none_or(|next| next > wake), "woken for ever");
        }
        self.now = Now { mono_ms: at_ms, unix_ms: at_ms };
        self.hub.tick(self.now, out);
    }

    fn show(&mut self, effect: HubEffect) {
        let text = match effect {
            HubEffect::Lane(lane, message) => format!("{}: {}", lane.0, told(&message)),
            HubEffect::Broker(BrokerCommand::Subscribe { room, request }) => {
                self.asked.push_back((room.clone(), request));
                format!("subscribe {room}")
            }
            HubEffect::Broker(BrokerCommand::Unsubscribe(room)) => format!("unsubscribe {room}"),
            HubEffect::Broker(BrokerCommand::Publish { ticket, publication, dedup }) => {
                let shown = shown(&publication);
                self.tickets.push_back(ticket);
                format!("publish {shown}{}", if dedup { " dedup" } else { "" })
            }
            HubEffect::Broker(BrokerCommand::Beat { seq, hears }) => {
                format!("beat {seq}{}", if hears { " hears" } else { "" })
            }
            HubEffect::Broker(BrokerCommand::Reconnect { link, commands }) => {
                format!("reconnect {}{}", link.0, if commands { " and commands" } else { "" })
            }
            HubEffect::Answer(query, outcome) => {
                let outcome = outcome.map_or_else(|it| it.message, |_| "accepted".into());
                format!("answer {} {outcome}", query.0)
            }
        };
        self.seen.push(text);
    }
}

fn lane_says(lane: &str, words: &[&str]) -> HubMessage {
    let has = |word| words.contains(&word);
    let (lane, room) = (lane.parse().ok().map(LaneId), room(words[1]));
    match words[0] {
        "joins" => HubMessage::Join { lane: lane.unwrap(), room },
        "leaves" => HubMessage::Leave { lane: lane.unwrap(), room },
        "publishes" => {
            let ticket = match lane {
                Some(lane) => Ticket::Session {
                    lane,
                    session: SessionKey { index: 3, generation: 1 },
                    reply: ReplyTo::default(),
                    ack: has("ack").then(|| "x".into()),
                },
                None => Ticket::Query(QueryId(9)),
            };
            HubMessage::Publish { ticket, publication: publication(words[1]), dedup: has("ack") }
        }
        verb => panic!("no lane says {verb}"),
    }
}

fn told(message: &LaneMessage) -> String {
    match message {
        LaneMessage::Publication { publication, .. } => publication.room.to_string(),
        LaneMessage::Joined(room) => format!("joined {room}"),
        LaneMessage::Published { session, ack, outcome, .. } => {
            let outcome = outcome.as_ref().map_or("refused", |_| "accepted");
            format!("{outcome} for {} {}", session.index, ack.as_deref().unwrap_or("-"))
        }
        LaneMessage::Lost(_)
        | LaneMessage::Degraded { .. }
        | LaneMessage::Members { .. }
        | LaneMessage::Disconnect { .. }
        | LaneMessage::Stop => panic!("the hub does not say {message:?}"),
    }
}

fn shown(publication: &Publication) -> String {
    let Content::Json(content) = &publication.content else {
        return publication.room.to_string();
    };
    let content = std::str::from_utf8(content).unwrap();
    format!("{} {} {content} by {}", publication.room, publication.kind, publication.sender)
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn publication(name: &str) -> Arc<Publication> {
    Arc::new(Publication {
        room: room(name),
        id: "x".into(),
        kind: "message".into(),
        timestamp: "1970-01-01T00:00:00.000Z".into(),
        sender: "ann".into(),
        content: Content::Text("hi".into()),
        priority: None,
        ttl_s: None,
        expires_unix_ms: None,
        correlation_id: None,
        requires: Vec::new(),
        isolated: false,
    })
}

#[test]
fn the_first_join_asks_the_broker_and_is_answered_when_it_confirms() {
    check(
        "1 joins news
         feed news
         subscribed news
         feed news",
        "subscribe news
         1: joined news
         1: news",
    );
}

#[test]
fn a_live_room_is_joined_without_asking_the_broker() {
    check(
        "1 joins news
         subscribed news
         2 joins news
         feed news",
        "subscribe news
         1: joined news
         2: joined news
         1: news
         2: news",
    );
}

#[test]
fn lanes_that_wait_ask_once_and_are_answered_together() {
    check(
        "2 joins news
         1 joins news
         0 joins news
         subscribed news",
        "subscribe news
         0: joined news
         1: joined news
         2: joined news",
    );
}

#[test]
fn a_lane_that_leaves_while_waiting_is_not_answered() {
    check(
        "1 joins news
         2 joins news
         1 leaves news
         subscribed news
         feed news",
        "subscribe news
         2: joined news
         2: news",
    );
}

#[test]
fn interest_outlives_the_last_lane_for_the_linger_and_no_longer() {
    check(
        "1 joins news
         subscribed news
         at 500
         1 leaves news
         at 1499
         feed news
         counted
         at 1500
         counted",
        "subscribe news
         1: joined news
         1 rooms, 0 agents, 0 published, 1 received, 1 unwanted
         unsubscribe news
         0 rooms, 0 agents, 0 published, 1 received, 1 unwanted",
    );
}

#[test]
fn a_join_during_the_linger_keeps_the_interest() {
    check(
        "1 joins news
         subscribed news
         1 leaves news
         at 999
         2 joins news
         at 5000
         feed news
         2 leaves news
         at 5999
         at 6000",
        "subscribe news
         1: joined news
         2: joined news
         2: news
         unsubscribe news",
    );
}

#[test]
fn a_room_is_kept_while_any_lane_is_in_it() {
    check(
        "1 joins news
         2 joins news
         subscribed news
         1 leaves news
         at 9000
         feed news
         2 leaves news
         1 leaves news
         2 leaves news
         3 leaves other
         at 9999
         at 10000",
        "subscribe news
         1: joined news
         2: joined news
         2: news
         unsubscribe news",
    );
}

#[test]
fn a_confirmation_counts_for_its_own_request_and_never_for_a_later_one() {
    check(
        "1 joins news
         1 leaves news
         at 1000
         1 joins news
         2 joins other
         subscribed news
         feed news
         subscribed news
         feed news
         subscribed other",
        "subscribe news
         unsubscribe news
         subscribe news
         subscribe other
         1: joined news
         1: news
         2: joined other",
    );
}

#[test]
fn a_confirmation_nobody_asked_for_is_ignored() {
    check(
        "subscribed news\nfeed news\ncounted",
        "0 rooms, 0 agents, 0 published, 1 received, 1 unwanted",
    );
}

#[test]
fn envelopes_reach_the_same_lanes_in_the_same_order_whatever_the_order_of_joins() {
    let mut all = Vec::new();
    for (seed, order) in [[0, 1, 2, 63], [63, 2, 1, 0], [2, 63, 0, 1]].iter().enumerate() {
        let mut world = World::new(seed as u64);
        for lane in order {
            world.step(&format!("{lane} joins news"));
            world.step(&format!("{lane} joins news-{lane}"));
        }
        world.step("subscribed news");
        world.seen.clear();
        world.step("feed news");
        all.push(world.seen);
    }
    assert_eq!(all[0], ["0: news", "1: news", "2: news", "63: news"]);
    assert!(all.iter().all(|seen| *seen == all[0]));
}

#[test]
fn the_highest_lane_is_heard_and_one_beyond_is_ignored() {
    check("63 joins news\nsubscribed news\nfeed news", "subscribe news\n63: joined news\n63: news");
    check(
        "64 joins news\n64 leaves news\ncounted",
        "0 rooms, 0 agents, 0 published, 0 received, 0 unwanted",
    );
}

#[test]
fn the_outcome_of_a_publication_reaches_whom_it_concerns() {
    check(
        "2 publishes news ack
         accepted
         2 publishes news
         accepted
         2 publishes news
         refused
         api publishes news
         accepted
         api publishes news
         refused",
        "publish news dedup
         2: accepted for 3 x
         publish news
         publish news
         2: refused for 3 -
         publish news
         answer 9 accepted
         publish news
         answer 9 Not possible at the moment",
    );
}

#[test]
fn an_agent_is_announced_in_both_rooms_when_it_comes_and_when_it_is_gone_for_good() {
    check(
        "agent 7 up
         counted
         at 2000
         agent 7 down
         at 6999
         at 7000
         counted",
        "publish agents agent_connected {\"agent_id\":7,\"status\":\"online\",\"last_seen\":\"1970-01-01T00:00:00.000Z\"} by node-1
         publish agent-7 agent_connected {\"agent_id\":7,\"status\":\"online\",\"last_seen\":\"1970-01-01T00:00:00.000Z\"} by node-1
         0 rooms, 1 agents, 2 published, 0 received, 0 unwanted
         publish agents agent_disconnected {\"agent_id\":7,\"status\":\"offline\",\"last_seen\":\"1970-01-01T00:00:07.000Z\"} by node-1
         publish agent-7 agent_disconnected {\"agent_id\":7,\"status\":\"offline\",\"last_seen\":\"1970-01-01T00:00:07.000Z\"} by node-1
         0 rooms, 0 agents, 4 published, 0 received, 0 unwanted",
    );
}

#[test]
fn an_agent_that_returns_within_the_grace_or_has_another_connection_stays_connected() {
    let script = "agent 7 up
         agent 7 up
         agent 7 down
         at 9000
         agent 7 down
         at 13999
         agent 7 up
         at 60000
         counted";
    let online = "publish agents agent_connected {\"agent_id\":7,\"status\":\"online\",\"last_seen\":\"1970-01-01T00:00:00.000Z\"} by node-1
         publish agent-7 agent_connected {\"agent_id\":7,\"status\":\"online\",\"last_seen\":\"1970-01-01T00:00:00.000Z\"} by node-1
         0 rooms, 1 agents, 2 published, 0 received, 0 unwanted";
    check(script, online);
}

#[test]
fn an_agent_nobody_knows_cannot_go() {
    check(
        "agent 7 down\nat 60000\ncounted",
        "0 rooms, 0 agents, 0 published, 0 received, 0 unwanted",
    );
}

#[test]
fn the_nodes_own_publications_are_answered_to_nobody_and_have_ids_of_their_own() {
    let mut world = World::new(0);
    for line in ["agent 7 up", "agent 8 up", "accepted", "refused", "accepted", "accepted"] {
        world.step(line);
    }
    assert_eq!(world.seen.len(), 4);
}

#[test]
fn an_agents_id_is_written_as_a_number_only_where_it_is_one() {
    for (id, json) in [
        ("7", "7"),
        ("-7", "-7"),
        ("007", "\"007\""),
        ("+7", "\"+7\""),
        ("1e3", "\"1e3\""),
        ("9223372036854775808", "\"9223372036854775808\""),
        ("a\"b\\c\nd", "\"a\\\"b\\\\c\\u000ad\""),
    ] {
        let content = super::agents::agent_content(id, "online", "t");
        let expected = format!("{{\"agent_id\":{json},\"status\":\"online\",\"last_seen\":\"t\"}}");
        assert_eq!(content, expected);
    }
}

#[test]
fn an_agents_id_that_makes_no_room_name_is_announced_in_agents_alone() {
    let mut world = World::new(0);
    world.step("agent a\u{200b}b up");
    assert_eq!(world.seen.len(), 1);
    assert!(world.seen[0].starts_with("publish agents "));
}
