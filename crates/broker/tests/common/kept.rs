//! Sessions, users and cursors, asked for and waited for.

use std::sync::Arc;

use roomcast_protocol::directory::{DirectoryPage, Entries, EntrySet, SetEntry};
use roomcast_protocol::envelope::{BeatReport, BrokerCommand, BrokerEvent, Envelope};
use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::inbox::{Acked, CursorName, InboxState, Told};
use roomcast_protocol::occupancy::{AskOccupancies, GivenOccupancies};
use roomcast_protocol::position::{Epoch, Keep, Position};
use roomcast_protocol::presence::{
    Incarnation, PresenceChange, PresenceDiff, PresenceSet, RosterPage, SetPresence,
};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::receipts::{Mark, MarkChange, MarksSet, ReceiptsPage, SetMarks};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{
    AttachSession, AttachedSession, SaveSession, SavedSession, Secret, SessionState, Unattached,
    Wish,
};

use super::{BARRIER, Real, publication};

/// A record that is written by its first connection.
pub fn save(user: &str, session: u128) -> SaveSession {
    SaveSession {
        user: user.into(),
        session: SessionId(session),
        generation: 1,
        state: SessionState::Attached,
        secret: Secret(session),
        turn: None,
        confirmed: false,
        record: None,
        window_ms: 60_000,
        obeyed: None,
    }
}

/// A session is wanted; its secret is 99 from then on.
pub fn attach(user: &str, wish: Wish, alive: &[NodeId]) -> AttachSession {
    let (alive, above) = (alive.to_vec(), Some(0));
    AttachSession { user: user.into(), wish, secret: Secret(99), alive, window_ms: 60_000, above }
}

/// A session is in a room, or has left.
pub fn part(session: u128, user: &str, present: bool) -> PresenceChange {
    PresenceChange { session: SessionId(session), user: user.into(), generation: 1, present }
}

/// What of a step can be compared: its number, users, and who came and left.
pub fn told(diff: &PresenceDiff) -> String {
    let PresenceDiff { room, version, count, joined, left } = diff;
    format!("{room} {} of {count} +{} -{}", version.offset, joined.join(","), left.join(","))
}

impl Real {
    fn next_request(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    #[track_caller]
    pub fn save(&mut self, node: NodeId, save: SaveSession) -> Option<SavedSession> {
        let asked = self.save_without_waiting(node, save);
        self.saved(node, asked)
    }

    pub fn save_without_waiting(&mut self, node: NodeId, save: SaveSession) -> u64 {
        let request = self.next_request();
        self.command(node, BrokerCommand::Save { request, save: Box::new(save) });
        request
    }

    #[track_caller]
    pub fn saved(&mut self, node: NodeId, asked: u64) -> Option<SavedSession> {
        self.wait(node, "a record", |event| match event {
            BrokerEvent::Saved { request, outcome } if *request == asked => Some(*outcome),
            _ => None,
        })
    }

    #[track_caller]
    pub fn take_over(
        &mut self,
        node: NodeId,
        attach: AttachSession,
    ) -> Result<AttachedSession, Unattached> {
        let asked = self.next_request();
        let attach = Box::new(attach);
        self.command(node, BrokerCommand::Attach { request: asked, attach });
        self.wait(node, "a session", |event| match event {
            BrokerEvent::Attached { request, outcome } if *request == asked => {
                Some(outcome.clone().map(|it| *it))
            }
            _ => None,
        })
    }

    /// A step of a node's life; users who leave have this grace.
    #[track_caller]
    pub fn step(
        &mut self,
        (node, life): (NodeId, u32),
        seq: u64,
        room: &str,
        changes: Vec<PresenceChange>,
        grace_ms: u64,
    ) -> PresenceSet {
        let asked = self.next_request();
        let (room, incarnation) = (RoomName::system(room).unwrap(), Incarnation { node, life });
        let set = Box::new(SetPresence { room, incarnation, seq, changes, grace_ms });
        self.command(node, BrokerCommand::SetPresence { request: asked, set });
        let outcome = self.wait(node, "a step", |event| match event {
            BrokerEvent::PresenceSet { request, outcome } if *request == asked => {
                Some(outcome.clone())
            }
            _ => None,
        });
        outcome.unwrap()
    }

    /// A step that is not refused, as it is told; nothing: empty.
    #[track_caller]
    pub fn stepped(
        &mut self,
        by: (NodeId, u32),
        seq: u64,
        room: &str,
        changes: Vec<PresenceChange>,
        grace_ms: u64,
    ) -> String {
        match self.step(by, seq, room, changes, grace_ms) {
            PresenceSet::Done(diff) => diff.as_ref().map(told).unwrap_or_default(),
            PresenceSet::Reaped => "reaped".to_owned(),
        }
    }

    #[track_caller]
    pub fn roster(
        &mut self,
        node: NodeId,
        room: &str,
        after: Option<&str>,
        max: u32,
    ) -> RosterPage {
        let asked = self.next_request();
        let (room, after) = (RoomName::system(room).unwrap(), after.map(Into::into));
        self.command(node, BrokerCommand::Roster { request: asked, room, after, count_max: max });
        let page = self.wait(node, "a roster", |event| match event {
            BrokerEvent::Roster { request, page } if *request == asked => Some(page.clone()),
            _ => None,
        });
        page.unwrap()
    }

    /// Since which version these are in a room.
    #[track_caller]
    pub fn present(&mut self, node: NodeId, room: &str, users: &[Box<str>]) -> Vec<Option<u64>> {
        let asked = self.next_request();
        let (room, users) = (RoomName::system(room).unwrap(), users.to_vec());
        self.command(node, BrokerCommand::Present { request: asked, room, users });
        let since = self.wait(node, "who is there", |event| match event {
            BrokerEvent::Present { request, since } if *request == asked => Some(since.clone()),
            _ => None,
        });
        since.unwrap()
    }

    /// All users of a room.
    #[track_caller]
    pub fn users(&mut self, node: NodeId, room: &str) -> Vec<String> {
        let page = self.roster(node, room, None, 1_000);
        assert!(!page.more && page.count == page.users.len() as u64, "{page:?}");
        page.users.iter().map(ToString::to_string).collect()
    }

    /// Beats as this life of a node, and says which one is over.
    #[track_caller]
    pub fn beat_as(&mut self, node: NodeId, life: u32, retired: Option<u32>) -> BeatReport {
        self.beats += 1;
        self.beat_with(node, self.beats, life, retired)
    }

    /// The same with a number of its own.
    #[track_caller]
    pub fn beat_with(
        &mut self,
        node: NodeId,
        seq: u64,
        life: u32,
        retired: Option<u32>,
    ) -> BeatReport {
        let taken = Vec::new();
        self.command(
            node,
            BrokerCommand::Beat {
                seq,
                hears: true,
                life,
                retired,
                taken,
                told: None,
                reads: false,
            },
        );
        let report = self.wait(node, "a beat's answer", |event| match event {
            BrokerEvent::BeatAnswered { seq: it, report } if *it == seq => Some(report.clone()),
            _ => None,
        });
        report.unwrap()
    }

    /// Partitions with events of occupied and vacated rooms, and without a reader.
    #[track_caller]
    pub fn unread(&mut self, node: NodeId) -> Vec<u16> {
        let (seq, life, taken) = (self.next_request(), 1, Vec::new());
        let (hears, retired, told, reads) = (true, None, None, true);
        let beat = BrokerCommand::Beat { seq, hears, life, retired, taken, told, reads };
        self.command(node, beat);
        self.wait(node, "a beat's answer", |event| match event {
            BrokerEvent::BeatAnswered { seq: it, report: Some(report) } if *it == seq => {
                Some(report.unread.clone())
            }
            _ => None,
        })
    }

    /// Asks for the events of a partition.
    #[track_caller]
    pub fn follow(&mut self, node: NodeId, ask: AskOccupancies) -> GivenOccupancies {
        let asked = self.next_request();
        self.command(node, BrokerCommand::Occupancies { request: asked, ask });
        let given = self.wait(node, "events of rooms", |event| match event {
            BrokerEvent::Occupancies { request, given } if *request == asked => Some(given.clone()),
            _ => None,
        });
        given.unwrap()
    }

    /// Says with a beat of its first life up to which version a node has told of agents.
    #[track_caller]
    pub fn told_up_to(&mut self, node: NodeId, version: Position) {
        self.beats += 1;
        let (seq, taken, told) = (self.beats, Vec::new(), Some(version));
        self.command(
            node,
            BrokerCommand::Beat {
                seq,
                hears: true,
                life: 1,
                retired: None,
                taken,
                told,
                reads: false,
            },
        );
        self.wait(node, "a beat's answer", |event| {
            matches!(event, BrokerEvent::BeatAnswered { seq: it, .. } if *it == seq).then_some(())
        });
    }

    /// What a node hears next of who came and left.
    #[track_caller]
    pub fn next_step(&mut self, node: NodeId) -> String {
        self.wait(node, "who came or left", |event| match event {
            BrokerEvent::Envelope(Envelope::Presence(diff)) => Some(told(diff)),
            _ => None,
        })
    }

    /// Whether a node has heard of anybody who came or left, once all that was published has come.
    #[track_caller]
    pub fn has_heard_steps(&mut self, node: NodeId) -> bool {
        if !self.masters.is_empty() {
            super::subscribed(self, node, BARRIER, 0);
        }
        self.settle(node);
        let events = &self.nodes[&node].events;
        events.iter().any(|it| matches!(it, BrokerEvent::Envelope(Envelope::Presence(_))))
    }

    #[track_caller]
    pub fn inbox(&mut self, node: NodeId, room: &str, device: &str, keep: Keep) -> InboxState {
        let asked = self.next_request();
        let cursor = CursorName { room: RoomName::system(room).unwrap(), device: device.into() };
        self.command(node, BrokerCommand::Inbox { request: asked, cursor, keep });
        let state = self.wait(node, "a cursor", |event| match event {
            BrokerEvent::Inbox { request, state } if *request == asked => Some(state.clone()),
            _ => None,
        });
        state.unwrap()
    }

    /// Acks, and answers with what stands for the device then. Acks have no answer: this one's is the next question's,
    /// which goes behind it.
    #[track_caller]
    pub fn ack(
        &mut self,
        node: NodeId,
        (room, device): (&str, &str),
        keep: Keep,
        (watermark, above): (Position, &[u64]),
        told: u64,
    ) -> InboxState {
        let number = self.inbox(node, room, device, keep).told.cursor;
        let told = Told { cursor: number, count: told };
        let cursor = CursorName { room: RoomName::system(room).unwrap(), device: device.into() };
        let acked = Acked { watermark, above: above.to_vec() };
        self.command(node, BrokerCommand::Ack { cursor, keep, acked, told });
        self.inbox(node, room, device, keep)
    }

    /// Marks what users have got (`d`) or read (`r`) of a room. `None`: it was not answered.
    #[track_caller]
    pub fn mark(
        &mut self,
        node: NodeId,
        room: &str,
        keep: Keep,
        epoch: Epoch,
        changes: &[(&str, Mark, u64)],
    ) -> Option<MarksSet> {
        let asked = self.next_request();
        let change = |(user, mark, offset): &(&str, Mark, u64)| MarkChange {
            user: (*user).into(),
            mark: *mark,
            offset: *offset,
        };
        let changes = changes.iter().map(change).collect();
        let set = Box::new(SetMarks { room: RoomName::parse(room).unwrap(), epoch, changes });
        self.command(node, BrokerCommand::SetMarks { request: asked, keep, set });
        self.wait(node, "what became of marks", |event| match event {
            BrokerEvent::MarksSet { request, outcome } if *request == asked => {
                Some(outcome.clone())
            }
            _ => None,
        })
    }

    /// What users have got and read, or when they did of one publication.
    #[track_caller]
    pub fn receipts(
        &mut self,
        node: NodeId,
        room: &str,
        keep: Keep,
        of: Option<u64>,
    ) -> ReceiptsPage {
        let (asked, room) = (self.next_request(), RoomName::parse(room).unwrap());
        let (after, count_max) = (None, 1_000);
        let ask = BrokerCommand::Receipts { request: asked, room, keep, of, after, count_max };
        self.command(node, ask);
        let page = self.wait(node, "receipts", |event| match event {
            BrokerEvent::Receipts { request, page } if *request == asked => Some(page.clone()),
            _ => None,
        });
        page.unwrap()
    }

    /// Sets an entry of a directory, or removes it. `None`: it was not answered.
    #[track_caller]
    pub fn set_entry(&mut self, node: NodeId, set: SetEntry) -> Option<EntrySet> {
        let asked = self.next_request();
        self.command(node, BrokerCommand::SetEntry { request: asked, set: Box::new(set) });
        self.wait(node, "what became of an entry", |event| match event {
            BrokerEvent::EntrySet { request, outcome } if *request == asked => {
                Some(outcome.clone())
            }
            _ => None,
        })
    }

    #[track_caller]
    pub fn directory(&mut self, node: NodeId, name: &str, entries: Entries) -> DirectoryPage {
        let (asked, directory) = (self.next_request(), RoomName::system(name).unwrap());
        self.command(node, BrokerCommand::Directory { request: asked, directory, entries });
        let page = self.wait(node, "a directory", |event| match event {
            BrokerEvent::Directory { request, page } if *request == asked => Some(page.clone()),
            _ => None,
        });
        page.unwrap()
    }

    /// Publishes in a room that keeps publications, in a class and under a key.
    #[track_caller]
    pub fn stored_as(
        &mut self,
        node: NodeId,
        id: u64,
        name: &str,
        keep: Keep,
        (priority, collapse): (Option<Priority>, Option<&str>),
    ) -> Position {
        let ticket = 2_000_000 + self.next_request();
        let publication = publication(name, &format!("text {id}"), id);
        let publication = Arc::new(Publication { priority, ..publication });
        let (keep, collapse) = (Some(keep), collapse.map(Into::into));
        self.command(
            node,
            BrokerCommand::Publish { ticket, publication, dedup: false, keep, collapse },
        );
        self.outcome(node, ticket).unwrap().position.unwrap()
    }
}
