//! Tokens that are not accepted any more (I5): an order closes the sessions that hold one, and from then on every check of
//! a token on this lane refuses it, until it would have expired. Knows nothing of signatures.

use std::collections::BTreeMap;

use roomcast_protocol::guard::{AuthError, Principal};
use roomcast_protocol::time::Now;

use super::Lane;
use super::orders::is_called;
use crate::messages::Effect;
use crate::orders::{Outcome, Revocation, Tokens};
use crate::session::Session;

/// Revocations that a lane keeps: users and single tokens. Beyond it the one that ends first goes, counted.
pub const REVOKED_MAX: usize = 10_000;

/// Why a token is refused.
pub(super) const REVOKED: AuthError = AuthError::Unauthorized("the token is revoked");

/// Of a user whose tokens are revoked, or of one token. Units: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Tokens that were issued before; without meaning for a single one.
    before: u64,
    /// When it is forgotten.
    until: u64,
}

/// What a lane knows of revoked tokens. Bounds: [`REVOKED_MAX`].
#[derive(Debug, Default)]
pub(super) struct Revoked {
    users: BTreeMap<Box<str>, Entry>,
    ids: BTreeMap<Box<str>, Entry>,
    /// All that the broker keeps has been told.
    whole: bool,
}

impl Revoked {
    /// Whether this one's token is revoked.
    fn covers(&self, who: &Principal, unix_ms: u64) -> bool {
        if self.users.is_empty() && self.ids.is_empty() {
            return false;
        }
        let of_user = self.users.get(&*who.user_key());
        let by_user =
            of_user.is_some_and(|it| unix_ms < it.until && who.issued_unix_ms < it.before);
        by_user || self.ids.get(&who.token_id).is_some_and(|it| unix_ms < it.until)
    }

    /// Takes one in; says how many had to go for it.
    fn add(&mut self, now: Now, revocation: &Revocation) -> u64 {
        let until = revocation.until_unix_ms;
        let (entries, key, before) = match &revocation.tokens {
            Tokens::Of { user, before_unix_ms } => (&mut self.users, user, *before_unix_ms),
            Tokens::Named(id) => (&mut self.ids, id, 0),
        };
        if let Some(entry) = entries.get_mut(key) {
            entry.before = entry.before.max(before);
            entry.until = entry.until.max(until);
            return 0;
        }
        entries.insert(key.clone(), Entry { before, until });
        if self.users.len() + self.ids.len() <= REVOKED_MAX {
            return 0;
        }
        self.users.retain(|_, it| now.unix_ms < it.until);
        self.ids.retain(|_, it| now.unix_ms < it.until);
        if self.users.len() + self.ids.len() <= REVOKED_MAX {
            return 0;
        }
        let first = |entries: &BTreeMap<Box<str>, Entry>| {
            let found = entries.iter().min_by_key(|(_, it)| it.until);
            found.map(|(key, it)| (it.until, key.clone()))
        };
        match (first(&self.users), first(&self.ids)) {
            (Some((of_users, user)), of_ids)
                if of_ids.as_ref().is_none_or(|it| of_users <= it.0) =>
            {
                self.users.remove(&user);
            }
            (_, Some((_, id))) => {
                self.ids.remove(&id);
            }
            (_, None) => {}
        }
        1
    }
}

impl Lane {
    /// Whether tokens can be judged: until then no connection may begin.
    #[must_use]
    pub const fn takes_tokens(&self) -> bool {
        self.revoked.whole
    }

    /// Checks a token and says who it is.
    pub(super) fn verify(&self, token: &str, now: Now) -> Result<Principal, AuthError> {
        let who = self.guard.verify(token, now.unix_ms)?;
        if self.is_revoked(&who, now) { Err(REVOKED) } else { Ok(who) }
    }

    pub(super) fn is_revoked(&self, who: &Principal, now: Now) -> bool {
        #[cfg(feature = "planted")]
        if self.planted == Some(crate::planted::Planted::RevokedTaken) {
            return false;
        }
        self.revoked.covers(who, now.unix_ms)
    }

    /// Tokens are refused from now on, and the sessions that hold one end.
    pub(super) fn revoke(
        &mut self,
        now: Now,
        revocation: &Revocation,
        out: &mut Vec<Effect>,
    ) -> Outcome {
        self.counters.revoked_lost += self.revoked.add(now, revocation);
        let holds = |who: &Principal| match &revocation.tokens {
            Tokens::Of { user, before_unix_ms } => {
                is_called(who, user) && who.issued_unix_ms < *before_unix_ms
            }
            Tokens::Named(id) => who.token_id == *id,
        };
        let keys = self.keys_of(|session: &Session| session.who.as_deref().is_some_and(holds));
        for key in &keys {
            self.turn_away(*key, &REVOKED, out);
        }
        Outcome::of(keys.len() as u64)
    }

    /// What the broker keeps of revocations, or some of it.
    pub(super) fn learn_revoked(
        &mut self,
        now: Now,
        revocations: &[Revocation],
        whole: bool,
        out: &mut Vec<Effect>,
    ) {
        for revocation in revocations {
            self.revoke(now, revocation, out);
        }
        self.revoked.whole |= whole;
    }

    /// Orders were lost: tokens are taken once more when all that is kept has been read again.
    pub(super) const fn doubt_revoked(&mut self) {
        self.revoked.whole = false;
    }
}
