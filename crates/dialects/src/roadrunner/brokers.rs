//! Names of brokers and topics, and the rooms that they mean. A node has one broker: what clients and back-ends call a
//! broker is an alias of it, with a prefix for its rooms. Owns that a room has one topic's name, whoever asks; never
//! knows who may hear it.

use std::borrow::Cow;

/// A name under which clients and back-ends know the node's broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name.
    pub name: Box<str>,
    /// What its rooms' names begin with.
    pub prefix: Box<str>,
}

/// All aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brokers {
    /// What is meant where no broker is named: the prefix of its rooms.
    default_prefix: Box<str>,
    aliases: Vec<Alias>,
}

/// What names no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// No alias has that name.
    Broker,
    /// With the broker's prefix, or with none, it would be a room of another broker.
    Topic,
}

impl Nowhere {
    /// What a person is told.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Broker => "There is no broker of that name",
            Self::Topic => "A topic of that name belongs to another broker",
        }
    }
}

impl Default for Brokers {
    /// The two drivers of the origin, without prefixes.
    fn default() -> Self {
        let alias = |name: &str| Alias { name: name.into(), prefix: "".into() };
        Self { default_prefix: "".into(), aliases: vec![alias("memory"), alias("redis")] }
    }
}

impl Brokers {
    /// These aliases; where no broker is named the default prefix counts. Of two aliases of one name the first counts.
    #[must_use]
    pub const fn new(default_prefix: Box<str>, aliases: Vec<Alias>) -> Self {
        Self { default_prefix, aliases }
    }

    /// The room of a topic, as clients name it: an empty name is the default broker, an unknown one is none.
    ///
    /// # Errors
    /// [`Nowhere`] says which of the two names means nothing.
    pub fn room<'t>(&self, broker: &str, topic: &'t str) -> Result<Cow<'t, str>, Nowhere> {
        let prefix = match broker {
            "" => &self.default_prefix,
            named => self.prefix_of(named).ok_or(Nowhere::Broker)?,
        };
        self.under(prefix, topic)
    }

    /// The room of a topic, as back-ends name it: an unknown broker is the default one, too.
    ///
    /// # Errors
    /// [`Nowhere::Topic`].
    pub fn room_of_call<'t>(&self, broker: &str, topic: &'t str) -> Result<Cow<'t, str>, Nowhere> {
        self.under(self.prefix_of(broker).unwrap_or(&self.default_prefix), topic)
    }

    /// The topic's name that clients hear for a room: without the longest prefix that it begins with.
    #[must_use]
    pub fn topic<'r>(&self, room: &'r str) -> &'r str {
        room.get(self.prefix_bytes(room)..).unwrap_or(room)
    }

    fn prefix_of(&self, broker: &str) -> Option<&str> {
        let found = self.aliases.iter().find(|alias| &*alias.name == broker);
        found.map(|alias| &*alias.prefix)
    }

    /// The room, unless clients would hear another topic's name for it.
    fn under<'t>(&self, prefix: &str, topic: &'t str) -> Result<Cow<'t, str>, Nowhere> {
        let room = match prefix {
            "" => Cow::Borrowed(topic),
            prefix => Cow::Owned([prefix, topic].concat()),
        };
        if self.prefix_bytes(&room) == prefix.len() { Ok(room) } else { Err(Nowhere::Topic) }
    }

    /// The length of the longest prefix that the room begins with. Units: bytes.
    fn prefix_bytes(&self, room: &str) -> usize {
        let prefixes = self.aliases.iter().map(|alias| &alias.prefix).chain([&self.default_prefix]);
        prefixes
            .filter(|prefix| room.starts_with(&***prefix))
            .map(|prefix| prefix.len())
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(default_prefix: &str, aliases: &[(&str, &str)]) -> Brokers {
        let alias = |(name, prefix): &(&str, &str)| Alias {
            name: (*name).into(),
            prefix: (*prefix).into(),
        };
        Brokers::new(default_prefix.into(), aliases.iter().map(alias).collect())
    }

    #[track_caller]
    fn check(brokers: &Brokers, broker: &str, topic: &str, room: Result<&str, Nowhere>) {
        let found = brokers.room(broker, topic);
        assert_eq!(found.as_deref().map_err(|nowhere| *nowhere), room, "{broker} {topic}");
        if let Ok(room) = room {
            assert_eq!(brokers.topic(room), topic, "the client hears the name that it said");
        }
    }

    #[test]
    fn a_topic_is_a_room_where_no_prefix_is_configured() {
        for broker in ["", "memory", "redis"] {
            check(&Brokers::default(), broker, "foo", Ok("foo"));
        }
        check(&Brokers::default(), "nats", "foo", Err(Nowhere::Broker));
        assert_eq!(Brokers::default().room_of_call("nats", "foo").as_deref(), Ok("foo"));
    }

    #[test]
    fn every_broker_has_its_prefix_and_clients_never_hear_it() {
        let brokers = brokers("", &[("memory", ""), ("shop", "shop-"), ("deep", "shop-deep-")]);
        check(&brokers, "", "foo", Ok("foo"));
        check(&brokers, "memory", "foo", Ok("foo"));
        check(&brokers, "shop", "foo", Ok("shop-foo"));
        check(&brokers, "deep", "foo", Ok("shop-deep-foo"));
        assert_eq!(brokers.room_of_call("shop", "foo").as_deref(), Ok("shop-foo"));
        assert_eq!(brokers.room_of_call("", "foo").as_deref(), Ok("foo"));
    }

    #[test]
    fn one_room_is_never_two_topics() {
        let brokers = brokers("", &[("shop", "shop-"), ("deep", "shop-deep-")]);
        check(&brokers, "", "shop-foo", Err(Nowhere::Topic));
        check(&brokers, "shop", "deep-foo", Err(Nowhere::Topic));
        check(&brokers, "shop", "shop-foo", Ok("shop-shop-foo"));
        assert_eq!(brokers.room_of_call("", "shop-foo"), Err(Nowhere::Topic));
    }

    #[test]
    fn the_default_broker_can_have_a_prefix_too() {
        let brokers = brokers("rr-", &[("plain", "")]);
        check(&brokers, "", "foo", Ok("rr-foo"));
        check(&brokers, "plain", "foo", Ok("foo"));
        check(&brokers, "plain", "rr-foo", Err(Nowhere::Topic));
        assert_eq!(brokers.topic("foo"), "foo");
    }
}
