//! Orders to all nodes about sessions: what they say, how they are written in the room `$control`, and what a node answers
//! that has carried one out. Types of later versions are no orders here.

use std::fmt::Write as _;

use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::Membership;
use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use crate::membership;

/// Sessions that an answer names as refused; beyond it they are only counted.
pub const REFUSED_NAMED_MAX: usize = 100;

/// Whose sessions an order concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// All of a user's, by its name within the cluster.
    User(Box<str>),
    /// One.
    Session(SessionId),
}

/// Which tokens are not accepted any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tokens {
    /// A user's that were issued before a time, and those that do not say when they were.
    Of {
        /// The user's name within the cluster.
        user: Box<str>,
        /// Units: milliseconds since the Unix epoch.
        before_unix_ms: u64,
    },
    /// The one of this `jti`.
    Named(Box<str>),
}

/// Tokens that are revoked, and until when that is to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which.
    pub tokens: Tokens,
    /// By then they have expired. Units: milliseconds since the Unix epoch.
    pub until_unix_ms: u64,
}

/// What all nodes are to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End sessions.
    End(Whom),
    /// Refuse tokens, and end the sessions that hold one.
    Revoke(Revocation),
    /// Take sessions out of a room.
    Leave(RoomName, Whom),
    /// Put sessions into a room, as far as they may join it.
    Enter(RoomName, Whom),
    /// This user is a member of a group now: put those of its sessions into the group's room that hear groups.
    Admit(Box<str>, Membership),
}

/// What became of an order on one lane, or one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Sessions for which it was carried out.
    pub sessions: u64,
    /// Sessions for which it was refused.
    pub refused: u64,
    /// Some of these. Bounds: [`REFUSED_NAMED_MAX`].
    pub named: Vec<SessionId>,
}

impl Outcome {
    /// So many sessions, and none refused.
    #[must_use]
    pub const fn of(sessions: u64) -> Self {
        Self { sessions, refused: 0, named: Vec::new() }
    }

    /// Takes in what became of it elsewhere.
    pub fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.refused += other.refused;
        let space = REFUSED_NAMED_MAX - self.named.len().min(REFUSED_NAMED_MAX);
        self.named.extend(other.named.into_iter().take(space));
    }
}

/// Types of orders.
const DISCONNECT: &str = "disconnect";
const END: &str = "end";
const REVOKE: &str = "revoke";
const LEAVE: &str = "leave";
const ENTER: &str = "enter";
const ADMIT: &str = "admit";

impl Order {
    /// The type and text that it is written with. Neither names of rooms nor of users have spaces.
    pub(crate) fn written(&self) -> (&'static str, String) {
        match self {
            Self::End(Whom::User(user)) => (DISCONNECT, user.to_string()),
            Self::End(Whom::Session(session)) => (END, session.to_string()),
            Self::Revoke(revocation) => (REVOKE, revocation.text()),
            Self::Leave(room, whom) => (LEAVE, format!("{room} {}", whom.text())),
            Self::Enter(room, whom) => (ENTER, format!("{room} {}", whom.text())),
            Self::Admit(user, it) => {
                (ADMIT, format!("{} {user} {}", it.room, membership::text(it)))
            }
        }
    }

    /// The order that a publication is, if it is one.
    pub(crate) fn of(publication: &Publication) -> Option<Self> {
        let Content::Text(text) = &publication.content else { return None };
        let text = std::str::from_utf8(text).ok()?;
        let in_room = || {
            let (room, whom) = text.split_once(' ')?;
            Some((RoomName::parse(room).ok()?, Whom::parse(whom)?))
        };
        match &*publication.kind {
            DISCONNECT => Some(Self::End(Whom::User(text.into()))),
            END => session_of(text).map(|session| Self::End(Whom::Session(session))),
            REVOKE => Revocation::parse(text).map(Self::Revoke),
            LEAVE => in_room().map(|(room, whom)| Self::Leave(room, whom)),
            ENTER => in_room().map(|(room, whom)| Self::Enter(room, whom)),
            ADMIT => {
                let (room, rest) = text.split_once(' ')?;
                let (user, rest) = rest.split_once(' ')?;
                let room = RoomName::parse(room).ok()?;
                Some(Self::Admit(user.into(), membership::parse(room, rest)?))
            }
            _ => None,
        }
    }

    /// Whose records end with it: sessions without a connection are on no lane.
    pub(crate) fn ends_records_of(&self) -> Option<&str> {
        match self {
            Self::End(Whom::User(user)) => Some(user),
            Self::End(Whom::Session(_))
            | Self::Revoke(_)
            | Self::Leave(..)
            | Self::Enter(..)
            | Self::Admit(..) => None,
        }
    }

    /// What tells all nodes what a user is in a group; `None`: none of its members.
    pub(crate) fn of_member(group: RoomName, user: Box<str>, now: Option<Membership>) -> Self {
        match now {
            Some(member) => Self::Admit(user, member),
            None => Self::Leave(group, Whom::User(user)),
        }
    }
}

impl Whom {
    fn text(&self) -> String {
        match self {
            Self::User(user) => format!("user {user}"),
            Self::Session(session) => format!("session {session}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            ("user", user) => Some(Self::User(user.into())),
            ("session", session) => session_of(session).map(Self::Session),
            _ => None,
        }
    }
}

impl Revocation {
    /// As it is written in an order, and in the room that keeps it.
    pub(crate) fn text(&self) -> String {
        let until = self.until_unix_ms;
        match &self.tokens {
            Tokens::Of { user, before_unix_ms } => format!("user {until} {before_unix_ms} {user}"),
            Tokens::Named(jti) => format!("jti {until} {jti}"),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (what, text) = text.split_once(' ')?;
        let (until, text) = text.split_once(' ')?;
        let until_unix_ms = until.parse().ok()?;
        let tokens = match what {
            "user" => {
                let (before, user) = text.split_once(' ')?;
                Tokens::Of { user: user.into(), before_unix_ms: before.parse().ok()? }
            }
            "jti" => Tokens::Named(text.into()),
            _ => return None,
        };
        Some(Self { tokens, until_unix_ms })
    }
}

/// Reads a session's public name.
#[must_use]
pub fn session_of(text: &str) -> Option<SessionId> {
    let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| hex).map(SessionId)
}

/// The id of an order's publication: who gave it, and which of its questions it is.
pub(crate) fn id_of(asker: NodeId, query: u64) -> Box<str> {
    format!("{asker}-{query}").into()
}

/// Who is to be told that an order was carried out, by the publication's id; an order of a former version names nobody.
pub(crate) fn asker_of(id: &str) -> Option<(NodeId, u64)> {
    let (node, query) = id.split_once('-')?;
    Some((node_of(node)?, query.parse().ok()?))
}

pub(crate) fn node_of(text: &str) -> Option<NodeId> {
    let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| hex).map(NodeId)
}

/// A node's word that its lanes carried an order out, as it is written in the asker's room: `7 {node} {sessions} {refused}
/// [session ..]`.
pub(crate) fn confirmation(query: u64, node: NodeId, outcome: &Outcome) -> String {
    let Outcome { sessions, refused, named } = outcome;
    let mut text = format!("{query} {node} {sessions} {refused}");
    for session in named {
        // Writing to a String never fails.
        let _infallible = write!(text, " {session}").is_ok();
    }
    text
}

/// Reads a [`confirmation`]; words of later versions behind it mean nothing here.
pub(crate) fn confirmed(text: &str) -> Option<(u64, NodeId, Outcome)> {
    let mut words = text.split(' ');
    let query = words.next()?.parse().ok()?;
    let node = node_of(words.next()?)?;
    let sessions = words.next()?.parse().ok()?;
    let refused = words.next()?.parse().ok()?;
    let named = words.filter_map(session_of).take(REFUSED_NAMED_MAX).collect();
    Some((query, node, Outcome { sessions, refused, named }))
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::conversation::Role;
    use roomcast_protocol::position::{Epoch, Position};

    use super::*;

    fn written(order: &Order) -> Publication {
        let (kind, text) = order.written();
        let room = RoomName::system("$control").unwrap();
        let content = Content::Text(text.into());
        Publication { kind: kind.into(), ..Publication::bare(room, content) }
    }

    fn membership(room: RoomName) -> Membership {
        let from = Position { epoch: Epoch(5), offset: 6 };
        Membership { room, role: Role::Owner, number: 4, from }
    }

    #[test]
    fn an_order_is_read_as_it_is_written() {
        let room = RoomName::parse("chat-7").unwrap();
        let user = || Whom::User("guests:bob".into());
        let session = || Whom::Session(SessionId(u128::MAX - 7));
        let tokens = Tokens::Of { user: "bob".into(), before_unix_ms: 5_000 };
        for order in [
            Order::End(user()),
            Order::End(session()),
            Order::Leave(room.clone(), user()),
            Order::Leave(room.clone(), session()),
            Order::Enter(room.clone(), user()),
            Order::Enter(room.clone(), session()),
            Order::Admit("guests:bob".into(), membership(room)),
            Order::Revoke(Revocation { tokens, until_unix_ms: 9_000 }),
            Order::Revoke(Revocation { tokens: Tokens::Named("a b".into()), until_unix_ms: 1 }),
        ] {
            assert_eq!(Order::of(&written(&order)), Some(order));
        }
    }

    #[test]
    fn what_is_no_order_is_none() {
        let order = Order::End(Whom::User("bob".into()));
        let mut later = written(&order);
        later.kind = "later".into();
        assert_eq!(Order::of(&later), None);
        for (kind, text) in [
            ("end", "bob"),
            ("end", "+1111111111111111111111111111111"),
            ("revoke", "user 1"),
            ("revoke", "user x 1 bob"),
            ("revoke", "device 1 x"),
            ("leave", "room"),
            ("leave", "$control user bob"),
            ("enter", "room team red"),
        ] {
            let content = Content::Text(text.as_bytes().to_vec().into());
            let publication = Publication { kind: kind.into(), content, ..written(&order) };
            assert_eq!(Order::of(&publication), None, "{kind} {text}");
        }
    }

    #[test]
    fn an_orders_id_names_who_is_to_be_told() {
        let node = NodeId(u64::MAX - 3);
        assert_eq!(asker_of(&id_of(node, 7)), Some((node, 7)));
        for other in ["7", "node-1", "0000000000000001-", "0000000000000001-x", "fence-0-1"] {
            assert_eq!(asker_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_confirmation_is_read_as_it_is_written_also_with_words_of_a_later_version() {
        let outcome = Outcome { sessions: 3, refused: 2, named: vec![SessionId(1), SessionId(9)] };
        let text = confirmation(7, NodeId(5), &outcome);
        let read = Some((7, NodeId(5), outcome));
        assert_eq!(confirmed(&text), read);
        assert_eq!(confirmed(&format!("{text} later")), read);
        assert_eq!(confirmed("7 5 3 2"), None, "no node");
        assert_eq!(confirmed("7 0000000000000005 3"), None);
    }

    #[test]
    fn refused_sessions_are_named_up_to_their_bound_and_counted_beyond_it() {
        let many = |count: u64| Outcome {
            sessions: 0,
            refused: count,
            named: (0..count).map(|it| SessionId(it.into())).collect(),
        };
        let mut outcome = many(REFUSED_NAMED_MAX as u64 - 1);
        outcome.add(many(1));
        assert_eq!((outcome.refused, outcome.named.len()), (100, REFUSED_NAMED_MAX));
        outcome.add(many(1));
        assert_eq!((outcome.refused, outcome.named.len()), (101, REFUSED_NAMED_MAX));
    }
}
