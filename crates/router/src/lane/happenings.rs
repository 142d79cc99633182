//! What the lane tells the application (its shell passes it on): who came and went, what was not acked, who tried what it
//! may not. Whoever is told as connected is told as disconnected, once. Costs nothing where nobody wants to know.

use std::collections::BTreeMap;
use std::net::IpAddr;

use roomcast_protocol::codes::{Close, Refusal};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::guard::{AuthError, Principal};
use roomcast_protocol::ids::{SessionId, SessionKey};
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::SessionState;
use roomcast_protocol::time::Now;

use super::Lane;
use super::lasting::Lasting;
use crate::happenings::{Ended, Happening, HappeningKind, Offence, Right, Unacked, Wanted, cut};
use crate::messages::Effect;
#[cfg(test)]
use crate::session::Phase;
use crate::session::Session;

/// Why sessions end whose token has been good.
pub(super) const EXPIRED: AuthError = AuthError::Unauthorized("the token is expired");
pub(super) const ANOTHER: AuthError = AuthError::Unauthorized("the token is another user's");

/// A session ends without having brought a token.
pub(super) const NO_TOKEN: Offence = Offence::Authentication { why: "no token came" };

/// What a lane tells.
#[derive(Debug)]
pub(super) struct Telling {
    wanted: Wanted,
    /// The way to the application is full.
    hushed: bool,
    /// Sessions that were told as connected, and since when they can act. Units: monotonic milliseconds. Bounds: the
    /// lane's sessions.
    pub(super) connected: BTreeMap<SessionKey, u64>,
}

impl Telling {
    pub(super) const fn new(wanted: Wanted) -> Self {
        Self { wanted, hushed: false, connected: BTreeMap::new() }
    }
}

impl Lane {
    /// Whether the way to the application is full. While it is, nothing is told but the end of what was told to have
    /// begun, which the lane's sessions bound; the rest is counted.
    pub const fn hush(&mut self, full: bool) {
        self.telling.hushed = full;
    }

    /// A session's client did what it may not.
    pub fn offended(
        &mut self,
        key: SessionKey,
        what: impl FnOnce() -> Offence,
        out: &mut Vec<Effect>,
    ) {
        self.offended_as(key, None, what, out);
    }

    /// Somebody was turned away before a session began; `None`: nobody wants to know, or the way is full. `who`: where
    /// that is known.
    pub fn turned_away(
        &mut self,
        now: Now,
        who: Option<&Principal>,
        address: IpAddr,
        what: impl FnOnce() -> Offence,
    ) -> Option<Happening> {
        if !self.telling.wanted.security {
            return None;
        }
        if self.telling.hushed {
            self.counters.untold += 1;
            return None;
        }
        let kind = HappeningKind::Security { what: what(), count: 1 };
        let told = self.happening(None, who, kind);
        Some(Happening { unix_ms: now.unix_ms, address: Some(address), ..told })
    }

    /// The same of one whose session does not know it yet.
    fn offended_as(
        &mut self,
        key: SessionKey,
        who: Option<&Principal>,
        what: impl FnOnce() -> Offence,
        out: &mut Vec<Effect>,
    ) {
        if self.telling.wanted.security {
            self.tell(key, who, || HappeningKind::Security { what: what(), count: 1 }, out);
        }
    }

    /// The session has no right to that in the room.
    pub(super) fn note_denial(
        &mut self,
        key: SessionKey,
        (right, room): (Right, &RoomName),
        out: &mut Vec<Effect>,
    ) {
        self.offended(key, || Offence::Permission { right, room: cut(room.as_str()) }, out);
    }

    /// The same, and refuses it.
    pub(super) fn deny(
        &mut self,
        key: SessionKey,
        reply: &ReplyTo,
        denied: (Right, &RoomName),
        out: &mut Vec<Effect>,
    ) {
        self.note_denial(key, denied, out);
        self.refuse(key, reply, &Refusal::PermissionDenied.into(), out);
    }

    /// Ends a session whose token is no good, or no more.
    pub(super) fn turn_away(&mut self, key: SessionKey, error: &AuthError, out: &mut Vec<Effect>) {
        self.offended(key, || Offence::Authentication { why: error.why() }, out);
        self.close(key, error.close(), out);
    }

    /// Ends a session whose user has as many connections as it may. `who`: if the session does not know it yet.
    pub(super) fn end_one_too_many(
        &mut self,
        key: SessionKey,
        who: Option<&Principal>,
        out: &mut Vec<Effect>,
    ) {
        let limit = LimitName::ConnectionsPerUser;
        self.count_limit(limit);
        self.offended_as(key, who, || Offence::Limit { limit }, out);
        self.close(key, Close::Limit, out);
    }

    /// The session can act.
    pub(super) fn tell_connected(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key).filter(|_| self.telling.wanted.connections) else {
            return;
        };
        let Some(format) = self.formats.get(usize::from(session.format)) else { return };
        let dialect = format.dialect.name();
        let resumed = session.lasting.as_deref().is_some_and(Lasting::is_resumed);
        let generation = generation_of(session);
        let kind = HappeningKind::Connected { resumed, dialect, generation };
        if self.tell(key, None, || kind, out) {
            self.telling.connected.insert(key, self.turns.last_ms());
        }
    }

    /// The session's connection is over.
    pub(super) fn tell_disconnected(
        &mut self,
        key: SessionKey,
        ended: Ended,
        state: SessionState,
        out: &mut Vec<Effect>,
    ) {
        let Some(since_ms) = self.telling.connected.remove(&key) else { return };
        let Some(session) = self.session(key) else { return };
        let is_kept = |it: &Lasting| it.recorded && !it.fenced;
        let resumable =
            state == SessionState::Detached && session.lasting.as_deref().is_some_and(is_kept);
        let kind = HappeningKind::Disconnected {
            generation: generation_of(session),
            ended,
            connected_ms: self.turns.last_ms().saturating_sub(since_ms),
            resumable,
        };
        let told = self.happening(Some(session.id), session.who.as_deref(), kind);
        out.push(Effect::Happened { of: key.index, happening: Box::new(told) });
    }

    /// A publication that requires acks has failed for the session.
    pub(super) fn tell_failed(
        &mut self,
        key: SessionKey,
        publication: &Publication,
        why: Unacked,
        out: &mut Vec<Effect>,
    ) {
        let kind = || {
            let Publication { room, id, position, .. } = publication;
            let (room, id) = (room.clone(), id.clone());
            HappeningKind::DeliveryFailed { room, id, position: *position, why }
        };
        if self.telling.wanted.failures {
            self.tell(key, None, kind, out);
        }
    }

    /// Tells what is wanted, unless the way is full; says whether it did.
    fn tell(
        &mut self,
        key: SessionKey,
        who: Option<&Principal>,
        kind: impl FnOnce() -> HappeningKind,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(session) = self.session(key) else { return false };
        let (id, who) = (session.id, who.or(session.who.as_deref()));
        let told = (!self.telling.hushed).then(|| self.happening(Some(id), who, kind()));
        let Some(told) = told else {
            self.counters.untold += 1;
            return false;
        };
        out.push(Effect::Happened { of: key.index, happening: Box::new(told) });
        true
    }

    /// Exactly those that can act, and have proven themselves, were told as connected.
    #[cfg(test)]
    pub(super) fn walk_connected(&self) {
        if !self.telling.wanted.connections || self.counters.untold > 0 {
            return;
        }
        let unproven = |it: &Session| it.lasting.as_deref().is_some_and(|it| it.unproven);
        let told = |it: &Session| it.phase == Phase::Ready && !unproven(it);
        let mut expected = self.keys_of(told);
        expected.sort_unstable();
        let connected: Vec<_> = self.telling.connected.keys().copied().collect();
        assert_eq!(connected, expected);
    }

    fn happening(
        &self,
        session: Option<SessionId>,
        who: Option<&Principal>,
        kind: HappeningKind,
    ) -> Happening {
        Happening {
            lane: self.id,
            unix_ms: self.turns.now().unix_ms,
            user: who.map_or("".into(), |who| who.user_key().into()),
            party: who.map(|who| who.kind),
            session,
            address: None,
            kind,
        }
    }
}

/// Which of its session's connections it is.
fn generation_of(session: &Session) -> u64 {
    session.lasting.as_deref().map_or(1, |lasting| lasting.generation)
}
