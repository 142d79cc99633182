//! A beat as it comes over the feed: a small JSON object that a Redis function made and signed. Pure.
//!
//! Bounded by the feed's longest payload; who signed it is known before anything else is read.

use roomcast_protocol::envelope::{Count, HEADS_MAX, MasterId, Moved};
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::relay::RelayKeys;
use roomcast_protocol::room::RoomName;

use super::channels::PARTITIONS;
use super::functions::master_of;

/// What a beat is written between: number and master, then what moved if anything did, then the hash.
const HEAD: &[u8] = b"{\"beat\":\"";
const MOVED: &[u8] = b",\"moved\":[";
const HASH: &[u8] = b",\"hash\":\"";
const TAIL: &[u8] = b"\"}";

/// Digits of a beat's number.
const DIGITS: usize = 16;

/// A beat of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) seq: u64,
    pub(crate) master: MasterId,
    pub(crate) moved: Vec<Moved>,
}

/// How a beat's number is given to the functions.
pub(crate) fn number(seq: u64) -> String {
    format!("{seq:016x}")
}

/// Reads a beat that came over the feed under `name`. `None`: no beat of this cluster.
pub(crate) fn heard(keys: &RelayKeys, name: &str, payload: &[u8]) -> Option<Pulse> {
    let rest = payload.strip_suffix(TAIL)?;
    let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    let body = rest.strip_suffix(HASH)?;
    if !keys.verify(name, &[body], hex(hash)?.to_be_bytes()) {
        return None;
    }
    let rest = body.strip_prefix(HEAD)?;
    let quote = rest.iter().position(|byte| *byte == b'"')?;
    let (digits, rest) = (rest.get(..quote)?, rest.get(quote + 1..)?);
    let (seq, master) = digits.split_at_checked(DIGITS)?;
    let moved = match rest.strip_prefix(MOVED) {
        Some(list) => Reader(list).all()?,
        None if rest.is_empty() => Vec::new(),
        None => return None,
    };
    Some(Pulse { seq: hex(seq)?, master: master_of(master), moved })
}

/// Lower-case hexadecimal digits and nothing else.
fn hex(digits: &[u8]) -> Option<u64> {
    let lower = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(digits).ok().filter(|_| lower)?;
    u64::from_str_radix(text, 16).ok()
}

/// Reads what moved, from behind the opening bracket on.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// All partitions, and nothing behind them.
    fn all(mut self) -> Option<Vec<Moved>> {
        let mut moved = Vec::new();
        loop {
            moved.push(self.partition()?);
            if !self.is(b',') {
                break;
            }
        }
        (self.is(b']') && self.0.is_empty()).then_some(moved)
    }

    /// `[partition,count]` or `[partition,count,rooms..]`.
    fn partition(&mut self) -> Option<Moved> {
        self.must(b'[')?;
        let partition = u16::try_from(self.number()?).ok()?;
        self.must(b',')?;
        let count = Count { partition, count: self.number()? };
        let mut rooms = Some(Vec::new());
        let mut any = true;
        while self.is(b',') {
            any = false;
            let found = self.room()?;
            match (rooms.as_mut(), found) {
                (Some(rooms), Some(found)) if rooms.len() < HEADS_MAX => rooms.push(found),
                // A name that no room can have: somebody else wrote here.
                _ => rooms = None,
            }
        }
        self.must(b']')?;
        let known = usize::from(partition) < PARTITIONS;
        known.then_some(Moved { count, rooms: rooms.filter(|_| !any) })
    }

    /// `["name","epoch",offset]`.
    fn room(&mut self) -> Option<Option<(RoomName, Position)>> {
        self.must(b'[')?;
        let name = self.text()?;
        self.must(b',')?;
        let epoch = Epoch::parse(std::str::from_utf8(&self.text()?).ok()?)?;
        self.must(b',')?;
        let offset = self.number().filter(|offset| *offset <= OFFSET_MAX)?;
        self.must(b']')?;
        let name = std::str::from_utf8(&name).ok().and_then(|name| RoomName::system(name).ok());
        Some(name.map(|name| (name, Position { epoch, offset })))
    }

    /// A string, in which only quote and backslash are escaped.
    fn text(&mut self) -> Option<Vec<u8>> {
        self.must(b'"')?;
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(text),
                b'\\' => text.push(self.next()?),
                byte => text.push(byte),
            }
        }
    }

    fn number(&mut self) -> Option<u64> {
        let end = self.0.iter().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn is(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn must(&mut self, byte: u8) -> Option<()> {
        self.is(byte).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> RelayKeys {
        RelayKeys { current: (*b"a key of sixteen").into(), previous: None }
    }

    fn beat(name: &str, seq: u64, moved: &str) -> Vec<u8> {
        let body = format!(r#"{{"beat":"{}0123456789abcdef"{moved}"#, number(seq));
        let hash = u64::from_be_bytes(keys().sign(name, &[body.as_bytes()]));
        format!(r#"{body},"hash":"{hash:016x}"}}"#).into_bytes()
    }

    #[track_caller]
    fn check(moved: &str, expected: Option<&[Moved]>) {
        let heard = heard(&keys(), "$beat:1", &beat("$beat:1", 7, moved));
        assert_eq!(heard.as_ref().map(|it| &*it.moved), expected, "{moved}");
    }

    fn unnamed(partition: u16, count: u64) -> Moved {
        Moved { count: Count { partition, count }, rooms: None }
    }

    const EPOCH: &str = "0123456789abcdef0011223344556677";

    fn one(name: &str, offset: u64) -> (RoomName, Position) {
        let epoch = Epoch::parse(EPOCH).unwrap();
        (RoomName::system(name).unwrap(), Position { epoch, offset })
    }

    #[test]
    fn a_beat_is_known_by_its_hash() {
        for moved in ["", r#","moved":[[1,2]]"#] {
            let bytes = beat("$beat:1", 7, moved);
            let pulse = heard(&keys(), "$beat:1", &bytes).unwrap();
            assert_eq!((pulse.seq, pulse.master), (7, MasterId(0x0123_4567_89ab_cdef)));
            assert_eq!(heard(&keys(), "$beat:2", &bytes), None, "another node's");
            for at in 0..bytes.len() {
                let mut forged = bytes.clone();
                forged[at] ^= 1;
                assert_eq!(heard(&keys(), "$beat:1", &forged), None, "byte {at}");
                assert_eq!(heard(&keys(), "$beat:1", &bytes[..at]), None, "cut at {at}");
            }
        }
    }

    #[test]
    fn what_moved_is_read_with_its_rooms_or_as_any() {
        check("", Some(&[]));
        check(r#","moved":[[12,345],[255,1]]"#, Some(&[unnamed(12, 345), unnamed(255, 1)]));
        let rooms = Some(vec![one("a\"\\b", 3), one("$control", 0)]);
        let moved = Moved { rooms, ..unnamed(0, 9) };
        let text = format!(r#","moved":[[0,9,["a\"\\b","{EPOCH}",3],["$control","{EPOCH}",0]]]"#);
        check(&text, Some(&[moved]));
    }

    #[test]
    fn a_name_that_no_room_has_makes_it_any() {
        check(&format!(r#","moved":[[3,9,["","{EPOCH}",3]]]"#), Some(&[unnamed(3, 9)]));
    }

    #[test]
    fn as_many_rooms_as_a_question_may_name_are_read_and_one_more_makes_it_any() {
        let text = |count: usize| {
            let room = |at| format!(r#",["r{at}","{EPOCH}",1]"#);
            format!(r#","moved":[[3,9{}]]"#, (0..count).map(room).collect::<String>())
        };
        let rooms = (0..HEADS_MAX).map(|at| one(&format!("r{at}"), 1)).collect();
        check(&text(HEADS_MAX), Some(&[Moved { rooms: Some(rooms), ..unnamed(3, 9) }]));
        check(&text(HEADS_MAX + 1), Some(&[unnamed(3, 9)]));
    }

    #[test]
    fn what_is_not_written_so_is_no_beat() {
        for moved in [
            r#","moved":[]"#,
            r#","moved":[[256,1]]"#,
            r#","moved":[[1,-1]]"#,
            r#","moved":[[1,1],]"#,
            r#","moved":[[1,1]]]"#,
            r#","moved":[[1,1,["a","0",1]]]"#,
            r#","other":1"#,
        ] {
            check(moved, None);
        }
    }

    proptest! {
        #[test]
        fn no_list_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(Reader(&bytes).all());
        }
    }
}
