//! `actions` and `rooms` of an API key: what a back-end may do, and with which rooms.

use roomcast_protocol::conversation::{DIALOG, GROUP};
use roomcast_protocol::room::RoomName;

use super::raw::RawApiKey;
use super::read::Reader;
use crate::guard::Pattern;

/// Patterns of rooms that one key may have.
const ROOMS_MAX: usize = 100;

/// What the names of rooms begin with in which people talk.
const TALKS: [&str; 2] = [DIALOG, GROUP];

/// What a back-end can do with the server API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish, in batches and broadcasts too.
    Publish,
    /// Read what rooms keep.
    History,
    /// See who is in rooms on all nodes, and how far users are.
    Presence,
    /// See who is in rooms on one node.
    Members,
    /// List rooms.
    Rooms,
    /// List connections, and the sessions of users.
    Connections,
    /// End sessions.
    Disconnect,
    /// Take tokens back.
    Revoke,
    /// Put users into rooms, and take them out.
    Subscribe,
    /// Say who is in groups.
    Groups,
    /// List and replay what webhooks could not deliver.
    Webhooks,
}

impl Action {
    /// All of them, in the order of the documents.
    pub const ALL: [Self; 11] = [
        Self::Publish,
        Self::History,
        Self::Presence,
        Self::Members,
        Self::Rooms,
        Self::Connections,
        Self::Disconnect,
        Self::Revoke,
        Self::Subscribe,
        Self::Groups,
        Self::Webhooks,
    ];

    /// Its name in the configuration and in refusals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::History => "history",
            Self::Presence => "presence",
            Self::Members => "members",
            Self::Rooms => "rooms",
            Self::Connections => "connections",
            Self::Disconnect => "disconnect",
            Self::Revoke => "revoke",
            Self::Subscribe => "subscribe",
            Self::Groups => "groups",
            Self::Webhooks => "webhooks",
        }
    }
}

/// What a key is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `None`: all.
    actions: Option<Vec<Action>>,
    /// `None`: all rooms but those in which people talk, which have to be named. Bounds: [`ROOMS_MAX`].
    rooms: Option<Vec<Pattern>>,
}

impl Scope {
    /// All of it.
    pub const ALL: Self = Self { actions: None, rooms: None };

    /// Whether the key is good for this action, with one room or another.
    #[must_use]
    pub fn may(&self, action: Action) -> bool {
        self.actions.as_ref().is_none_or(|actions| actions.contains(&action))
    }

    /// Whether the key is good for this room, whatever the action.
    #[must_use]
    pub fn reaches(&self, room: &RoomName) -> bool {
        match &self.rooms {
            Some(rooms) => rooms.iter().any(|it| it.reaches(room)),
            None => !TALKS.iter().any(|begin| room.as_str().starts_with(begin)),
        }
    }
}

/// What a key's `actions` and `rooms` say.
pub(super) fn scope(key: &str, raw: &RawApiKey, r: &mut Reader<'_>) -> Scope {
    let actions = raw.actions.as_ref().map(|value| {
        let key = format!("{key}.actions");
        let texts = r.texts(&key, value);
        if texts.is_empty() {
            r.problem(&key, "is empty, so the key is good for nothing; leave it out to allow all");
        }
        texts.iter().filter_map(|text| action(&key, text, r)).collect()
    });
    let rooms = raw.rooms.as_ref().map(|value| {
        let key = format!("{key}.rooms");
        let texts = r.texts(&key, value);
        if texts.is_empty() {
            r.problem(&key, "is empty, so the key reaches no room; leave it out to allow all");
        }
        if texts.len() > ROOMS_MAX {
            r.problem(&key, format!("has {} patterns, allowed are {ROOMS_MAX}", texts.len()));
        }
        let pattern = |text: &String| Pattern::parse(text).map_err(|bad| r.problem(&key, bad)).ok();
        texts.iter().filter_map(pattern).collect()
    });
    Scope { actions, rooms }
}

fn action(key: &str, text: &str, r: &mut Reader<'_>) -> Option<Action> {
    let found = Action::ALL.into_iter().find(|action| action.name() == text);
    if found.is_none() {
        let names = Action::ALL.map(Action::name).join(", ");
        r.problem(key, format!("has {text:?}; write some of {names}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    #[test]
    fn a_key_that_says_nothing_may_do_all() {
        let all = Scope::ALL;
        assert!(Action::ALL.into_iter().all(|action| all.may(action)));
        assert!(all.reaches(&room("user-7")));
    }

    #[test]
    fn rooms_in_which_people_talk_have_to_be_named() {
        let named =
            Scope { rooms: Some(vec![Pattern::parse("dialog-{any}").unwrap()]), ..Scope::ALL };
        for name in ["dialog-ann:bob", "chat-7"] {
            assert!(!Scope::ALL.reaches(&room(name)), "{name}");
        }
        assert!(named.reaches(&room("dialog-ann:bob")) && !named.reaches(&room("chat-7")));
    }

    #[test]
    fn a_scope_reaches_what_its_patterns_match_from_end_to_end() {
        let patterns = ["news-{id:int}", "alerts"].map(|text| Pattern::parse(text).unwrap());
        let scope = Scope { actions: Some(vec![Action::Publish]), rooms: Some(patterns.to_vec()) };
        for (name, reached) in [
            ("alerts", true),
            ("news-7", true),
            ("news-7a", false),
            ("my-news-7", false),
            ("alerts2", false),
        ] {
            assert_eq!(scope.reaches(&room(name)), reached, "{name}");
        }
        assert!(scope.may(Action::Publish) && !scope.may(Action::History));
    }

    #[test]
    fn a_catch_all_does_not_open_rooms_that_belong_to_somebody() {
        let any = Scope { rooms: Some(vec![Pattern::parse("{any}").unwrap()]), ..Scope::ALL };
        assert!(any.reaches(&room("news")) && !any.reaches(&room("user-7")));
    }
}
