//! Revoked tokens (I5): a revocation is kept in the room `$revoked` before it is ordered, so that a node which starts later
//! knows it too. Lanes are told all that is kept before they take tokens: at the start once the place in the stream of
//! orders is known, behind which new ones are heard, and again whenever orders were lost.

use std::sync::Arc;

use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::position::{Keep, Kept, Page, Span};
use roomcast_protocol::publication::Publication;
pub use roomcast_protocol::room::REVOKED;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{Now, iso8601};

use super::asks::{ASK_AGAIN_MS, Ask};
use super::{CONTROL, Hub};
use crate::messages::{HubEffect, LaneMessage, QueryId, Ticket};
use crate::orders::{Revocation, Tokens, id_of};

/// How long a revocation is known: tokens that live longer are accepted again. Units: milliseconds.
pub const REVOKED_MS: u64 = 7 * 24 * 3_600_000;

/// What it keeps.
pub const REVOKED_KEEP: Keep =
    Keep { size: 10_000, bytes_max: 8 << 20, ttl_ms: REVOKED_MS, replicated: false, inbox: None };

/// The type of what it keeps.
const REVOKE: &str = "revoke";

/// How much older than now a time may be so that nothing kept says more. Units: milliseconds.
const FRESH_MS: u64 = 1_000;

/// How far a hub has read what is kept.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// All of it.
    whole: bool,
    from: u64,
    /// The question under way; answers to others came too late.
    under_way: Option<u64>,
    /// When to ask again after a question that was not answered. Units: monotonic milliseconds.
    rest_ms: u64,
}

impl Hub {
    /// Whether lanes know all revocations, and so take tokens.
    pub(super) const fn knows_revoked(&self) -> bool {
        self.reading.whole
    }

    /// Lanes take no tokens until all that is kept has been read again.
    pub(super) fn doubt_revoked(&mut self) {
        self.reading = Reading::default();
    }

    /// When [`Hub::read_revoked`] has something to do.
    pub(super) fn next_revoked_ms(&self) -> Option<u64> {
        let wanted =
            !self.reading.whole && self.reading.under_way.is_none() && self.may_read_revoked();
        wanted.then_some(self.reading.rest_ms)
    }

    fn may_read_revoked(&self) -> bool {
        let room = RoomName::system(CONTROL).ok();
        let placed = room.is_some_and(|it| self.track(&it).is_some_and(|it| it.at.is_some()));
        placed && self.may_ask()
    }

    /// Asks for the next page.
    pub(super) fn read_revoked(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        if self.next_revoked_ms().is_none_or(|at| at > now.mono_ms) {
            return;
        }
        let Ok(room) = RoomName::system(REVOKED) else { return };
        let request = self.asks.next_id(Ask::Revoked);
        self.reading.under_way = Some(request);
        let span = Span::above(self.reading.from);
        out.push(HubEffect::Broker(BrokerCommand::Read {
            request,
            room,
            keep: REVOKED_KEEP,
            span,
        }));
    }

    /// A page came, or did not.
    pub(super) fn revoked_read(
        &mut self,
        now: Now,
        request: u64,
        page: Option<Page>,
        out: &mut Vec<HubEffect>,
    ) {
        if self.reading.under_way.take_if(|it| *it == request).is_none() {
            return;
        }
        let Some(page) = page else {
            self.reading.rest_ms = now.mono_ms + ASK_AGAIN_MS;
            return;
        };
        let offsets = page.entries.iter().filter_map(Kept::position).map(|it| it.offset);
        self.reading.from = offsets.fold(self.reading.from, u64::max);
        let whole = page.whole || self.reading.from >= page.head.position.offset;
        self.reading.whole = whole;
        let revocations: Arc<[Revocation]> =
            page.entries.iter().filter_map(revocation_of).collect();
        let told = || LaneMessage::Revoked { revocations: Arc::clone(&revocations), whole };
        self.tell_lanes(told, out);
    }

    /// Has a revocation kept; it is ordered once it is.
    pub(super) fn keep_revocation(
        &mut self,
        now: Now,
        query: QueryId,
        revocation: &Revocation,
        out: &mut Vec<HubEffect>,
    ) {
        let Ok(room) = RoomName::system(REVOKED) else { return };
        let publication = Publication {
            id: id_of(self.config.id, query.0),
            kind: REVOKE.into(),
            timestamp: iso8601(now.unix_ms).into(),
            sender: self.config.node.clone(),
            ..Publication::bare(room, Content::Text(revocation.text().into()))
        };
        self.publish(now, Ticket::Query(query), Arc::new(publication), true, out);
    }
}

fn revocation_of(kept: &Kept) -> Option<Revocation> {
    match kept {
        Kept::Publication(publication) => revocation(publication),
        Kept::Unreadable(_) | Kept::Removed(_) => None,
    }
}

fn revocation(publication: &Publication) -> Option<Revocation> {
    match &publication.content {
        Content::Text(text) if &*publication.kind == REVOKE => {
            std::str::from_utf8(text).ok().and_then(Revocation::parse)
        }
        Content::Text(_) | Content::Json(_) | Content::Binary(_) => None,
    }
}

/// Of what the newest revocation is enough; `None`: what is kept may say more.
pub(super) fn collapse_key(now: Now, publication: &Publication) -> Option<Box<str>> {
    match revocation(publication)?.tokens {
        Tokens::Of { user, before_unix_ms } => {
            let fresh = before_unix_ms.saturating_add(FRESH_MS) >= now.unix_ms;
            fresh.then(|| format!("user {user}").into())
        }
        Tokens::Named(id) => Some(format!("jti {id}").into()),
    }
}
