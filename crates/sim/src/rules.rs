//! The rooms of a run and who may do what in them: a guard that is a table, and tokens that are texts.

use roomcast_protocol::guard::{
    AuthError, Guard, Kind, Policy, Principal, PublishRight, RuleIndex,
};
use roomcast_protocol::position::Keep;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::texts::Texts;

use crate::inboxes::{self, KINDS};
use crate::people::presence_of;
use crate::receipts::has_receipts;
use crate::talkers;
use crate::wire::number_of;

/// One room of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomRule {
    pub(crate) name: &'static str,
    /// The permission that joining and publishing need.
    pub(crate) needs: Option<&'static str>,
    pub(crate) keep: Option<Keep>,
    pub(crate) strict: bool,
}

const fn ephemeral(name: &'static str, needs: Option<&'static str>) -> RoomRule {
    RoomRule { name, needs, keep: None, strict: false }
}

const fn kept(name: &'static str, size: u32, bytes_max: u64, ttl_ms: u64) -> RoomRule {
    let keep = Keep { size, bytes_max, ttl_ms, replicated: false, inbox: None };
    RoomRule { name, needs: None, keep: if HISTORY { Some(keep) } else { None }, strict: false }
}

/// Rooms keep what their rules say.
const HISTORY: bool = true;

/// The rooms: small sizes, so that retention bites.
pub(crate) const ROOMS: [RoomRule; 12] = [
    ephemeral("loose", None),
    ephemeral("busy", None),
    ephemeral("loose-secret", Some("s")),
    kept("plain", 40, 64 << 10, 600_000),
    kept("wide", 200, 256 << 10, 600_000),
    RoomRule { needs: Some("s"), ..kept("secret", 40, 64 << 10, 600_000) },
    kept("short", 5, 64 << 10, 600_000),
    kept("brief", 40, 64 << 10, 3_000),
    RoomRule {
        keep: if HISTORY {
            Some(Keep {
                size: 40,
                bytes_max: 4_096,
                ttl_ms: 600_000,
                replicated: true,
                inbox: None,
            })
        } else {
            None
        },
        ..kept("safe", 40, 4_096, 600_000)
    },
    RoomRule { strict: true, ..kept("strict", 40, 64 << 10, 600_000) },
    ephemeral(RARE[0], None),
    kept(RARE[1], 40, 64 << 10, 600_000),
];

/// Rooms of few clients, who come and go.
const RARE: [&str; 2] = ["rare", "rarer"];

/// Whether a client is one of those who use the room.
pub(crate) fn is_for(room: usize, client: usize) -> bool {
    let rare = RARE.iter().position(|name| *name == rule(room).name);
    rare.is_none_or(|at| client % 8 == 4 * at)
}

/// Permissions that tokens may hold: `s` opens the secret rooms, `r` is what publications may require.
pub(crate) const PERMISSIONS: [&str; 2] = ["s", "r"];

/// A user's own room, joined at connect; only back-ends publish there.
const OWN: RoomRule = ephemeral("own", None);

/// The same, by the numbers of users: some are inboxes.
static OWNS: [RoomRule; KINDS] = {
    let mut owns = [OWN; KINDS];
    let mut user = 0;
    while user < KINDS {
        owns[user].keep = inboxes::keep(user);
        user += 1;
    }
    owns
};

/// Rooms of a run: those of the rules, then the own room of each client's user.
pub(crate) const ROOMS_ALL: usize = ROOMS.len() + crate::world::CLIENTS;

/// What is kept of a room, and who may join it.
pub(crate) fn rule(room: usize) -> &'static RoomRule {
    let own = || &OWNS[(room - ROOMS.len()) % KINDS];
    ROOMS.get(room).unwrap_or_else(own)
}

/// A room's name.
pub(crate) fn name_of(room: usize) -> String {
    let own = || format!("user-u{}", room - ROOMS.len());
    ROOMS.get(room).map_or_else(own, |rule| rule.name.to_owned())
}

/// The room of this name; sessions' own rooms are none of them.
pub(crate) fn room_index(name: &str) -> Option<usize> {
    let own = |name: &str| {
        let number: usize = name.strip_prefix("user-u")?.parse().ok()?;
        Some(ROOMS.len() + number).filter(|room| *room < ROOMS_ALL)
    };
    ROOMS.iter().position(|rule| rule.name == name).or_else(|| own(name))
}

/// The own room of a client's user.
pub(crate) const fn own_room(client: usize) -> usize {
    ROOMS.len() + inboxes::user_of(client)
}

/// The guard of every lane and hub.
pub(crate) struct Rules {
    policies: Vec<Policy>,
}

impl Rules {
    pub(crate) fn new() -> Self {
        let policy = |rule: &RoomRule| Policy {
            history: rule.keep,
            strict: rule.strict,
            presence: presence_of(rule.name).0,
            presence_max: presence_of(rule.name).1,
            receipts: has_receipts(rule.name),
            ..Policy::default()
        };
        // The own rooms of users by their numbers, then those of sessions.
        // Those of people who talk, and their dialogs and groups, are the last two.
        let talks = [Policy::default(), talkers::inbox_policy(), talkers::dialog_policy()];
        let own = (0..KINDS).map(inboxes::policy).chain(talks);
        Self { policies: ROOMS.iter().map(policy).chain(own).collect() }
    }
}

/// Which agent a user's connections are, if any: some agents have two of them.
pub(crate) fn agent_of(user: &str) -> Option<String> {
    let number: u32 = user.strip_prefix('u')?.parse().ok()?;
    (number % 5 == 1).then(|| format!("a{}", number / 10))
}

/// A token of this user with these permissions.
pub(crate) fn token(user: &str, permissions: &[&str], issued_ms: u64) -> String {
    let mut text = format!("{user}={issued_ms}");
    for permission in permissions {
        text.push('+');
        text.push_str(permission);
    }
    text
}

/// When a token was issued.
pub(crate) fn issued_ms(token: &str) -> u64 {
    let first = token.split('+').next().and_then(|first| first.split_once('='));
    first.and_then(|(_, issued)| issued.parse().ok()).unwrap_or_default()
}

impl Guard for Rules {
    fn verify(&self, token: &str, _unix_ms: u64) -> Result<Principal, AuthError> {
        let mut parts = token.split('+');
        let first = parts.next().and_then(|first| first.split_once('='));
        let (id, issued) = first.ok_or(AuthError::Unauthorized("the token names nobody"))?;
        Ok(Principal {
            kind: if id.starts_with("backend") { Kind::Backend } else { Kind::User },
            realm: "".into(),
            id: id.into(),
            permissions: parts.collect(),
            roles: Texts::default(),
            teams: Texts::default(),
            agent_id: agent_of(id).map(Into::into),
            expires_unix_ms: 1 << 50,
            issued_unix_ms: issued.parse().unwrap_or_default(),
            token_id: Box::default(),
            claims: "{}".into(),
        })
    }

    fn rule(&self, room: &RoomName) -> Option<RuleIndex> {
        let name = room.as_str();
        let index = match room_index(name) {
            Some(index) if index >= ROOMS.len() => ROOMS.len() + (index - ROOMS.len()) % KINDS,
            Some(index) => index,
            None if name.starts_with("session-") => ROOMS.len() + KINDS,
            None if name.starts_with("user-t") => ROOMS.len() + KINDS + 1,
            None if name.starts_with("dialog-") || name.starts_with("chat-") => {
                ROOMS.len() + KINDS + 2
            }
            None => return None,
        };
        u16::try_from(index).ok().map(RuleIndex)
    }

    fn policy(&self, rule: RuleIndex) -> &Policy {
        &self.policies[usize::from(rule.0)]
    }

    fn may_join(&self, rule: RuleIndex, _room: &RoomName, who: &Principal) -> bool {
        let rule = ROOMS.get(usize::from(rule.0));
        rule.is_some_and(|rule| rule.needs.is_none_or(|needed| who.holds(needed)))
    }

    fn may_publish(&self, rule: RuleIndex, room: &RoomName, who: &Principal) -> PublishRight {
        let allowed = self.may_join(rule, room, who)
            || who.kind == Kind::Backend && room.as_str().starts_with("user-");
        if allowed { PublishRight::Yes } else { PublishRight::No }
    }

    fn conflate_key(&self, _rule: RuleIndex, _publication: &Publication) -> Option<u64> {
        None
    }

    fn collapse_key(&self, _rule: RuleIndex, publication: &Publication) -> Option<Box<str>> {
        let key = number_of(&publication.id).and_then(inboxes::key_of);
        key.map(|key| key.to_string().into())
    }
}
