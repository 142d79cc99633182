//! Sessions' records on their way between lanes and the broker, and orders that end connections whose session has been
//! taken over (G13, G14). Keeps nothing of a session beyond the question under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::ids::{LaneId, NodeId, SessionId, SessionKey};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{
    AttachSession, AttachedSession, SaveSession, SavedSession, Unattached,
};
use roomcast_protocol::time::{Now, iso8601};

use super::watch::RelayState;
use super::{CONTROL, Hub};
use crate::messages::{HubEffect, LaneMessage, Ticket};

/// The type of the order to end former connections of a session; the content is a [`Fence`].
const FENCE: &str = "fence";

/// Questions about sessions that the broker has not answered: whose they are. Bounds: what sessions have under way.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    count: u64,
    under_way: BTreeMap<u64, (LaneId, SessionKey)>,
}

impl Sessions {
    fn next_id(&mut self, lane: LaneId, session: Option<SessionKey>) -> u64 {
        self.count += 1;
        self.under_way.extend(session.map(|session| (self.count, (lane, session))));
        self.count
    }

    /// Nothing is under way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.under_way.is_empty()
    }
}

/// Which connections of a session end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    session: SessionId,
    /// Attachments below this one.
    generation: u64,
    /// It was handed over.
    moved: bool,
}

impl Fence {
    pub(super) const fn new(session: SessionId, generation: u64, moved: bool) -> Self {
        Self { session, generation, moved }
    }

    fn text(self) -> String {
        let Self { session, generation, moved } = self;
        format!("{session} {generation} {}", if moved { "moved" } else { "replaced" })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let session = words.next().filter(|word| word.len() == 32)?;
        let session = SessionId(u128::from_str_radix(session, 16).ok()?);
        let generation = words.next()?.parse().ok()?;
        let moved = match words.next()? {
            "moved" => true,
            "replaced" => false,
            _ => return None,
        };
        Some(Self { session, generation, moved })
    }

    /// The fence that an order is, if it is one.
    pub(super) fn of(publication: &Publication) -> Option<Self> {
        match &publication.content {
            Content::Text(text) if &*publication.kind == FENCE => {
                std::str::from_utf8(text).ok().and_then(Self::parse)
            }
            Content::Text(_) | Content::Json(_) | Content::Binary(_) => None,
        }
    }
}

impl Hub {
    /// A lane's session wants another one back.
    pub(super) fn attach(
        &mut self,
        (lane, session): (LaneId, SessionKey),
        attach: AttachSession,
        out: &mut Vec<HubEffect>,
    ) {
        if self.state() == RelayState::Isolated {
            let outcome = Err(Unattached::Unavailable);
            return out.push(HubEffect::Lane(lane, LaneMessage::Attached { session, outcome }));
        }
        self.counters.attaches += 1;
        let request = self.sessions.next_id(lane, Some(session));
        let attach = Box::new(AttachSession { alive: self.alive(), ..attach });
        out.push(HubEffect::Broker(BrokerCommand::Attach { request, attach }));
    }

    /// Nodes whose sessions may have a connection.
    fn alive(&self) -> Vec<NodeId> {
        let peers = self.watch.iter().flat_map(|watch| watch.peers.nodes());
        std::iter::once(self.config.id).chain(peers).collect()
    }

    /// A lane's session has a record to be written.
    pub(super) fn save(
        &mut self,
        (lane, session): (LaneId, Option<SessionKey>),
        save: Box<SaveSession>,
        out: &mut Vec<HubEffect>,
    ) {
        if let Some(session) = session
            && self.state() == RelayState::Isolated
        {
            let outcome = None;
            return out.push(HubEffect::Lane(lane, LaneMessage::Saved { session, outcome }));
        }
        let request = self.sessions.next_id(lane, session);
        out.push(HubEffect::Broker(BrokerCommand::Save { request, save }));
    }

    pub(super) fn attached(
        &mut self,
        request: u64,
        outcome: Result<Box<AttachedSession>, Unattached>,
        out: &mut Vec<HubEffect>,
    ) {
        if let Some((lane, session)) = self.sessions.under_way.remove(&request) {
            out.push(HubEffect::Lane(lane, LaneMessage::Attached { session, outcome }));
        }
    }

    pub(super) fn saved(
        &mut self,
        request: u64,
        outcome: Option<SavedSession>,
        out: &mut Vec<HubEffect>,
    ) {
        if let Some((lane, session)) = self.sessions.under_way.remove(&request) {
            out.push(HubEffect::Lane(lane, LaneMessage::Saved { session, outcome }));
        }
    }

    /// A session was taken over: its former connections end, at once where they are this node's.
    pub(super) fn fence(&mut self, now: Now, fence: Fence, node: NodeId, out: &mut Vec<HubEffect>) {
        self.obey_fence(fence, out);
        let Ok(room) = RoomName::system(CONTROL) else { return };
        if node == self.config.id {
            return;
        }
        self.counters.fences += 1;
        let text = fence.text();
        let publication = Publication {
            id: format!("{FENCE}-{}", text.replace(' ', "-")).into(),
            kind: FENCE.into(),
            timestamp: iso8601(now.unix_ms).into(),
            sender: self.config.node.clone(),
            ..Publication::bare(room, Content::Text(text.into()))
        };
        self.publish(now, Ticket::Node, Arc::new(publication), true, out);
    }

    pub(super) fn obey_fence(&self, fence: Fence, out: &mut Vec<HubEffect>) {
        let Fence { session, generation, moved } = fence;
        self.tell_lanes(|| LaneMessage::Fence { session, generation, moved }, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_read_as_it_is_written() {
        for moved in [false, true] {
            let fence = Fence::new(SessionId(u128::MAX - 7), u64::MAX, moved);
            assert_eq!(Fence::parse(&fence.text()), Some(fence));
        }
        let zeros = "0".repeat(32);
        for bad in ["", "7 1 moved", &zeros, &format!("{zeros} 1"), &format!("{zeros} x moved")] {
            assert_eq!(Fence::parse(bad), None, "{bad}");
        }
        assert_eq!(Fence::parse(&format!("{zeros} 1 later")), None, "of a later version");
    }
}
