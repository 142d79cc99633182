//! Questions of back-ends to all nodes.

use std::sync::Arc;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{BrokerEvent, Envelope};
use roomcast_protocol::ids::{LaneId, NodeId};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use super::{World, orders};
use crate::hub::answers::room_of;
use crate::hub::{SURVEYS_MAX, Surveyed};
use crate::messages::{HubMessage, QueryId};
use crate::surveys::{Survey, SurveyPage, SurveyRow, What, answer_text, survey_text};

/// How scripts show the answer.
pub(super) fn answered(query: QueryId, outcome: &Result<Surveyed, Refused>) -> String {
    let Ok(Surveyed { page, unanswered }) = outcome else {
        return format!("surveyed {} unavailable", query.0);
    };
    let rows = page.rows.iter().map(|(key, row)| {
        let nodes: Vec<_> = row.nodes.iter().map(|node| node.0.to_string()).collect();
        format!(" {key}:{}@{}", row.count, nodes.join("+"))
    });
    let rows: String = rows.collect();
    let missing: String = unanswered.iter().map(|node| format!(" not {}", node.0)).collect();
    format!("surveyed {}{rows}{}{missing}", query.0, if page.cut { ", cut" } else { "" })
}

fn rooms(count_max: u32) -> Survey {
    Survey { what: What::Rooms("".into()), after: "".into(), count_max }
}

fn page(keys: &[&str], cut: bool) -> SurveyPage {
    let row = || SurveyRow { count: 1, ..SurveyRow::default() };
    SurveyPage { rows: keys.iter().map(|key| ((*key).into(), row())).collect(), cut }
}

fn asks(world: &mut World, query: u64, count_max: u32) {
    let survey = rooms(count_max);
    world.says(HubMessage::Survey { query: QueryId(query), survey, timeout_ms: 1_000 });
}

fn lanes_answer(world: &mut World, ticket: u64, keys: [&[&str]; 3]) {
    for (lane, keys) in (0..).zip(keys) {
        let page = page(keys, false);
        world.says(HubMessage::Surveyed { lane: LaneId(lane), ticket, page });
    }
}

pub(super) fn hears(world: &mut World, room: RoomName, kind: &str, text: String) {
    let content = Content::Text(text.into());
    let publication = Publication { kind: kind.into(), ..Publication::bare(room, content) };
    world.event_is(BrokerEvent::Envelope(Envelope::Publication {
        publication: Arc::new(publication),
        published_us: 0,
    }));
}

fn node_answers(world: &mut World, node: u64, page: SurveyPage) {
    let text = answer_text((5, NodeId(node)), page, 1 << 10);
    hears(world, room_of(NodeId(1)).unwrap(), "answer", text);
}

/// Nodes 2 and 3 hold a lease.
fn three() -> World {
    let mut world = orders::world();
    world.step("auto over=1 peers=2,3");
    world.step("at 1010");
    world.seen.clear();
    world
}

#[test]
fn all_lanes_and_nodes_are_asked_and_their_pages_become_one() {
    let mut world = three();
    asks(&mut world, 5, 3);
    assert_eq!(world.seen[0], "publish $nodes survey 0000000000000001 5 3 = rooms =");
    assert_eq!(world.seen[1..].len(), 3, "all lanes: {:?}", world.seen);
    world.seen.clear();
    lanes_answer(&mut world, 1, [&["a", "d"], &["a"], &[]]);
    node_answers(&mut world, 2, page(&["b"], false));
    node_answers(&mut world, 2, page(&["x"], false));
    assert_eq!(world.seen, [""; 0]);
    node_answers(&mut world, 3, page(&["a", "c"], false));
    assert_eq!(world.seen, ["surveyed 5 a:3@1+3 b:1@2 c:1@3, cut"]);
    assert!(world.hub.surveys.are_idle());
}

#[test]
fn behind_a_page_that_was_cut_nothing_is_said() {
    let mut world = three();
    asks(&mut world, 5, 9);
    lanes_answer(&mut world, 1, [&["a", "d"], &[], &[]]);
    node_answers(&mut world, 2, page(&["b", "c"], true));
    node_answers(&mut world, 3, page(&[], false));
    assert_eq!(world.seen.last().unwrap(), "surveyed 5 a:1@1 b:1@2 c:1@2, cut");
}

#[test]
fn nodes_that_do_not_answer_in_time_are_named() {
    let mut world = three();
    asks(&mut world, 5, 9);
    lanes_answer(&mut world, 1, [&["a"], &[], &[]]);
    node_answers(&mut world, 3, page(&["b"], false));
    world.seen.clear();
    world.step("at 2009");
    assert_eq!(world.seen, [""; 0]);
    world.step("at 2010");
    assert_eq!(world.seen, ["surveyed 5 a:1@1 b:1@3 not 2"]);
    assert!(world.hub.surveys.are_idle());
}

#[test]
fn a_node_that_said_farewell_is_not_waited_for_and_one_without_a_lease_only_named() {
    let mut world = three();
    asks(&mut world, 5, 9);
    lanes_answer(&mut world, 1, [&["a"], &[], &[]]);
    node_answers(&mut world, 3, page(&["b"], false));
    world.seen.clear();
    orders::says_farewell(&mut world, 2);
    assert_eq!(world.seen, ["surveyed 5 a:1@1 b:1@3"]);
    world.step("auto over=1 peers=2");
    world.step("at 2010");
    asks(&mut world, 6, 9);
    world.seen.clear();
    lanes_answer(&mut world, 2, [&["a"], &[], &[]]);
    assert_eq!(world.seen, ["surveyed 6 a:1@1 not 3"]);
}

#[test]
fn another_nodes_survey_is_answered_to_it_and_ones_own_is_not_asked_again() {
    let mut world = three();
    let all = || RoomName::system("$nodes").unwrap();
    hears(&mut world, all(), "survey", survey_text(NodeId(1), 7, &rooms(9)));
    hears(&mut world, all(), "later", survey_text(NodeId(2), 7, &rooms(9)));
    hears(&mut world, all(), "survey", "what".to_owned());
    assert_eq!(world.seen, [""; 0]);
    hears(&mut world, all(), "survey", survey_text(NodeId(2), 7, &rooms(9)));
    assert_eq!(world.seen.len(), 3);
    world.seen.clear();
    lanes_answer(&mut world, 1, [&["b"], &["a", "b"], &[]]);
    let said = "publish $node-0000000000000002 answer 7 0000000000000001 whole\na 1\nb 2";
    assert_eq!(world.seen, [said]);
    assert!(world.hub.surveys.are_idle());
}

#[test]
fn surveys_under_way_have_a_bound() {
    let mut world = three();
    for query in 1..=SURVEYS_MAX as u64 {
        asks(&mut world, query, 9);
    }
    assert_eq!(world.hub.counters().surveys_refused, 0);
    world.seen.clear();
    asks(&mut world, 99, 9);
    assert_eq!(world.seen, ["surveyed 99 unavailable"]);
    let all = RoomName::system("$nodes").unwrap();
    hears(&mut world, all, "survey", survey_text(NodeId(2), 7, &rooms(9)));
    assert_eq!(world.seen.len(), 1, "nobody is asked");
    assert_eq!(world.hub.counters().surveys_refused, 2);
}
