//! Records of sessions on their way to the broker, and orders that end former connections.

use roomcast_protocol::envelope::BrokerEvent;
use roomcast_protocol::ids::{LaneId, NodeId, SessionId, SessionKey};
use roomcast_protocol::session::{
    AttachedSession, Former, SaveSession, SavedSession, Secret, SessionRecord, SessionState,
    Unattached, Wish,
};

use super::World;
use crate::messages::HubMessage;

const KEY: SessionKey = SessionKey { index: 3, generation: 1 };

fn save(session: Option<SessionKey>) -> HubMessage {
    let save = SaveSession {
        user: "ann".into(),
        session: SessionId(7),
        generation: 2,
        state: SessionState::Attached,
        secret: Secret(1),
        turn: None,
        confirmed: true,
        record: None,
        window_ms: 1_000,
        obeyed: None,
    };
    HubMessage::Save { lane: LaneId(1), session, save: Box::new(save) }
}

fn attach() -> HubMessage {
    HubMessage::Attach {
        lane: LaneId(1),
        session: KEY,
        user: "ann".into(),
        wish: Wish::OnlyDetached,
        secret: Secret(1),
        window_ms: 1_000,
    }
}

fn fence(node: u64, moved: bool) -> HubMessage {
    HubMessage::Fence { session: SessionId(7), generation: 3, node: NodeId(node), moved }
}

/// A hub that is whole, with nodes 2 and 3 beside it.
fn world() -> World {
    let mut world = World::watched();
    for line in ["auto over=1 peers=2,3", "up 1", "at 1", "at 10"] {
        world.step(line);
    }
    world.seen.clear();
    world
}

impl World {
    pub(super) fn event_is(&mut self, event: BrokerEvent<crate::messages::Ticket>) {
        self.act(|hub, now, out| hub.broker_event(now, event, out));
    }
}

#[test]
fn a_wish_names_all_nodes_that_are_alive_and_its_answer_finds_the_session() {
    let mut world = world();
    world.says(attach());
    world.says(attach());
    let attached = AttachedSession {
        session: SessionId(7),
        generation: 3,
        record: SessionRecord::default(),
        former: Former::Gone,
    };
    world.event_is(BrokerEvent::Attached { request: 2, outcome: Ok(Box::new(attached)) });
    world.event_is(BrokerEvent::Attached { request: 1, outcome: Err(Unattached::NotOne) });
    world.event_is(BrokerEvent::Attached { request: 1, outcome: Err(Unattached::NotOne) });
    let expected = [
        "attach 1 for ann alive 1,2,3",
        "attach 2 for ann alive 1,2,3",
        "1: attached 3 as 7/3",
        "1: attached 3 not_one",
    ];
    assert_eq!(world.seen, expected);
    assert!(world.hub.sessions.are_idle());
    assert_eq!(world.hub.counters().attaches, 2);
}

#[test]
fn a_record_is_written_and_answered_to_whoever_waits() {
    let mut world = world();
    world.says(save(Some(KEY)));
    world.says(save(None));
    world.event_is(BrokerEvent::Saved { request: 1, outcome: Some(SavedSession::Fenced) });
    world.event_is(BrokerEvent::Saved { request: 2, outcome: Some(SavedSession::Saved) });
    assert_eq!(world.seen, ["save 1 7/2", "save 2 7/2", "1: saved 3 Some(Fenced)"]);
    assert!(world.hub.sessions.are_idle());
}

#[test]
fn a_node_on_its_own_answers_at_once_but_lets_the_last_words_try() {
    let mut world = world();
    for line in ["auto away", "down", "at 3000"] {
        world.step(line);
    }
    world.seen.clear();
    world.says(attach());
    world.says(save(Some(KEY)));
    world.says(save(None));
    assert_eq!(world.seen, ["1: attached 3 unavailable", "1: saved 3 None", "save 1 7/2"]);
}

#[test]
fn former_connections_of_this_node_end_at_once_and_those_of_another_by_an_order() {
    let mut world = world();
    world.says(fence(1, false));
    world.says(fence(2, true));
    let id = format!("fence-{:032x}-3-moved", 7);
    let order = format!("publish $control {id} kept dedup");
    let lanes = |how: &str| -> Vec<String> {
        (0..3).map(|lane| format!("{lane}: fence 7/3{how}")).collect()
    };
    let mut expected = lanes("");
    expected.extend(lanes(" moved"));
    expected.push(order);
    assert_eq!(world.seen, expected);
    assert_eq!(world.hub.counters().fences, 1);
}

#[test]
fn an_order_of_another_node_is_obeyed_once_and_one_that_cannot_be_read_not_at_all() {
    let mut world = super::orders::world();
    let text = format!("{:032x}", 7);
    let order = |id: &str, text: &str| {
        let content = roomcast_protocol::content::Content::Text(text.to_owned().into());
        let line = format!("feed $control at={id} id={id} kind=fence by=node-2");
        let mut publication = (*super::publication(&line)).clone();
        publication.content = content;
        BrokerEvent::Envelope(roomcast_protocol::envelope::Envelope::Publication {
            publication: std::sync::Arc::new(publication),
            published_us: 0,
        })
    };
    world.event_is(order("4", &format!("{text} 3 replaced")));
    world.event_is(order("4", &format!("{text} 3 replaced")));
    world.event_is(order("5", &format!("{text} 3 some other time")));
    let fenced = ["0: fence 7/3", "1: fence 7/3", "2: fence 7/3"];
    assert_eq!(world.seen, [&fenced[..], &["obeyed 4", "obeyed 5"]].concat());
}
