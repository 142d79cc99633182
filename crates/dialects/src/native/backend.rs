//! What back-ends send and read by the server API in the native envelope: one publication, several, one for several
//! rooms, and publications as members get them. Never decides who may publish where.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Publish, ReplyTo};
use roomcast_protocol::limits::{DecodeLimits, LimitName};
use roomcast_protocol::publication::Publication;

use super::fields::{
    self, Fields, Key, bad_json, each_element, each_member, missing, schema, wrong,
};
use super::writer::Json;
use super::{bounds, decode, encode};

/// What one request of a back-end may hold.
#[derive(Clone, Copy, Debug)]
pub struct BackendLimits {
    /// Of each publication.
    pub decode: DecodeLimits,
    /// One publication. Units: bytes.
    pub message_bytes_max: usize,
    /// Publications of one batch, rooms of one broadcast.
    pub batch_max: usize,
}

/// Reads `{"publications": [..]}`: each by itself, so that one that is bad spoils no other.
///
/// # Errors
/// What is wrong with the whole: 100 not JSON, 102 no such array or nothing in it, 103 too many.
pub fn batch_from_json(
    body: &[u8],
    limits: BackendLimits,
) -> Result<Vec<Result<Publish, Refused>>, Refused> {
    const MUST_BE: &str = "an array of publications";
    // Of any depth, for what is in it is not parsed here; each publication is checked by itself.
    let text = sound(body, usize::MAX)?;
    Fields::default().read(text)?;
    let publications =
        member(text, "publications").ok_or_else(|| missing("publications", MUST_BE))?;
    let one = |publication: &str| {
        if publication.len() > limits.message_bytes_max {
            return Err(too_large(LimitName::MessageBytes, limits.message_bytes_max));
        }
        decode::publish_from_json(publication.as_bytes(), limits.decode)
    };
    bounded("publications", MUST_BE, publications, limits.batch_max, one)
}

/// Reads one publication with `rooms`, a list, in the place of `room`: the names as they came, and what each room gets.
///
/// # Errors
/// As for one publication, 102 for another list, 103 for too many rooms.
pub fn broadcast_from_json(
    body: &[u8],
    limits: BackendLimits,
) -> Result<(Vec<Box<str>>, Publish), Refused> {
    const MUST_BE: &str = "an array of names of rooms";
    let text = sound(body, limits.decode.depth_max)?;
    let mut known = Fields::default();
    known.read(text)?;
    if known.value(Key::Room).is_some() {
        return Err(schema("A broadcast has `rooms`, and no `room`"));
    }
    let rooms = member(text, "rooms").ok_or_else(|| missing("rooms", MUST_BE))?;
    let name = |raw: &str| fields::text(raw).map(|name| Box::from(&*name));
    let rooms = bounded("rooms", MUST_BE, rooms, limits.batch_max, name)?;
    let rooms = rooms.into_iter().collect::<Option<Vec<Box<str>>>>();
    let rooms = rooms.ok_or_else(|| wrong("rooms", MUST_BE))?;
    Ok((rooms, decode::backend_publish(&known, &mut ReplyTo::default(), Some(""))?))
}

/// Appends a publication as its members get it in JSON.
pub fn publication_to_json(publication: &Publication, out: &mut Vec<u8>) {
    encode::envelope(publication, false, &mut Json::new(out));
}

/// The text of a body that is safe to parse.
pub(super) fn sound(body: &[u8], depth_max: usize) -> Result<&str, Refused> {
    let text = std::str::from_utf8(body)
        .map_err(|_| bad_json("The message is not UTF-8, as JSON must be"))?;
    bounds::check(text, depth_max)?;
    Ok(text)
}

/// A member of an object that only back-ends send; the last of that name counts.
fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    let _is_object = each_member(object, |other, value| {
        if other == name {
            found = Some(value);
        }
    });
    found
}

/// The elements of an array of at least one and at most `max`.
fn bounded<T>(
    name: &str,
    must_be: &str,
    array: &str,
    max: usize,
    mut read: impl FnMut(&str) -> T,
) -> Result<Vec<T>, Refused> {
    let (mut count, mut kept) = (0_usize, Vec::new());
    let is_array = each_element(array, |element| {
        count += 1;
        if count <= max {
            kept.push(read(element));
        }
    });
    match count {
        _ if !is_array => Err(wrong(name, must_be)),
        0 => Err(schema(format!("{name} is empty"))),
        _ if count > max => Err(too_large(LimitName::ApiBatch, max)),
        _ => Ok(kept),
    }
}

fn too_large(limit: LimitName, max: usize) -> Refused {
    let value = u64::try_from(max).unwrap_or(u64::MAX);
    Refused::limit(Refusal::TooLarge, limit, value, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BackendLimits = BackendLimits {
        decode: DecodeLimits { batch_max: 1, inflated_bytes_max: 1, depth_max: 4 },
        message_bytes_max: 40,
        batch_max: 2,
    };

    fn batch(body: &str) -> Result<Vec<Result<Publish, Refused>>, Refused> {
        batch_from_json(body.as_bytes(), LIMITS)
    }

    fn broadcast(body: &str) -> Result<(Vec<Box<str>>, Publish), Refused> {
        broadcast_from_json(body.as_bytes(), LIMITS)
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(outcome: Result<T, Refused>, code: u16, message: &str) {
        let refused = outcome.unwrap_err();
        assert_eq!((refused.refusal.row().code, &*refused.message), (code, message));
    }

    #[test]
    fn one_bad_publication_spoils_no_other() {
        let read = batch(r#"{"publications":[{"room":"a","type":"note"},{"room":"b"}]}"#).unwrap();
        assert_eq!(&*read[0].as_ref().unwrap().room, "a");
        assert_eq!(read[1].as_ref().unwrap_err().refusal, Refusal::Schema);
    }

    #[test]
    fn the_largest_batch_is_taken_and_one_more_refused() {
        let of = |count: usize| {
            let all = vec![r#"{"room":"a","type":"t"}"#; count].join(",");
            batch(&format!(r#"{{"publications":[{all}]}}"#))
        };
        assert_eq!(of(2).unwrap().len(), 2);
        refused(of(3), 103, "The limit api_batch is 2");
        refused(of(0), 102, "publications is empty");
        refused(batch("{}"), 102, "publications is missing: an array of publications");
        let object = batch(r#"{"publications":{}}"#);
        refused(object, 102, "publications must be an array of publications");
        refused(batch("[]"), 102, "A message must be an object with a type");
    }

    #[test]
    fn each_publication_has_the_size_and_depth_of_one_alone() {
        let size = |bytes: usize| {
            let least = r#"{"room":"a","type":"t","data":""}"#;
            let data = "x".repeat(bytes - least.len());
            batch(&format!(
                r#"{{"publications":[{}]}}"#,
                least.replace("\"\"", &format!("\"{data}\""))
            ))
        };
        assert!(size(40).unwrap()[0].is_ok());
        refused(size(41).unwrap().remove(0), 103, "The limit message_bytes is 40");
        let deep = |data: &str| {
            batch(&format!(r#"{{"publications":[{{"room":"a","type":"t","data":{data}}}]}}"#))
        };
        assert!(deep("[[[]]]").unwrap()[0].is_ok());
        refused(deep("[[[[]]]]").unwrap().remove(0), 103, "The limit json_depth is 4");
        let deepest = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        refused(deep(&deepest).unwrap().remove(0), 103, "The limit message_bytes is 40");
    }

    #[test]
    fn a_broadcast_names_its_rooms_and_no_room() {
        let (rooms, publish) = broadcast(r#"{"rooms":["a","b"],"type":"note","id":7}"#).unwrap();
        assert_eq!(rooms, ["a".into(), "b".into()]);
        assert_eq!((&*publish.kind, publish.id.as_deref()), ("note", Some("7")));
        for (rooms, code, message) in [
            (r#""rooms":["a","b","c"],"#, 103, "The limit api_batch is 2"),
            (r#""rooms":[],"#, 102, "rooms is empty"),
            (r#""rooms":["a",1],"#, 102, "rooms must be an array of names of rooms"),
            (r#""rooms":"a","#, 102, "rooms must be an array of names of rooms"),
            ("", 102, "rooms is missing: an array of names of rooms"),
            (r#""rooms":["a"],"room":"a","#, 102, "A broadcast has `rooms`, and no `room`"),
        ] {
            refused(broadcast(&format!(r#"{{{rooms}"type":"note"}}"#)), code, message);
        }
        let system = broadcast(r#"{"rooms":["a"],"type":"welcome"}"#);
        refused(system, 101, "`welcome` cannot be published");
    }
}
