//! A node's orders about sessions, presence, inboxes and receipts: which call each is, and how its end is told.

use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_protocol::session::Unattached;
use roomcast_router::messages::Ticket;

use super::broker::{EVENT_BYTES, Work};
use crate::bus::{Answer, Call, Fault};
use crate::world::World;

/// The order and its one call; `None`: it is about something else.
pub(super) fn lasting(command: BrokerCommand<Ticket>) -> Option<(Work, Call)> {
    let fresh = 0;
    Some(match command {
        BrokerCommand::Save { request, save } => (Work::Save { request }, Call::Save(save)),
        BrokerCommand::Attach { request, attach } => {
            (Work::Attach { request }, Call::Attach(attach))
        }
        BrokerCommand::EndSessions { request, user, order } => {
            (Work::EndSessions { request }, Call::EndSessions { user, order })
        }
        BrokerCommand::SetPresence { request, set } => {
            (Work::SetPresence { request }, Call::SetPresence { set, fresh })
        }
        BrokerCommand::Roster { request, room, after, count_max } => {
            (Work::Roster { request }, Call::Roster { room, after, count_max, fresh })
        }
        BrokerCommand::Present { request, room, users } => {
            (Work::Present { request }, Call::Present { room, users })
        }
        BrokerCommand::Inbox { request, cursor, keep } => {
            (Work::Inbox { request }, Call::Inbox { cursor, keep, fresh })
        }
        BrokerCommand::Ack { cursor, keep, acked, told } => {
            (Work::Ack, Call::Ack { cursor, keep, acked, told, fresh })
        }
        BrokerCommand::SetMarks { request, keep: _, set } => {
            (Work::SetMarks { request }, Call::SetMarks { set, fresh })
        }
        BrokerCommand::Receipts { request, room, keep: _, of, after, count_max } => {
            (Work::Receipts { request }, Call::Receipts { room, of, after, count_max, fresh })
        }
        BrokerCommand::SetEntry { request, set } => {
            (Work::SetEntry { request }, Call::SetEntry(set))
        }
        BrokerCommand::Directory { request, directory, entries } => {
            (Work::Directory { request }, Call::Directory { directory, entries })
        }
        BrokerCommand::Occupancies { request, ask } => {
            (Work::Occupancies { request }, Call::Occupancies { ask })
        }
        BrokerCommand::Publish { .. }
        | BrokerCommand::Subscribe { .. }
        | BrokerCommand::Unsubscribe(_)
        | BrokerCommand::Heads { .. }
        | BrokerCommand::Read { .. }
        | BrokerCommand::Beat { .. }
        | BrokerCommand::Reconnect { .. } => return None,
    })
}

/// The answer to an order of one part.
pub(super) fn only(answers: Vec<(Call, Result<Answer, Fault>)>) -> Option<Answer> {
    answers.into_iter().next().and_then(|(_, outcome)| outcome.ok())
}

impl World {
    /// Tells the core how such an order ended.
    pub(super) fn conclude_lasting(&mut self, node: usize, work: &Work, answer: Option<Answer>) {
        match *work {
            Work::Save { request } => {
                let outcome = if let Some(Answer::Saved(it)) = answer { Some(it) } else { None };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Saved { request, outcome });
            }
            Work::Attach { request } => {
                let outcome = match answer {
                    Some(Answer::Attached(outcome)) => outcome,
                    Some(_) | None => Err(Unattached::Unavailable),
                };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Attached { request, outcome });
            }
            Work::EndSessions { request } => {
                let done = matches!(answer, Some(Answer::SessionsEnded));
                self.tell_core(node, EVENT_BYTES, BrokerEvent::SessionsEnded { request, done });
            }
            Work::SetPresence { request } => {
                let outcome = match answer {
                    Some(Answer::PresenceSet(outcome)) => Some(outcome),
                    Some(_) | None => None,
                };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::PresenceSet { request, outcome });
            }
            Work::Roster { request } => {
                let page = if let Some(Answer::Roster(it)) = answer { Some(it) } else { None };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Roster { request, page });
            }
            Work::Present { request } => {
                let since = match answer {
                    Some(Answer::Present(since)) => Some(since),
                    Some(_) | None => None,
                };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Present { request, since });
            }
            Work::Inbox { request } => {
                let state = if let Some(Answer::Inbox(it)) = answer { Some(it) } else { None };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Inbox { request, state });
            }
            Work::SetMarks { request } => {
                let outcome = if let Some(Answer::MarksSet(it)) = answer { Some(it) } else { None };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::MarksSet { request, outcome });
            }
            Work::Receipts { request } => {
                let page = if let Some(Answer::Receipts(it)) = answer { Some(it) } else { None };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Receipts { request, page });
            }
            Work::SetEntry { request } => {
                let outcome = if let Some(Answer::EntrySet(it)) = answer { Some(it) } else { None };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::EntrySet { request, outcome });
            }
            Work::Directory { request } => {
                let page = if let Some(Answer::Directory(it)) = answer { Some(it) } else { None };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Directory { request, page });
            }
            Work::Occupancies { request } => {
                let given = match answer {
                    Some(Answer::Occupancies(given)) => Some(given),
                    Some(_) | None => None,
                };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Occupancies { request, given });
            }
            Work::Ack
            | Work::Publish { .. }
            | Work::Heads { .. }
            | Work::Read { .. }
            | Work::Beat { .. } => {}
        }
    }
}
