//! Outbounds to frames, by the table "one publication, many words". Keeps no state: what a room is called comes from
//! the configured prefixes alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::{RoomsRequest, RoomsVerb};
use roomcast_protocol::content::Content;
use roomcast_protocol::frame::FrameSink;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::publication::Publication;

use super::brokers::Brokers;
use crate::native::writer::{Json, Writer};

/// Room for the frame around a payload. Units: bytes.
const ENVELOPE_BYTES: usize = 64;

/// Appends the outbound's frame, if there are words for it.
pub(super) fn outbound(outbound: &Outbound<'_>, brokers: &Brokers, sink: &mut FrameSink) {
    match outbound {
        Outbound::Publication(publication) | Outbound::Redelivered(publication) => {
            sink.text(|out| message(publication, brokers, out));
        }
        Outbound::Rooms { request, refused } => sink.text(|out| answer(request, *refused, out)),
        Outbound::Welcome { .. }
        | Outbound::Pong { .. }
        | Outbound::Joined { .. }
        | Outbound::Left { .. }
        | Outbound::Accepted { .. }
        | Outbound::Refused { .. }
        | Outbound::Refreshed { .. }
        | Outbound::TokenExpiring { .. }
        | Outbound::Gap { .. }
        | Outbound::Skip { .. }
        | Outbound::History { .. }
        | Outbound::Lost { .. }
        | Outbound::Presence { .. }
        | Outbound::Roster { .. }
        | Outbound::Marked { .. }
        | Outbound::Receipts(_)
        | Outbound::ReceiptsPage { .. }
        | Outbound::Conversed { .. }
        | Outbound::Response { .. }
        | Outbound::Drain { .. }
        | Outbound::Degraded { .. } => {}
    }
}

/// The payload is always a string.
fn message(publication: &Publication, brokers: &Brokers, out: &mut Vec<u8>) {
    let mut out = Json::new(out);
    out.reserve(ENVELOPE_BYTES + publication.room.as_str().len() + publication.content.len());
    out.map(|out| {
        out.text_at("topic", brokers.topic(publication.room.as_str()));
        out.key("payload");
        match &publication.content {
            Content::Text(text) => out.text(&String::from_utf8_lossy(text)),
            Content::Json(json) => out.text(&compact(&String::from_utf8_lossy(json))),
            Content::Binary(bytes) => out.text(&STANDARD.encode(bytes)),
        }
    });
}

/// With the names as they were sent.
fn answer(request: &RoomsRequest, refused: Option<&Refused>, out: &mut Vec<u8>) {
    let topic = match (request.verb, refused) {
        (RoomsVerb::Join, None) => "@join",
        (RoomsVerb::Join, Some(_)) => "#join",
        (RoomsVerb::Leave, None) => "@leave",
        (RoomsVerb::Leave, Some(_)) => "#leave",
    };
    Json::new(out).map(|out| {
        out.text_at("topic", topic);
        out.key("payload");
        out.texts(&request.named);
    });
}

/// JSON without the space between its tokens: keys keep their order, numbers and strings their text.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            in_string = character == '"';
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        assert_eq!(compact(json), expected);
        assert_eq!(compact(expected), expected);
    }

    #[test]
    fn space_goes_and_order_numbers_and_strings_stay() {
        check(" { \"b\" : 1.50 ,\n\t\"a\" : [ 1e2 , -0 ]\r\n} ", r#"{"b":1.50,"a":[1e2,-0]}"#);
        check(
            r#"{ "a b" : " \" x \\" , "c" : "\u0020 é" }"#,
            r#"{"a b":" \" x \\","c":"\u0020 é"}"#,
        );
        check(r#"[ "\\" , "\\\"" , " " ]"#, r#"["\\","\\\""," "]"#);
    }
}
