//! Rooms that became occupied or vacated, as Redis keeps them until a node has told it (G19).
//!
//! An event's number is that of its stream entry: the milliseconds, and in the lowest [`COUNT_BITS`] the count within.

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::FunctionInterface;
use fred::types::Value;
use roomcast_protocol::occupancy::{AskOccupancies, GivenOccupancies, HAND_MAX, Occupancy};
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::room::RoomName;
use tokio::time::Instant;

use super::asking::{Again, ask, no_answer};
use super::channels::{self, key};
use super::functions::OCCUPANCIES;
use super::options::Servers;
use super::publish::hurried;
use super::shared::Shared;

/// Bits of a number for the events of one millisecond. Redis makes no more than some hundred there. Units: bits.
const COUNT_BITS: u32 = 20;

/// Gives this node events of a partition. `None`: there was no answer in time.
pub(crate) async fn give<T>(
    shared: &Shared<T>,
    asked: &AskOccupancies,
    deadline: Instant,
) -> Option<GivenOccupancies> {
    // The server knows by what the node was given whether an answer was lost.
    ask(shared, deadline, Again::Always, |client| given(shared, client, asked)).await
}

async fn given<T>(
    shared: &Shared<T>,
    client: Client,
    asked: &AskOccupancies,
) -> Result<GivenOccupancies, Error> {
    let tag = shared.tags.all().nth(asked.partition.into()).ok_or_else(no_answer)?;
    let common = match shared.options.servers {
        Servers::Cluster(_) => tag,
        Servers::Standalone(_) | Servers::Sentinel { .. } => shared.tags.common(),
    };
    let memory = vec![
        key(tag, channels::OCCUPANCY, ""),
        key(tag, channels::READER, ""),
        key(common, channels::UNREAD, ""),
    ];
    let arguments = vec![
        shared.node.to_string(),
        entry(asked.told),
        entry(asked.given),
        asked.lost.to_string(),
        asked.count_max.min(HAND_MAX).to_string(),
    ];
    let answer: Value = hurried(&client, None).fcall(OCCUPANCIES, memory, arguments).await?;
    read(answer).ok_or_else(no_answer)
}

/// The entry of a number; nothing for 0.
fn entry(number: u64) -> String {
    if number == 0 {
        return String::new();
    }
    let count = number & ((1 << COUNT_BITS) - 1);
    format!("{}-{count}", number >> COUNT_BITS)
}

/// The number of an entry; 0 for nothing.
fn number(entry: &Value) -> Option<u64> {
    let text = entry.as_str()?;
    if text.is_empty() {
        return Some(0);
    }
    let (ms, count) = text.split_once('-')?;
    let (ms, count): (u64, u64) = (ms.parse().ok()?, count.parse().ok()?);
    let fits = ms >> (u64::BITS - COUNT_BITS) == 0 && count >> COUNT_BITS == 0;
    fits.then_some(ms << COUNT_BITS | count)
}

/// Reads the answer of [`OCCUPANCIES`]. What others put among the events is left out.
fn read(answer: Value) -> Option<GivenOccupancies> {
    let mut parts = answer.into_array().into_iter();
    if parts.next()?.as_u64()? == 0 {
        return Some(GivenOccupancies::default());
    }
    let anew = parts.next()?.as_u64()? == 1;
    let (lost, lost_known) = (parts.next()?.as_u64()?, parts.next()?.as_u64()?);
    let given = number(&parts.next()?)?;
    let events = parts.filter_map(event).collect();
    Some(GivenOccupancies { held: true, anew, given, lost, lost_known, events })
}

fn event(entry: Value) -> Option<(u64, Occupancy)> {
    let mut parts = entry.into_array().into_iter();
    let number = number(&parts.next()?)?;
    let fields = parts.next()?.into_array();
    let texts: Vec<_> = fields.iter().map_while(Value::as_str).collect();
    let texts: Vec<_> = texts.iter().map(|text| &**text).collect();
    let ["room", room, "epoch", epoch, "version", version, "occupied", occupied] = *texts else {
        return None;
    };
    let offset = version.parse().ok().filter(|version| *version <= OFFSET_MAX)?;
    let occupied = match occupied {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    let version = Position { epoch: Epoch::parse(epoch)?, offset };
    Some((number, Occupancy { room: RoomName::system(room).ok()?, version, occupied }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    fn entry_of(id: &str, fields: &[&str]) -> Value {
        Value::Array(vec![text(id), Value::Array(fields.iter().map(|it| text(it)).collect())])
    }

    const EPOCH: &str = "0123456789abcdef0011223344556677";

    #[test]
    fn numbers_rise_as_entries_do() {
        let max = "17592186044415-1048575";
        let known = ["1-0", "1-1", "1-1048575", "2-0", "1700000000000-7", max];
        let numbers: Vec<_> = known.iter().map(|it| number(&text(it)).unwrap()).collect();
        assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
        assert_eq!(numbers.iter().map(|it| entry(*it)).collect::<Vec<_>>(), known);
        assert_eq!((number(&text("")), entry(0)), (Some(0), String::new()));
        for none in ["17592186044416-0", "1-1048576", "1", "x-1", "1-x"] {
            assert_eq!(number(&text(none)), None, "{none}");
        }
    }

    #[test]
    fn what_others_put_among_the_events_is_left_out() {
        let fields = ["room", "news", "epoch", EPOCH, "version", "3", "occupied", "1"];
        let mut parts = vec![Value::Integer(1), Value::Integer(0), Value::Integer(5)];
        parts.extend([Value::Integer(2), text("9-2"), entry_of("9-0", &["a", "b"])]);
        for (at, bad) in [(0, "x"), (1, ""), (3, "0"), (5, "9007199254740993"), (7, "2")] {
            let mut fields = fields;
            fields[at] = bad;
            parts.push(entry_of("9-1", &fields));
        }
        parts.push(entry_of("9-2", &fields));
        let given = read(Value::Array(parts)).unwrap();
        let version = Position { epoch: Epoch::parse(EPOCH).unwrap(), offset: 3 };
        let room = RoomName::parse("news").unwrap();
        let number = 9 << COUNT_BITS | 2;
        let events = vec![(number, Occupancy { room, version, occupied: true })];
        let (lost, lost_known) = (5, 2);
        let whole =
            GivenOccupancies { held: true, anew: false, given: number, lost, lost_known, events };
        assert_eq!(given, whole);
        let none = read(Value::Array(vec![Value::Integer(0)]));
        assert_eq!(none, Some(GivenOccupancies::default()));
        assert_eq!(read(Value::Array(vec![Value::Integer(1), Value::Integer(0)])), None);
    }
}
