//! Sessions in the rooms of their users' groups: which these are is answered while they begin, and changes at any time.

use std::collections::BTreeMap;

use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::conversation::{Answered, Membership, Role};
use roomcast_protocol::ids::SessionKey;

use super::frames::position;
use super::{check, room};
use crate::messages::{LaneMessage, Talk, TalkOf};
use crate::orders::Order;

/// How scripts show what a lane asks of conversations.
pub(super) fn asked(talk: &Talk) -> String {
    match &talk.of {
        TalkOf::Groups(device) => format!("hub groups of {} on {device}", talk.user),
        other @ (TalkOf::Room(..) | TalkOf::Group(..) | TalkOf::All) => format!("hub {other:?}"),
    }
}

/// `chat-team@3`: the first group there is, and from where its member hears it.
fn membership(text: &str) -> Membership {
    let (name, from) = text.split_once('@').unwrap();
    Membership { room: room(name), role: Role::Member, number: 1, from: position(from) }
}

/// `hub groups 1 [chat-team@3 ..]`: these are the groups of session 1.
pub(super) fn groups(keys: &BTreeMap<u32, SessionKey>, text: &str) -> LaneMessage {
    let mut words = text.split(' ');
    let session = keys[&words.next().unwrap().parse().unwrap()];
    let groups = words.map(|word| (membership(word), None)).collect();
    let outcome = Ok(Box::new(Answered::Groups(groups)));
    LaneMessage::Conversed { session, reply: ReplyTo::default(), outcome }
}

/// `hub admits ann to chat-team@3`.
pub(super) fn admits(text: &str) -> LaneMessage {
    let (user, group) = text.split_once(" to ").unwrap();
    let order = Order::Admit(user.into(), membership(group));
    LaneMessage::Order { ticket: 1, order: order.into() }
}

#[test]
fn who_becomes_a_member_behind_the_answer_is_in_the_group_once_it_is_ready() {
    check(
        "manual
         1 opens grouped as ann
         hub admits ann to chat-early@0
         hub groups 1
         hub admits ann to chat-team@3
         hub admits ann to chat-team@3
         hub joined user-ann
         hub joined session-1
         hub joined chat-team at 3
         hub chat-team hi pos=4
         serve
         hub takes ann out of chat-team
         sizes",
        "hub join user-ann
         hub join session-1
         hub groups of ann on default
         hub carried out for 0
         hub join chat-team
         hub carried out for 1
         hub carried out for 1
         1: welcome ann 1
         1: joined chat-team at 3
         1 ready
         1: chat-team hi @4
         hub leave chat-team
         1: left chat-team ordered
         hub carried out for 1
         1 sessions, 2 rooms, 2 places",
    );
}

#[test]
fn who_is_taken_out_before_the_room_is_live_is_told_nothing() {
    check(
        "manual
         1 opens grouped as ann
         hub groups 1
         hub joined user-ann
         hub joined session-1
         hub admits ann to chat-team@3
         hub takes ann out of chat-team
         hub joined chat-team at 3",
        "hub join user-ann
         hub join session-1
         hub groups of ann on default
         1: welcome ann 1
         1 ready
         hub join chat-team
         hub carried out for 1
         1: left chat-team ordered
         hub carried out for 1
         hub leave chat-team",
    );
}
