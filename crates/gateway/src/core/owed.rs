//! What the broker still owes an answer for: a node that ends waits for it, so that what its last sessions wrote is
//! there.

use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_router::messages::Ticket;

/// Writes under way.
#[derive(Debug, Default)]
pub(super) struct Owed(usize);

impl Owed {
    /// A command goes to the broker.
    pub(super) fn asked(&mut self, command: &BrokerCommand<Ticket>) {
        match command {
            BrokerCommand::Publish { .. }
            | BrokerCommand::Save { .. }
            | BrokerCommand::EndSessions { .. }
            | BrokerCommand::SetPresence { .. }
            | BrokerCommand::SetMarks { .. }
            | BrokerCommand::SetEntry { .. } => self.0 += 1,
            BrokerCommand::Subscribe { .. }
            | BrokerCommand::Unsubscribe(_)
            | BrokerCommand::Heads { .. }
            | BrokerCommand::Read { .. }
            | BrokerCommand::Attach { .. }
            | BrokerCommand::Roster { .. }
            | BrokerCommand::Present { .. }
            | BrokerCommand::Inbox { .. }
            | BrokerCommand::Ack { .. }
            | BrokerCommand::Receipts { .. }
            | BrokerCommand::Directory { .. }
            | BrokerCommand::Occupancies { .. }
            | BrokerCommand::Beat { .. }
            | BrokerCommand::Reconnect { .. } => {}
        }
    }

    /// The broker tells something.
    pub(super) fn told(&mut self, event: &BrokerEvent<Ticket>) {
        match event {
            BrokerEvent::Published { .. }
            | BrokerEvent::Saved { .. }
            | BrokerEvent::SessionsEnded { .. }
            | BrokerEvent::PresenceSet { .. }
            | BrokerEvent::MarksSet { .. }
            | BrokerEvent::EntrySet { .. } => self.0 = self.0.saturating_sub(1),
            BrokerEvent::Envelope(_)
            | BrokerEvent::Subscribed { .. }
            | BrokerEvent::Heads { .. }
            | BrokerEvent::Read { .. }
            | BrokerEvent::FeedUp { .. }
            | BrokerEvent::FeedDown
            | BrokerEvent::Alive(_)
            | BrokerEvent::Beat { .. }
            | BrokerEvent::Attached { .. }
            | BrokerEvent::Roster { .. }
            | BrokerEvent::Present { .. }
            | BrokerEvent::Inbox { .. }
            | BrokerEvent::Receipts { .. }
            | BrokerEvent::Directory { .. }
            | BrokerEvent::Occupancies { .. }
            | BrokerEvent::BeatAnswered { .. } => {}
        }
    }

    /// Whether nothing is.
    pub(super) const fn is_settled(&self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::session::SavedSession;

    use super::*;

    #[test]
    fn a_write_is_owed_until_its_answer_and_a_question_never() {
        let mut owed = Owed::default();
        let room = roomcast_protocol::room::RoomName::parse("a").unwrap();
        owed.asked(&BrokerCommand::Unsubscribe(room.clone()));
        owed.asked(&BrokerCommand::Roster { request: 1, room, after: None, count_max: 1 });
        assert!(owed.is_settled());
        let save = || BrokerCommand::Save {
            request: 2,
            save: Box::new(roomcast_protocol::session::SaveSession {
                user: "u".into(),
                session: roomcast_protocol::ids::SessionId(1),
                generation: 1,
                state: roomcast_protocol::session::SessionState::Detached,
                secret: roomcast_protocol::session::Secret(1),
                turn: None,
                confirmed: false,
                record: None,
                window_ms: 1,
                obeyed: None,
            }),
        };
        owed.asked(&save());
        owed.asked(&save());
        for left in [false, true] {
            assert!(!owed.is_settled());
            owed.told(&BrokerEvent::FeedDown);
            owed.told(&BrokerEvent::Saved { request: 2, outcome: Some(SavedSession::Saved) });
            assert_eq!(owed.is_settled(), left);
        }
    }
}
