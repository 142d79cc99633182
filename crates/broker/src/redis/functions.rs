//! The function library in Redis, and what its functions answer. Pure.

use bytes::Bytes;
use fred::types::Value;
use roomcast_protocol::envelope::{MasterId, Peer};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::{Epoch, Head, OFFSET_MAX, Position};
use roomcast_protocol::presence::Lease;

/// The library's source: one text, in the order in which its parts use each other.
pub(crate) const LIBRARY: &str = concat!(
    include_str!("functions/base.lua"),
    include_str!("functions/ids.lua"),
    include_str!("functions/cursors.lua"),
    include_str!("functions/marks.lua"),
    include_str!("functions/agents.lua"),
    include_str!("functions/stream.lua"),
    include_str!("functions/history.lua"),
    include_str!("functions/inbox.lua"),
    include_str!("functions/sessions.lua"),
    include_str!("functions/occupancy.lua"),
    include_str!("functions/presence.lua"),
    include_str!("functions/receipts.lua"),
    include_str!("functions/directory.lua"),
    include_str!("functions/beat.lua"),
);

/// Publishes and remembers the id.
pub(crate) const PUBLISH: &str = "rc1_publish";

/// Appends to what a room keeps, publishes and remembers the id.
pub(crate) const APPEND: &str = "rc1_append";

/// The same for orders and revocations, also where the memory is full.
pub(crate) const APPEND_ORDER: &str = "rc1_order";

/// Answers with the newest positions of rooms.
pub(crate) const HEADS: &str = "rc1_heads";

/// Answers with kept publications of a room.
pub(crate) const HISTORY: &str = "rc1_history";

/// Writes what is kept of a session.
pub(crate) const SAVE: &str = "rc1_save";

/// Takes a session over.
pub(crate) const ATTACH: &str = "rc1_attach";

/// Ends all sessions of a user.
pub(crate) const END_SESSIONS: &str = "rc1_end_sessions";

/// Changes who is in a room.
pub(crate) const SET_PRESENCE: &str = "rc1_presence";

/// Answers with who is in a room.
pub(crate) const ROSTER: &str = "rc1_roster";

/// Answers with which of some users are in a room, and since which version.
pub(crate) const PRESENT: &str = "rc1_present";

/// Lets users leave whose grace is over, and what incarnations entered whose lease is.
pub(crate) const LEAVE: &str = "rc1_leave";

/// Gives what has yet to be told of the agents' room.
pub(crate) const UNTOLD: &str = "rc1_untold";

/// Gives events of rooms that became occupied or vacated.
pub(crate) const OCCUPANCIES: &str = "rc1_occupancies";

/// Answers with the incarnations that have entered anything.
pub(crate) const LIVES: &str = "rc1_lives";

/// Gives incarnations a lease that have none.
pub(crate) const ADOPT: &str = "rc1_adopt";

/// Strikes incarnations off the table of leases.
pub(crate) const BURY: &str = "rc1_bury";

/// Answers with what a device has yet to get.
pub(crate) const INBOX: &str = "rc1_inbox";

/// Moves a cursor.
pub(crate) const ACK: &str = "rc1_ack";

/// Marks what users have got and read of a room.
pub(crate) const MARK: &str = "rc1_mark";

/// Answers with what users have got and read of a room.
pub(crate) const MARKS: &str = "rc1_marks";

/// Sets an entry of a directory.
pub(crate) const ENTRY: &str = "rc1_entry";

/// Removes an entry of a directory, also where the memory is full.
pub(crate) const REMOVE: &str = "rc1_remove";

/// Answers with entries of a directory.
pub(crate) const ENTRIES: &str = "rc1_entries";

/// Renews the lease and beats.
pub(crate) const BEAT: &str = "rc1_beat";

/// Beats over one more link.
pub(crate) const LINK: &str = "rc1_link";

/// Beats for one partition of a Cluster.
pub(crate) const PART: &str = "rc1_part";

/// Answers with the number of partitions, and with the relay's key where none is configured; keeps what is offered
/// where there is none.
pub(crate) const BEGIN: &str = "rc1_begin";

/// How long a node's lease lasts without a beat. Units: milliseconds.
pub(crate) const LEASE_MS: u64 = 8_000;

/// What became of a publication that went through a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Published; the memory may have been too short for all ids.
    New {
        /// Where it stands; `None`: its room keeps nothing.
        position: Option<Position>,
        /// It was too short.
        short: bool,
    },
    /// The same content had been published under this id.
    Same {
        /// Where it stands.
        position: Option<Position>,
    },
    /// Other content had been.
    Other,
}

/// Reads the answer of [`PUBLISH`].
pub(crate) fn remembered(answer: Value) -> Option<Outcome> {
    let mut parts = answer.into_array().into_iter();
    match (parts.next()?.as_str()?.as_ref(), parts.next()?.as_u64()?) {
        ("new", short) => Some(Outcome::New { position: None, short: short == 1 }),
        ("same", _) => Some(Outcome::Same { position: None }),
        ("other", _) => Some(Outcome::Other),
        _ => None,
    }
}

/// Reads the answer of [`APPEND`].
pub(crate) fn appended(answer: Value) -> Option<Outcome> {
    let mut parts = answer.into_array().into_iter();
    let what = parts.next()?.as_u64()?;
    if what == 2 {
        return Some(Outcome::Other);
    }
    let position = Some(position(parts.next()?, &parts.next()?)?);
    match (what, parts.next()?.as_u64()?) {
        (0, short) => Some(Outcome::New { position, short: short == 1 }),
        (1, _) => Some(Outcome::Same { position }),
        _ => None,
    }
}

/// Reads the answer of [`HEADS`]: the positions of `count` rooms.
pub(crate) fn heads(answer: Value, count: usize) -> Option<Vec<Position>> {
    let mut parts = answer.into_array().into_iter();
    let mut heads = Vec::with_capacity(count);
    for _ in 0..count {
        heads.push(position(parts.next()?, &parts.next()?)?);
    }
    Some(heads)
}

/// The answer of [`HISTORY`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) head: Head,
    pub(crate) whole: bool,
    /// Entries by rising offset: where each stands, and its envelope; empty where it was removed.
    pub(crate) entries: Vec<(Position, Bytes)>,
}

/// Reads the answer of [`HISTORY`].
pub(crate) fn stored(answer: Value) -> Option<Stored> {
    let mut parts = answer.into_array().into_iter();
    let head =
        Head { position: position(parts.next()?, &parts.next()?)?, first: parts.next()?.as_u64()? };
    let whole = parts.next()?.as_u64()? == 1;
    let mut entries = Vec::with_capacity(parts.len() / 3);
    while let Some(offset) = parts.next() {
        let place = position(parts.next()?, &offset)?;
        entries.push((place, parts.next()?.into_bytes()?));
    }
    Some(Stored { head, whole, entries })
}

/// Reads a position.
pub(crate) fn position(epoch: Value, offset: &Value) -> Option<Position> {
    let bytes = epoch.into_bytes()?;
    let epoch = Epoch(u128::from_be_bytes(bytes.as_ref().try_into().ok()?));
    let offset = offset.as_u64().filter(|offset| *offset <= OFFSET_MAX)?;
    Some(Position { epoch, offset })
}

/// Reads the answer of [`BEGIN`]: the number of partitions and the relay's key.
pub(crate) fn begun(answer: Value) -> Option<(u64, Bytes)> {
    let mut parts = answer.into_array().into_iter();
    Some((parts.next()?.as_u64()?, parts.next()?.into_bytes()?))
}

/// The answer of [`BEAT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beaten {
    /// The server's time. Units: microseconds since the Unix epoch.
    pub(crate) time_us: u64,
    pub(crate) master: MasterId,
    /// The relay's key as Redis keeps it; empty where one is configured.
    pub(crate) relay_key: Bytes,
    /// Into how many partitions the data is laid out.
    pub(crate) partitions: u64,
    pub(crate) lease: Lease,
    /// Incarnations whose lease is over.
    pub(crate) over: Vec<String>,
    /// Prefixes of partitions where users are to leave; in a Cluster each of them says so itself.
    pub(crate) due: Vec<String>,
    /// Something of agents waits to be told; in a Cluster their partition says so itself.
    pub(crate) waits: bool,
    /// Prefixes of partitions where events of occupied rooms wait; in a Cluster each of them says so itself.
    pub(crate) unread: Vec<String>,
    pub(crate) peers: Vec<Peer>,
}

/// Reads the answer of [`BEAT`]; nodes whose digest is not `digest` relay in other modes.
pub(crate) fn beaten(answer: Value, digest: &str) -> Option<Beaten> {
    let parts = answer.into_array();
    let (head, peers) = parts.split_at_checked(10)?;
    let [seconds, micros, master, relay_key, partitions, held, over, due, waits, unread] = head
    else {
        return None;
    };
    let time_us = seconds.as_u64()?.checked_mul(1_000_000)?.checked_add(micros.as_u64()?)?;
    let master = master_of(master.as_str()?.as_bytes());
    let lease = match held.as_u64()? {
        0 => Lease::Lost,
        1 => Lease::Held,
        2 => Lease::New,
        _ => return None,
    };
    let (over, due, unread) = (texts(over)?, texts(due)?, texts(unread)?);
    let peer = |parts: &[Value]| {
        let [node, hears, theirs] = parts else { return None };
        Some(Peer {
            node: NodeId(u64::from_str_radix(node.as_str()?.as_ref(), 16).ok()?),
            hears: hears.as_str()?.as_ref() == "1",
            agrees: theirs.as_str()?.as_ref() == digest,
        })
    };
    let peers = peers.chunks_exact(3).filter_map(peer).collect();
    let relay_key = relay_key.clone().into_bytes()?;
    let partitions = partitions.as_u64()?;
    let waits = waits.as_u64()? == 1;
    Some(Beaten { time_us, master, relay_key, partitions, lease, over, due, waits, unread, peers })
}

/// Reads a list of texts.
fn texts(list: &Value) -> Option<Vec<String>> {
    let list = list.clone().into_array();
    list.iter().map(|it| Some(it.as_str()?.to_string())).collect()
}

/// Reads the answer of [`PART`]: the master, whether users are to leave there, whether something of agents waits to be
/// told, and whether events of occupied rooms do.
pub(crate) fn part(answer: Value) -> Option<(MasterId, [bool; 3])> {
    let mut parts = answer.into_array().into_iter();
    let is_due = parts.next()?.as_u64()? == 1;
    let master = master_of(parts.next()?.as_str()?.as_bytes());
    let (waits, unread) = (parts.next()?.as_u64()? == 1, parts.next()?.as_u64()? == 1);
    Some((master, [is_due, waits, unread]))
}

/// The id of a master by (the beginning of) its replication id.
pub(crate) fn master_of(replid: &[u8]) -> MasterId {
    let digits = replid.get(..16).unwrap_or(replid);
    let text = std::str::from_utf8(digits).unwrap_or_default();
    MasterId(u64::from_str_radix(text, 16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_none_are_not_believed() {
        for answer in [Value::Null, Value::Array(vec![Value::Integer(0)])] {
            assert_eq!(remembered(answer.clone()), None);
            assert_eq!(appended(answer.clone()), None);
            assert_eq!(heads(answer.clone(), 1), None);
            assert_eq!(stored(answer.clone()), None);
            assert_eq!(begun(answer), None);
        }
        assert_eq!(beaten(Value::Array(vec![]), "00"), None);
        assert_eq!((part(Value::Integer(1)), part(Value::Array(vec![]))), (None, None));
    }

    #[test]
    fn peers_of_other_modes_disagree() {
        let text = |it: &str| Value::String(it.into());
        let answer = [
            Value::Integer(2),
            Value::Integer(5),
            text("0123456789abcdef01"),
            text("a relay key of 16"),
            text("256"),
            Value::Integer(0),
            Value::Array(vec![text("000000000000000c.3")]),
            Value::Array(vec![text("rc:{1}:")]),
            Value::Integer(1),
            Value::Array(vec![text("rc:{2}:")]),
            text("000000000000000a"),
            text("1"),
            text("aa"),
            text("000000000000000b"),
            text("0"),
            text("bb"),
        ];
        let beaten = beaten(Value::Array(answer.to_vec()), "aa").unwrap();
        assert_eq!(beaten.time_us, 2_000_005);
        assert_eq!((&*beaten.relay_key, beaten.partitions), (&b"a relay key of 16"[..], 256));
        let peers = [
            Peer { node: NodeId(10), hears: true, agrees: true },
            Peer { node: NodeId(11), hears: false, agrees: false },
        ];
        assert_eq!(beaten.peers, peers);
        assert_eq!(beaten.unread, ["rc:{2}:"]);
        assert_eq!(
            (beaten.lease, beaten.over, beaten.due, beaten.waits),
            (Lease::Lost, vec!["000000000000000c.3".to_owned()], vec!["rc:{1}:".to_owned()], true)
        );
    }
}
