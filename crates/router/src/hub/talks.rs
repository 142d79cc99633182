//! Conversations: what sessions ask of them is carried out step by step at the broker.

use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::position::Position;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Hub;
use super::relay::RETRY_MS;
use crate::messages::{HubEffect, LaneMessage, Talk};

impl Hub {
    /// A session asks something.
    pub(super) fn talk(&mut self, _now: Now, talk: Talk, out: &mut Vec<HubEffect>) {
        let Talk { lane, session, reply, .. } = talk;
        let outcome = Err(Refused::unavailable("Not possible at the moment".into(), RETRY_MS));
        out.push(HubEffect::Lane(lane, LaneMessage::Conversed { session, reply, outcome }));
    }

    /// A user was given a message for the first time.
    pub(super) fn reached(&mut self, _now: Now, _room: RoomName, _user: Box<str>, _at: Position) {}

    /// Something published for a conversation ended.
    pub(super) fn talk_published(
        &mut self,
        _now: Now,
        _number: u64,
        _outcome: Result<Accepted, Refused>,
        _out: &mut Vec<HubEffect>,
    ) {
    }
}
