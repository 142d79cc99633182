//! The configuration's answers to who may do what: tokens, room rules, API keys. Built from a [`Config`] once, pure
//! afterwards: no clock, no IO; what a peer sends is never compiled, fetched or trusted (INV-1, INV-8).

mod builtin;
mod condition;
mod path;
mod pattern;
#[cfg(test)]
mod tests;
pub(crate) mod token;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use roomcast_protocol::guard::{
    AuthError, Guard, Kind, Policy, Principal, PublishRight, RuleIndex,
};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::texts::Texts;

use crate::config::{ApiKey, Config};
use builtin::{Builtin, OPEN};
pub use condition::Condition;
use condition::Question;
pub use path::DataPath;
pub use pattern::{BadPattern, Pattern};
use token::{ANONYMOUS_REALM, API_REALM, Keys};

/// Rules a configuration may have.
pub const RULES_MAX: usize = 1_000;

/// Keys the comparison of API keys; no secret: what is compared are hashes, and in constant time.
const COMPARISON_KEY: &[u8] = b"roomcast compares API keys with this";

/// A rule for rooms, as the configuration writes it, ready to be asked.
#[derive(Clone, Debug)]
pub struct RoomRule {
    /// Which rooms.
    pub pattern: Pattern,
    /// Who may join; `None`: the application alone says so ([`Policy::by_call`]).
    pub join: Option<Condition>,
    /// Who may publish; `None`: back-ends alone.
    pub publish: Option<Condition>,
    /// What it says beside rights.
    pub policy: Policy,
    /// Of what the newest publication is enough for a slow member.
    pub conflate: Option<DataPath>,
    /// Of what the newest publication is kept alone.
    pub collapse: Option<DataPath>,
}

/// Why a guard cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Signing or verifying does not work in this build.
    #[error("the self-test of HS256 failed: this build's cryptography does not work")]
    SelfTest,
    /// An API key could not be hashed.
    #[error("an API key cannot be hashed: {0}")]
    ApiKey(#[source] jsonwebtoken::errors::Error),
}

/// The guard that a configuration makes.
pub struct RuleGuard {
    keys: Keys,
    rules: Arc<[RoomRule]>,
    /// With their hashes.
    api_keys: Vec<(ApiKey, String)>,
    comparison: DecodingKey,
    /// Peers do not know its key, so they find no two values that look the same.
    hasher: RandomState,
    node: Box<str>,
    dev: bool,
    /// Clients of chat are served.
    chat: bool,
    /// Some rule may read claims: sessions keep them.
    keeps_claims: bool,
}

impl fmt::Debug for RuleGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleGuard").field("node", &self.node).finish_non_exhaustive()
    }
}

impl RuleGuard {
    /// Makes the guard of a configuration, for the node of this name.
    ///
    /// # Errors
    /// [`GuardError`] if this build's cryptography does not work.
    pub fn new(config: &Config, node: &str) -> Result<Self, GuardError> {
        if !token::self_test() {
            return Err(GuardError::SelfTest);
        }
        let key = EncodingKey::from_secret(COMPARISON_KEY);
        let hashed = config.api.keys.iter().map(|api_key| {
            let hash = crypto::sign(api_key.secret.expose(), &key, Algorithm::HS256);
            Ok((api_key.clone(), hash.map_err(GuardError::ApiKey)?))
        });
        let mut conditions =
            config.rooms.iter().flat_map(|rule| [rule.join.as_ref(), rule.publish.as_ref()]);
        Ok(Self {
            keeps_claims: conditions.any(|it| it.is_some_and(Condition::may_read_claims)),
            keys: Keys::new(
                &config.auth.issuers,
                config.limits.token_bytes,
                config.limits.session.leeway_ms,
            ),
            rules: config.rooms.clone(),
            api_keys: hashed.collect::<Result<_, _>>()?,
            comparison: DecodingKey::from_secret(COMPARISON_KEY),
            hasher: RandomState::new(),
            node: node.into(),
            dev: config.dev,
            chat: config.dialects.chat.is_some(),
        })
    }

    /// The API key that was presented, if it is one. Every key is compared, hash with hash, in constant
    /// time (attack 37).
    #[must_use]
    pub fn api_key(&self, presented: &str) -> Option<&ApiKey> {
        let mut found = None;
        for (key, hash) in &self.api_keys {
            let presented = presented.as_bytes();
            if crypto::verify(hash, presented, &self.comparison, Algorithm::HS256).unwrap_or(false)
            {
                found = Some(key);
            }
        }
        found
    }

    fn place(&self, rule: RuleIndex) -> Place<'_> {
        let index = usize::from(rule.0);
        if let Some(rule) = self.rules.get(index) {
            return Place::Own(rule);
        }
        let row = index.checked_sub(self.rules.len()).and_then(|row| Builtin::ALL.get(row));
        row.map_or(Place::Nowhere, |row| Place::Builtin(*row))
    }

    fn ask(
        &self,
        rule: &RoomRule,
        condition: &Condition,
        room: &RoomName,
        who: &Principal,
    ) -> bool {
        rule.pattern.captures(room).is_some_and(|captures| {
            let captures = &captures;
            condition.holds(Question { who, room: room.as_str(), captures, node: &self.node })
        })
    }
}

enum Place<'a> {
    Own(&'a RoomRule),
    Builtin(Builtin),
    Nowhere,
}

impl Guard for RuleGuard {
    fn verify(&self, token: &str, unix_ms: u64) -> Result<Principal, AuthError> {
        let mut who = self.keys.verify(token, unix_ms).map_err(|failed| failed.error)?;
        if !self.keeps_claims {
            who.claims = Box::default();
        }
        Ok(who)
    }

    fn rule(&self, room: &RoomName) -> Option<RuleIndex> {
        let own = self.rules.iter().position(|rule| rule.pattern.reaches(room));
        let index = own.or_else(|| {
            let row = Builtin::find(room.as_str(), self.dev)?;
            let at = Builtin::ALL.iter().position(|other| *other == row)?;
            Some(self.rules.len() + at)
        })?;
        u16::try_from(index).ok().map(RuleIndex)
    }

    fn policy(&self, rule: RuleIndex) -> &Policy {
        match self.place(rule) {
            Place::Own(rule) => &rule.policy,
            Place::Builtin(row) => row.policy(self.chat),
            Place::Nowhere => &OPEN,
        }
    }

    fn may_join(&self, rule: RuleIndex, room: &RoomName, who: &Principal) -> bool {
        match self.place(rule) {
            Place::Own(rule) if rule.policy.conversation => false,
            Place::Own(rule) => {
                rule.join.as_ref().is_some_and(|join| self.ask(rule, join, room, who))
            }
            Place::Builtin(row) => row.may_join(room.as_str(), who),
            Place::Nowhere => false,
        }
    }

    fn may_publish(&self, rule: RuleIndex, room: &RoomName, who: &Principal) -> PublishRight {
        match self.place(rule) {
            Place::Own(rule) if rule.policy.conversation => PublishRight::No,
            Place::Own(rule) => {
                let may = match &rule.publish {
                    Some(condition) => self.ask(rule, condition, room, who),
                    None => who.kind == Kind::Backend,
                };
                if may { PublishRight::Yes } else { PublishRight::No }
            }
            Place::Builtin(row) => row.may_publish(room.as_str(), who),
            Place::Nowhere => PublishRight::No,
        }
    }

    fn conflate_key(&self, rule: RuleIndex, publication: &Publication) -> Option<u64> {
        let path = self.rules.get(usize::from(rule.0))?.conflate.as_ref()?;
        let key = path.find(&publication.content)?;
        Some(self.hasher.hash_one(&*key))
    }

    fn collapse_key(&self, rule: RuleIndex, publication: &Publication) -> Option<Box<str>> {
        let path = self.rules.get(usize::from(rule.0))?.collapse.as_ref()?;
        path.find(&publication.content).map(Box::from)
    }
}

/// Who calls with the API key of this name: a back-end without permissions to join anything, in a realm of its own, so
/// that it is never taken for a user of the same name.
#[must_use]
pub fn backend(name: &str) -> Principal {
    without_token(Kind::Backend, API_REALM, name.into())
}

/// Who comes without a token where that is allowed: each session is another one, in a realm of its own, without rights.
pub(crate) fn anonymous(session: SessionId) -> Principal {
    without_token(Kind::Anonymous, ANONYMOUS_REALM, session.to_string().into())
}

fn without_token(kind: Kind, realm: &str, id: Box<str>) -> Principal {
    Principal {
        kind,
        realm: realm.into(),
        id,
        permissions: Texts::default(),
        roles: Texts::default(),
        teams: Texts::default(),
        agent_id: None,
        expires_unix_ms: u64::MAX,
        issued_unix_ms: 0,
        token_id: Box::default(),
        claims: "{}".into(),
    }
}
