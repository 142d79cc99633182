//! Who may do what: the principal, and the pure trait that answers for the configuration.

use crate::codes::Close;
use crate::inbox::CursorOf;
use crate::position::Keep;
use crate::presence::PresenceMode;
use crate::publication::{Priority, Publication};
use crate::relay::RelayMode;
use crate::room::RoomName;
use crate::texts::Texts;

/// What kind of party acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody with a token.
    User,
    /// An application's server: API keys, and tokens with `kind = backend` from an issuer allowed to say so.
    Backend,
    /// A client without a token, where configuration lets such in.
    Anonymous,
}

impl Kind {
    /// `user`, `backend` or `anonymous`, as room rules see it in `user.kind`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Backend => "backend",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Who acts, as a checked token says, or the way in that needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What kind of party.
    pub kind: Kind,
    /// The users of which issuer; the default realm's name is empty.
    pub realm: Box<str>,
    /// The token's `sub`.
    pub id: Box<str>,
    /// The token's `permissions`.
    pub permissions: Texts,
    /// The token's `roles`.
    pub roles: Texts,
    /// The token's `teams`.
    pub teams: Texts,
    /// The token's `agent_id`, as text: this connection is that agent.
    pub agent_id: Option<Box<str>>,
    /// The token's `exp`. Units: milliseconds since the Unix epoch.
    pub expires_unix_ms: u64,
    /// The token's `iat`; 0: it does not say. Units: milliseconds since the Unix epoch.
    pub issued_unix_ms: u64,
    /// The token's `jti`; empty: it has none.
    pub token_id: Box<str>,
    /// All claims, as the JSON text of an object; what room rules see in `user.claims`. Empty where no rule reads them.
    pub claims: Box<str>,
}

impl Principal {
    /// The user's name within the cluster: `id`, or `realm:id` outside the default realm.
    #[must_use]
    pub fn user_key(&self) -> String {
        if self.realm.is_empty() {
            self.id.to_string()
        } else {
            format!("{}:{}", self.realm, self.id)
        }
    }

    /// Whether its token holds this permission.
    #[must_use]
    pub fn holds(&self, permission: &str) -> bool {
        self.permissions.contains(permission)
    }
}

/// Why a token is no good. Nothing of the token is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Missing, malformed, forged, of the wrong issuer or audience, expired or not valid yet.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The check itself could not be made.
    #[error("the token could not be checked: {0}")]
    CheckFailed(&'static str),
}

impl AuthError {
    /// What is wrong, without a word of the token.
    #[must_use]
    pub const fn why(&self) -> &'static str {
        match self {
            Self::Unauthorized(why) | Self::CheckFailed(why) => why,
        }
    }

    /// How a connection with such a token ends (native seed: 4001 and 4000).
    #[must_use]
    pub const fn close(&self) -> Close {
        match self {
            Self::Unauthorized(_) => Close::Unauthorized,
            Self::CheckFailed(_) => Close::AuthenticationFailed,
        }
    }
}

/// Which room rule applies: an index into the guard's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleIndex(pub u16);

/// What a room's rule says beside its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Class of publications that name none.
    pub priority: Priority,
    /// Types that may be published; empty: any.
    pub types: Vec<Box<str>>,
    /// How it is relayed; `None`: as the node's default says.
    pub relay: Option<RelayMode>,
    /// What it keeps of its publications; `None`: it is ephemeral.
    pub history: Option<Keep>,
    /// Its members hear nothing while orders to end sessions might not arrive (G22).
    pub strict: bool,
    /// What it tells of its members.
    pub presence: PresenceMode,
    /// Users of a roster; with more of them only their number is told.
    pub presence_max: u32,
    /// Newest publications are enough for a slow member: [`Guard::conflate_key`] says of what.
    pub conflates: bool,
    /// It keeps the newest publication under each key: [`Guard::collapse_key`] says which.
    pub collapses: bool,
    /// Its members ack each publication (G15).
    pub requires_ack: bool,
    /// It is an inbox: what its user has not acked is given on the next connect (G16).
    pub cursor: Option<CursorOf>,
    /// It keeps, and tells, what its users have got and read (G17).
    pub receipts: bool,
    /// Whoever is put into it unasked is not told from where it hears it, unless something is missing or it is resumed.
    pub quiet: bool,
    /// Who may join is for a back-end alone to say, where the dialect asks one; nobody else may.
    pub by_call: bool,
    /// It is a conversation's: its people, whom its name says, talk in it, and nobody joins it or publishes in it by name.
    pub conversation: bool,
}

impl Policy {
    /// Users of a roster where the rule says nothing.
    pub const PRESENCE_MAX: u32 = 1_000;

    /// What a rule without words of its own says.
    pub const OPEN: Self = Self {
        priority: Priority::Normal,
        types: Vec::new(),
        relay: None,
        history: None,
        strict: false,
        presence: PresenceMode::Off,
        presence_max: Self::PRESENCE_MAX,
        conflates: false,
        collapses: false,
        requires_ack: false,
        cursor: None,
        receipts: false,
        quiet: false,
        by_call: false,
        conversation: false,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::OPEN
    }
}

/// May a principal publish in a room?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRight {
    /// No.
    No,
    /// Yes.
    Yes,
    /// Only what names the principal's own agent in `data.agent_id` (the built-in rule of `agents`).
    OwnAgent,
}

/// The configuration's answers. Pure: whatever needs IO comes in beforehand.
///
/// Called in the lanes, so it is shared by all of them; time is an argument.
pub trait Guard: Send + Sync {
    /// Checks a token and says who it is.
    ///
    /// # Errors
    /// [`AuthError`] says which check failed.
    fn verify(&self, token: &str, unix_ms: u64) -> Result<Principal, AuthError>;

    /// The first rule that matches the room, if any: no rule, no room.
    fn rule(&self, room: &RoomName) -> Option<RuleIndex>;

    /// What the rule says beside its rights.
    fn policy(&self, rule: RuleIndex) -> &Policy;

    /// Whether the principal may join. A rule that fails to evaluate means no.
    fn may_join(&self, rule: RuleIndex, room: &RoomName, who: &Principal) -> bool;

    /// Whether the principal may publish. A rule that fails to evaluate means no.
    fn may_publish(&self, rule: RuleIndex, room: &RoomName, who: &Principal) -> PublishRight;

    /// Under which key the newest publication is enough for a slow member; `None`: it stands for itself.
    fn conflate_key(&self, rule: RuleIndex, publication: &Publication) -> Option<u64>;

    /// Under which key its room keeps only the newest publication; `None`: it stands for itself.
    fn collapse_key(&self, rule: RuleIndex, publication: &Publication) -> Option<Box<str>>;
}
