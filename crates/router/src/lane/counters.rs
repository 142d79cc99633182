//! What a lane counts of itself, and how large it is.

use roomcast_protocol::codes::{Close, Refusal, Refused};
use roomcast_protocol::command::{ReplyTo, Unreadable};
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::outbound::{Outbound, SkipReason};
use roomcast_protocol::position::Unrecovered;
use roomcast_protocol::session::Unattached;

use super::Lane;
use crate::happenings::Offence;
use crate::messages::Effect;

/// What happened on a lane since it began; the shell publishes the differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Publications taken from clients.
    pub received: u64,
    /// Publications that came from the hub.
    pub publications: u64,
    /// Publications that found no member here.
    pub unwanted: u64,
    /// Publications that came too late.
    pub expired: u64,
    /// Encodings made of publications.
    pub encodings: u64,
    /// Frames given to members of rooms.
    pub deliveries: u64,
    /// Sessions that became ready.
    pub ready: u64,
    /// Revocations that found no place, or went for others.
    pub revoked_lost: u64,
    /// Refusals, by [`Refusal::index`].
    pub refusals: [u64; Refusal::ALL.len()],
    /// Closes, by [`Close::index`].
    pub closes: [u64; Close::ALL.len()],
    /// Limits that bit, by [`LimitName::index`].
    pub limits: [u64; LimitName::ALL.len()],
    /// Offsets that members covered without a delivery, in the order of [`SkipReason::ALL`].
    pub skips: [u64; SkipReason::ALL.len()],
    /// Notices of gaps given to members.
    pub gaps: u64,
    /// Joins that were given all they had missed.
    pub recovered: u64,
    /// Joins that could not be, in the order of [`Unrecovered::ALL`].
    pub unrecovered: [u64; Unrecovered::ALL.len()],
    /// Requests for history that were answered with a page.
    pub histories: u64,
    /// Requests that went to the application.
    pub requests: u64,
    /// Positions that did not follow the one before: ignored, or told as a gap.
    pub jumps: u64,
    /// Times the lane was late for its turn and held.
    pub holds: u64,
    /// Frames that full outboxes let go because their time was over.
    pub shed_expired: u64,
    /// Frames that full outboxes let go because a newer one took their place.
    pub shed_conflated: u64,
    /// Frames of low class that full outboxes let go.
    pub shed_low: u64,
    /// Members that were parked.
    pub parked: u64,
    /// Members that were parked and met their room again.
    pub unparked: u64,
    /// Sessions taken over from former connections.
    pub resumed: u64,
    /// Of these, those that were handed over by a node that stops.
    pub hand_overs: u64,
    /// Wishes for a session that began a new one, in the order of [`Unattached::ALL`].
    pub unresumed: [u64; Unattached::ALL.len()],
    /// Records of sessions written.
    pub records: u64,
    /// Records that the broker did not answer for.
    pub records_failed: u64,
    /// Connections that ended because another one has taken their session over.
    pub fenced: u64,
    /// Connections that ended because the node stops, or moved, in the order of [`Drained::ALL`].
    pub drained: [u64; Drained::ALL.len()],
    /// Publications that clients acked.
    pub acked: u64,
    /// Acks of what nobody waited for.
    pub acks_unknown: u64,
    /// Publications that ask for acks in rooms with too many members for that.
    pub acks_ignored: u64,
    /// Publications given again because they were not acked.
    pub redelivered: u64,
    /// Publications given as often as the dialect says, and not acked.
    pub delivery_failed: u64,
    /// Times a room was parked for a member because too much waited for its acks.
    pub parked_unacked: u64,
    /// Inboxes entered without knowing what had been acked.
    pub inboxes_unknown: u64,
    /// Sessions that were closed because the groups of their user could not be read.
    pub groups_unknown: u64,
    /// Removed publications of inboxes that clients were told of.
    pub inbox_lost: u64,
    /// Times that members of a room were told who has got and read more.
    pub receipts_told: u64,
    /// What was not told to the application because the way to it was full.
    pub untold: u64,
}

/// How a connection left a node that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drained {
    /// Its client had gone elsewhere before.
    Moved,
    /// It was closed in its turn.
    Closed,
    /// It was dropped in its turn, without a Close frame.
    Dropped,
    /// It was told to go elsewhere, and did not in its time.
    Late,
}

impl Drained {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Moved, Self::Closed, Self::Dropped, Self::Late];

    /// Its name, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Closed => "closed",
            Self::Dropped => "dropped",
            Self::Late => "late",
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: 0,
            publications: 0,
            unwanted: 0,
            expired: 0,
            encodings: 0,
            deliveries: 0,
            ready: 0,
            revoked_lost: 0,
            refusals: [0; Refusal::ALL.len()],
            closes: [0; Close::ALL.len()],
            limits: [0; LimitName::ALL.len()],
            skips: [0; SkipReason::ALL.len()],
            gaps: 0,
            recovered: 0,
            unrecovered: [0; Unrecovered::ALL.len()],
            histories: 0,
            requests: 0,
            jumps: 0,
            holds: 0,
            resumed: 0,
            hand_overs: 0,
            unresumed: [0; Unattached::ALL.len()],
            records: 0,
            records_failed: 0,
            fenced: 0,
            drained: [0; Drained::ALL.len()],
            acked: 0,
            acks_unknown: 0,
            acks_ignored: 0,
            redelivered: 0,
            delivery_failed: 0,
            parked_unacked: 0,
            inboxes_unknown: 0,
            groups_unknown: 0,
            inbox_lost: 0,
            receipts_told: 0,
            untold: 0,
            shed_expired: 0,
            shed_conflated: 0,
            shed_low: 0,
            parked: 0,
            unparked: 0,
        }
    }
}

impl Lane {
    pub(super) fn refuse(
        &mut self,
        key: SessionKey,
        reply: &ReplyTo,
        refused: &Refused,
        out: &mut Vec<Effect>,
    ) {
        if reply.part {
            return self.groups.refused(key, refused);
        }
        self.note_refusal(key, refused, out);
        self.send(key, &Outbound::Refused { reply, refused, raw: None }, out);
    }

    /// The same of a command that could not be read.
    pub(super) fn refuse_unreadable(
        &mut self,
        key: SessionKey,
        unreadable: &Unreadable,
        out: &mut Vec<Effect>,
    ) {
        let Unreadable { reply, refused, raw, .. } = unreadable;
        self.note_refusal(key, refused, out);
        self.send(key, &Outbound::Refused { reply, refused, raw: raw.as_deref() }, out);
    }

    /// Counts a refusal, and tells of what it says of the client.
    pub(super) fn note_refusal(
        &mut self,
        key: SessionKey,
        refused: &Refused,
        out: &mut Vec<Effect>,
    ) {
        add_one(&mut self.counters.refusals, refused.refusal.index());
        if let Some((limit, _)) = refused.limit {
            self.count_limit(limit);
            self.offended(key, || Offence::Limit { limit }, out);
        }
        if refused.refusal == Refusal::BadJson {
            self.offended(key, || Offence::Malformed { what: Refusal::BadJson.row().text }, out);
        }
    }

    pub(super) fn count_limit(&mut self, limit: LimitName) {
        add_one(&mut self.counters.limits, limit.index());
    }
}

/// How large a lane is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Sessions.
    pub sessions: usize,
    /// Sessions without a good token yet.
    pub unauthenticated: usize,
    /// Rooms.
    pub rooms: usize,
    /// Places in rooms.
    pub memberships: usize,
    /// Members that are parked, which have no place for the while.
    pub parked: usize,
}

/// Adds one to the counter at `index`.
pub(super) fn add_one(counters: &mut [u64], index: usize) {
    if let Some(counter) = counters.get_mut(index) {
        *counter += 1;
    }
}
