//! One session: the protocol state of one client on this lane. Owned by the lane, which alone changes memberships.

use std::collections::HashMap;

use foldhash::quality::FixedState;
use roomcast_protocol::guard::{Principal, PublishRight, RuleIndex};
use roomcast_protocol::ids::{SessionId, SessionKey};
use roomcast_protocol::limits::SessionLimits;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use crate::lane::acks::Acks;
use crate::lane::lasting::Lasting;
use crate::meter::{Place, UserMeter};

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No token yet.
    Connecting(Early),
    /// Its token is good; the session that it wants back is asked for.
    Attaching,
    /// Its token is good; this many of its own rooms, and of those from before, are not live yet.
    Joining(u16),
    /// It may act.
    Ready,
}

/// What was answered to a session before its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Early {
    /// Messages.
    pub(crate) answers: u8,
    /// One of them by a refusal.
    pub(crate) refused: bool,
}

/// A place in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The room's index in the lane.
    pub(crate) room: u32,
    /// Its index among the room's members, or [`Membership::WAITING`].
    pub(crate) place: u32,
}

impl Membership {
    /// The room is not live yet, the session has not been welcomed, or it catches up.
    pub(crate) const WAITING: u32 = u32::MAX;
}

/// A right that was evaluated once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evaluated {
    pub(crate) rule: RuleIndex,
    pub(crate) right: PublishRight,
}

/// What is so, or not, of a session: one bit each, for most sessions are idle and many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags(u8);

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flag {
    /// The coming expiry was told.
    ExpiryTold = 1,
    /// Nobody looks at its client just now: so it has said.
    Away = 2,
}

impl Flags {
    pub(crate) const fn has(self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    pub(crate) const fn set(&mut self, flag: Flag, is_so: bool) {
        self.0 = if is_so { self.0 | flag as u8 } else { self.0 & !(flag as u8) };
    }
}

/// Evaluated publish rights a session keeps; beyond it they are evaluated anew.
pub(crate) const RIGHTS_MAX: usize = 256;

/// The protocol state of one client.
pub(crate) struct Session {
    pub(crate) key: SessionKey,
    pub(crate) id: SessionId,
    /// Index in the lane's table of formats.
    pub(crate) format: u8,
    pub(crate) phase: Phase,
    pub(crate) who: Option<Box<Principal>>,
    pub(crate) place: Option<Place>,
    pub(crate) rooms: Vec<Membership>,
    /// Rights to publish, by room; made at the first publish.
    #[allow(
        clippy::box_collection,
        reason = "most sessions never publish, and pay 8 bytes for it"
    )]
    pub(crate) rights: Option<Box<HashMap<RoomName, Evaluated, FixedState>>>,
    /// Publications, for the ids of those that came without one.
    pub(crate) ids_made: u64,
    /// When bytes last came. Units: monotonic milliseconds.
    pub(crate) heard_ms: u64,
    /// When the last ping left; unanswered if nothing was heard since.
    pub(crate) pinged_ms: u64,
    /// Which wheel entry counts; `u64::MAX`: none. Units: monotonic milliseconds.
    pub(crate) armed_ms: u64,
    /// What is so of it.
    pub(crate) flags: Flags,
    /// Requests for history under way.
    pub(crate) histories: u8,
    /// Requests to the application under way.
    pub(crate) requests: u8,
    /// What it has beside, if it can be resumed.
    pub(crate) lasting: Option<Box<Lasting>>,
    /// What it has yet to ack; made when there is something.
    pub(crate) acks: Option<Box<Acks>>,
}

/// What a session's time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// No token in time.
    Tokenless,
    /// The token expired.
    Unauthorized,
    /// Nothing was said for as long as its dialect lets it.
    Mute,
    /// Silent for long: ping.
    Ping,
    /// Silent for long after a ping.
    Silent,
    /// Tell that the token expires.
    TellExpiry,
}

impl Session {
    /// Its user's counters.
    pub(crate) fn meter(&self) -> Option<&UserMeter> {
        let moment = || self.lasting.as_ref()?.moment.as_ref();
        let leaving = || moment()?.turn.as_ref()?.meter.as_deref();
        self.place.as_ref().map(Place::meter).or_else(leaving)
    }

    /// Whether it has brought no token.
    pub(crate) const fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connecting(_))
    }

    /// Whether the publication is the copy of what was said in this session.
    pub(crate) fn has_said(&self, publication: &Publication) -> bool {
        let origin = publication.origin.as_ref();
        origin.and_then(|origin| origin.said_in).is_some_and(|session| session == self.id)
    }

    /// What is due now; its client may say nothing until `mute_at_ms`.
    pub(crate) fn due(&self, now: Now, limits: &SessionLimits, mute_at_ms: u64) -> Due {
        if self.is_connecting() {
            let late = now.mono_ms >= self.heard_ms.saturating_add(limits.first_message_ms);
            return if late { Due::Tokenless } else { Due::Nothing };
        }
        if now.mono_ms >= mute_at_ms {
            return Due::Mute;
        }
        if let Some(who) = &self.who {
            if now.unix_ms >= who.expires_unix_ms.saturating_add(limits.leeway_ms) {
                return Due::Unauthorized;
            }
            let notice_from = who.expires_unix_ms.saturating_sub(limits.expiry_notice_ms);
            if !self.flags.has(Flag::ExpiryTold)
                && self.phase == Phase::Ready
                && now.unix_ms >= notice_from
            {
                return Due::TellExpiry;
            }
        }
        let due = if self.is_pinged() { Due::Silent } else { Due::Ping };
        if now.mono_ms >= self.silence_ends_ms(limits) { due } else { Due::Nothing }
    }

    /// Whether a ping is unanswered.
    pub(crate) const fn is_pinged(&self) -> bool {
        self.heard_ms < self.pinged_ms
    }

    /// How long its silence is put up with, before a ping and after one. Units: monotonic milliseconds.
    const fn silence_ends_ms(&self, limits: &SessionLimits) -> u64 {
        if self.is_pinged() {
            self.pinged_ms.saturating_add(limits.pong_ms)
        } else {
            self.heard_ms.saturating_add(limits.ping_ms)
        }
    }

    /// When to look again, at `mute_at_ms` at the latest. Units: monotonic milliseconds.
    pub(crate) fn next_look_ms(&self, now: Now, limits: &SessionLimits, mute_at_ms: u64) -> u64 {
        if self.is_connecting() {
            return self.heard_ms.saturating_add(limits.first_message_ms);
        }
        let expiry = self.who.as_ref().map_or(u64::MAX, |who| {
            let at = if self.flags.has(Flag::ExpiryTold) {
                who.expires_unix_ms.saturating_add(limits.leeway_ms)
            } else {
                who.expires_unix_ms.saturating_sub(limits.expiry_notice_ms)
            };
            now.mono_ms.saturating_add(at.saturating_sub(now.unix_ms))
        });
        self.silence_ends_ms(limits).min(expiry).min(mute_at_ms)
    }
}
