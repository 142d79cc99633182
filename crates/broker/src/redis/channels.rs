//! Names in Redis: partitions and their tags, keys, channels. Pure.
//!
//! All keys of a room, and its channel in the modes exact and sharded, begin `rc:{t}:` with the tag of the room's
//! partition, so that they share a slot of a Cluster. The kind stands before the name: a name is never a tag, nor
//! another room's key.

use redis_protocol::redis_keyslot;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::relay::RelayMode;
use roomcast_protocol::room::RoomName;

/// Into how many parts rooms are hashed.
pub(crate) const PARTITIONS: usize = 256;

/// Slots of a Redis Cluster. Source: the Redis Cluster specification.
pub(crate) const SLOTS: usize = 16_384;

/// Slots of one partition.
const WIDTH: usize = SLOTS / PARTITIONS;

/// What every channel of rooms in pattern mode, and of outsiders, begins with.
pub(crate) const PLAIN: &str = "room:";

/// What the names of all nodes' beats begin with.
pub(crate) const BEATS: &str = "$beat:";

/// The pattern that brings them all.
pub(crate) const PATTERN: &str = "room:*";

/// Kinds of keys. Of a room: its meta, its stream, and the ids of what is in it, in two generations.
pub(crate) const META: &str = "meta";
pub(crate) const STREAM: &str = "stream";
pub(crate) const KEPT_IDS: &str = "kept-ids";
pub(crate) const KEPT_IDS_OLD: &str = "kept-ids-old";
/// Of a room that keeps nothing: ids alone.
pub(crate) const IDS: &str = "ids";
pub(crate) const IDS_OLD: &str = "ids-old";
/// Of a partition: how often its rooms have moved, and which did.
pub(crate) const COUNTER: &str = "moves";
pub(crate) const MOVED: &str = "moved";
/// Of a room: who is in it.
pub(crate) const PRESENCE: &str = "presence";
/// When users leave first in each partition; of a partition: which incarnations were reaped there.
pub(crate) const DUE: &str = "due";
pub(crate) const REAPED: &str = "reaped";
/// Of the agents' room: what has yet to be told of it, and that a node was given some of that.
pub(crate) const UNTOLD: &str = "untold";
pub(crate) const TELLING: &str = "telling";
/// Of a partition: rooms that became occupied or vacated, and who reads that; which partitions have some to read.
pub(crate) const OCCUPANCY: &str = "$occupancy";
pub(crate) const READER: &str = "reader";
pub(crate) const UNREAD: &str = "unread";
/// Of a user, in the partition of the user's own room: which sessions are kept, and each of them.
pub(crate) const SESSIONS: &str = "sessions";
pub(crate) const SESSION: &str = "session";
/// Of a directory: its values, and the names in their order.
pub(crate) const ENTRIES: &str = "entries";
pub(crate) const ENTRY_NAMES: &str = "entry-names";
/// Of the cluster: the nodes' leases, and into how many partitions the data is laid out.
pub(crate) const NODES: &str = "nodes";
pub(crate) const LAYOUT: &str = "partitions";

/// The partitions' tags.
#[derive(Clone, Debug)]
pub(crate) struct Tags(Vec<Box<str>>);

impl Tags {
    /// The table: for each partition the smallest number whose text hashes into the partition's share of the slots, so
    /// that partitions spread evenly over a Cluster's masters. The same on every node, for ever.
    pub(crate) fn new() -> Self {
        let mut tags: Vec<Option<Box<str>>> = vec![None; PARTITIONS];
        let mut missing = PARTITIONS;
        for number in 0_u32.. {
            let text = number.to_string();
            let slot = usize::from(redis_keyslot(text.as_bytes()));
            if let Some(tag @ None) = tags.get_mut(slot / WIDTH) {
                *tag = Some(text.into());
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        Self(tags.into_iter().flatten().collect())
    }

    /// A room's tag.
    pub(crate) fn of(&self, room: &str) -> &str {
        self.0.get(self.partition(room)).map_or("", |tag| tag)
    }

    /// A room's partition. The name's own braces mean nothing here.
    #[allow(clippy::unused_self, reason = "a partition means nothing without the table of tags")]
    pub(crate) fn partition(&self, room: &str) -> usize {
        usize::from(crc16::State::<crc16::XMODEM>::calculate(room.as_bytes())) % PARTITIONS
    }

    /// The tags of all partitions, in their order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|tag| &**tag)
    }

    /// The tag of the partition that holds what belongs to no room: leases and the relay's key.
    pub(crate) fn common(&self) -> &str {
        self.0.first().map_or("", |tag| tag)
    }

    /// The first tag whose slot is wanted.
    pub(crate) fn with_slot(&self, wanted: impl Fn(u16) -> bool) -> Option<&str> {
        self.0.iter().map(|tag| &**tag).find(|tag| wanted(redis_keyslot(tag.as_bytes())))
    }
}

/// What all keys of a partition begin with.
pub(crate) fn prefix(tag: &str) -> String {
    format!("rc:{{{tag}}}:")
}

/// A key of a room, or without a room: `rc:{t}:<kind>:<name>`.
pub(crate) fn key(tag: &str, kind: &str, name: &str) -> String {
    format!("rc:{{{tag}}}:{kind}:{name}")
}

/// The slot of a key or channel.
pub(crate) fn slot(text: &str) -> u16 {
    redis_keyslot(text.as_bytes())
}

/// A room's channel in a mode.
pub(crate) fn channel(tags: &Tags, mode: RelayMode, room: &str) -> String {
    match mode {
        RelayMode::Pattern => format!("{PLAIN}{room}"),
        RelayMode::Exact | RelayMode::Sharded => format!("rc:{{{}}}:{room}", tags.of(room)),
    }
}

/// The name under which a node's beats are published, in place of a room's.
pub(crate) fn beat_name(node: NodeId) -> String {
    format!("{BEATS}{node}")
}

/// What a channel carries: the text behind `room:` or `rc:{t}:`.
pub(crate) fn name_of(channel: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(channel).ok()?;
    text.strip_prefix(PLAIN).or_else(|| {
        let (_, name) = text.strip_prefix("rc:{")?.split_once("}:")?;
        Some(name)
    })
}

/// Where a room is heard: its own channel unless the pattern brings it, and the outsiders' unless the pattern does.
pub(crate) fn subscriptions(
    tags: &Tags,
    mode: RelayMode,
    pattern: bool,
    outsiders: bool,
    room: &RoomName,
) -> Vec<(Kind, String)> {
    let own = match mode {
        RelayMode::Pattern => None,
        RelayMode::Exact => Some(Kind::Plain),
        RelayMode::Sharded => Some(Kind::Sharded),
    };
    let own = own.map(|kind| (kind, channel(tags, mode, room.as_str())));
    let others = outsiders && !pattern;
    let others = others.then(|| (Kind::Plain, format!("{PLAIN}{room}")));
    own.into_iter().chain(others).collect()
}

/// A kind of subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `PSUBSCRIBE`.
    Pattern,
    /// `SUBSCRIBE`.
    Plain,
    /// `SSUBSCRIBE`.
    Sharded,
}

impl Kind {
    /// The command that begins it.
    pub(crate) const fn subscribe(self) -> &'static str {
        match self {
            Self::Pattern => "PSUBSCRIBE",
            Self::Plain => "SUBSCRIBE",
            Self::Sharded => "SSUBSCRIBE",
        }
    }

    /// The command that ends it.
    pub(crate) const fn unsubscribe(self) -> &'static str {
        match self {
            Self::Pattern => "PUNSUBSCRIBE",
            Self::Plain => "UNSUBSCRIBE",
            Self::Sharded => "SUNSUBSCRIBE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    #[test]
    fn tags_spread_partitions_evenly_and_never_change() {
        let tags = Tags::new();
        assert_eq!(tags.0.len(), PARTITIONS);
        for (partition, tag) in tags.0.iter().enumerate() {
            assert_eq!(usize::from(redis_keyslot(tag.as_bytes())) / WIDTH, partition);
        }
        let golden: Vec<_> = [0, 1, 2, 127, 255].into_iter().map(|at| &*tags.0[at]).collect();
        assert_eq!(golden, GOLDEN);
    }

    /// By another program, from the specification's CRC-16: keys that are stored carry these for ever.
    const GOLDEN: [&str; 5] = ["460", "14", "278", "46", "430"];

    #[test]
    fn a_rooms_keys_and_channels_share_its_partitions_slot() {
        let tags = Tags::new();
        for name in ["news", "a{b}c", "{news}", "部屋"] {
            let own = channel(&tags, RelayMode::Sharded, name);
            assert_eq!(slot(&own), slot(&key(tags.of(name), "ids", name)));
            assert_eq!(
                usize::from(slot(&own)),
                usize::from(redis_keyslot(tags.of(name).as_bytes()))
            );
            assert_eq!(name_of(own.as_bytes()), Some(name));
            let plain = channel(&tags, RelayMode::Pattern, name);
            assert_eq!(name_of(plain.as_bytes()), Some(name));
        }
        assert_eq!(name_of(b"other:news"), None);
        assert_eq!(name_of(b"room:\xff"), None);
    }

    #[test]
    fn a_room_is_heard_once_and_with_its_outsiders() {
        let tags = Tags::new();
        let own = channel(&tags, RelayMode::Exact, "news");
        let heard = |mode, pattern, outsiders| {
            subscriptions(&tags, mode, pattern, outsiders, &room("news"))
        };
        assert_eq!(heard(RelayMode::Pattern, true, true), []);
        assert_eq!(heard(RelayMode::Exact, true, true), [(Kind::Plain, own.clone())]);
        let both = [(Kind::Plain, own.clone()), (Kind::Plain, "room:news".to_owned())];
        assert_eq!(heard(RelayMode::Exact, false, true), both);
        assert_eq!(heard(RelayMode::Sharded, false, false), [(Kind::Sharded, own)]);
    }
}
