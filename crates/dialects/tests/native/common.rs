//! What the tests of the native dialect share: reading vectors, and commands as text.

use std::fmt::Write;

use flate2::{Compress, Compression, FlushCompress};
use roomcast_protocol::command::{Command, Continuation, ReplyTo};
use roomcast_protocol::content::Content;
use roomcast_protocol::dialect::Encoding;
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::position::Position;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Vectors of frames and what they mean.
pub(crate) const FILES: [&str; 3] = [
    include_str!("../../vectors/native/seed.json"),
    include_str!("../../vectors/native/requests.json"),
    include_str!("../../vectors/native/sessions.json"),
];

#[derive(Deserialize)]
pub(crate) struct Vectors {
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    frame: Option<Box<RawValue>>,
    text: Option<String>,
    hex: Option<String>,
    pub(crate) expect: Vec<String>,
}

pub(crate) fn read(file: &str) -> Vectors {
    serde_json::from_str(file).unwrap()
}

/// The limits that the vectors name.
pub(crate) fn limits() -> DecodeLimits {
    DecodeLimits { batch_max: 4, inflated_bytes_max: 4_096, depth_max: 8 }
}

/// The frames a case stands for.
pub(crate) fn frames(case: &Case) -> Vec<(Encoding, Vec<u8>)> {
    match (&case.frame, &case.text, &case.hex) {
        (Some(frame), None, None) => vec![
            (Encoding::Json, frame.get().into()),
            (Encoding::MessagePack, to_msgpack(frame.get())),
        ],
        (None, Some(text), None) => vec![(Encoding::Json, text.clone().into())],
        (None, None, Some(hex)) => vec![(Encoding::MessagePack, from_hex(hex))],
        _ => panic!("{}: one of frame, text and hex", case.name),
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// MessagePack by a library that is not ours.
pub(crate) fn to_msgpack(json: &str) -> Vec<u8> {
    rmp_serde::to_vec(&serde_json::from_str::<Value>(json).unwrap()).unwrap()
}

pub(crate) fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() + 64);
    let mut stream = Compress::new(Compression::default(), true);
    stream.compress_vec(plain, &mut out, FlushCompress::Finish).unwrap();
    out
}

/// A command as the vectors write it. Payloads are shown with sorted keys and without spaces.
pub(crate) fn show(command: &Command) -> String {
    let mut out = String::new();
    let reply = match command {
        Command::Authenticate(authenticate) => {
            let compressed = if authenticate.compressed { " compressed" } else { "" };
            write!(out, "authenticate {}{compressed}", authenticate.token).unwrap();
            if let Some(it) = &authenticate.continuation {
                show_continuation(&mut out, it);
            }
            &authenticate.reply
        }
        Command::Join(request) => {
            write!(out, "join {}", request.room).unwrap();
            if let Some(Position { epoch, offset }) = request.since {
                write!(out, " since={:x}:{offset}", { epoch.0 }).unwrap();
            }
            &request.reply
        }
        Command::Presence(request) => {
            write!(out, "presence {}", request.room).unwrap();
            if let Some(after) = &request.after {
                write!(out, " after={after}").unwrap();
            }
            if let Some(limit) = request.limit {
                write!(out, " limit={limit}").unwrap();
            }
            &request.reply
        }
        Command::Mark(request) => {
            write!(out, "mark {} epoch={:x}", request.room, { request.epoch.0 }).unwrap();
            for (name, offset) in [("delivered", request.delivered), ("read", request.read)] {
                if let Some(offset) = offset {
                    write!(out, " {name}={offset}").unwrap();
                }
            }
            &request.reply
        }
        Command::Receipts(request) => {
            write!(out, "receipts {}", request.room).unwrap();
            if let Some(of) = request.of {
                write!(out, " of={of}").unwrap();
            }
            if let Some(after) = &request.after {
                write!(out, " after={after}").unwrap();
            }
            if let Some(limit) = request.limit {
                write!(out, " limit={limit}").unwrap();
            }
            &request.reply
        }
        Command::Request(request) => {
            let params = std::str::from_utf8(&request.params).unwrap();
            write!(out, "request {} {params}", request.method).unwrap();
            &request.reply
        }
        Command::History(request) => {
            write!(out, "history {} {:?}", request.room, request.direction).unwrap();
            if let Some(from) = request.from {
                write!(out, " from={from}").unwrap();
            }
            if let Some(limit) = request.limit {
                write!(out, " limit={limit}").unwrap();
            }
            &request.reply
        }
        Command::Leave(request) => {
            write!(out, "leave {}", request.room).unwrap();
            &request.reply
        }
        Command::Rooms(_)
        | Command::Converse(_)
        | Command::Conversations(_)
        | Command::Away
        | Command::AckEvent(_) => panic!("{command:?}: the native dialect has no words for it"),
        Command::Publish(publish) => {
            write!(out, "publish {} into {}", publish.kind, publish.room).unwrap();
            let ttl = publish.ttl_s.map(|seconds| seconds.to_string().into_boxed_str());
            for (name, value) in [
                ("id", &publish.id),
                ("timestamp", &publish.timestamp),
                ("sender", &publish.sender),
                ("agent", &publish.agent_id),
                ("priority", &publish.priority.map(|priority| priority.name().into())),
                ("ttl", &ttl),
                ("correlation", &publish.correlation_id),
            ] {
                if let Some(value) = value {
                    write!(out, " {name}={value}").unwrap();
                }
            }
            if !publish.requires.is_empty() {
                write!(out, " requires={}", publish.requires.join(",")).unwrap();
            }
            if publish.wants_ack {
                out.push_str(if publish.members_ack { " members_ack" } else { " wants_ack" });
            }
            let Content::Json(json) = &publish.content else { panic!("{publish:?}") };
            write!(out, " data={}", serde_json::from_slice::<Value>(json).unwrap()).unwrap();
            &publish.reply
        }
        Command::KeepAlive(timestamp) => {
            out.push_str("keep-alive");
            if let Some(timestamp) = timestamp {
                write!(out, " {}", std::str::from_utf8(timestamp).unwrap()).unwrap();
            }
            return out;
        }
        Command::Ack { id, room: None } => return format!("ack {id}"),
        Command::Ack { id, room: Some(room) } => return format!("ack {id} of {room}"),
        Command::Unreadable(unreadable) => {
            let refused = &unreadable.refused;
            write!(out, "refused {} {}", refused.refusal.row().code, refused.message).unwrap();
            if let Some((limit, value)) = refused.limit {
                write!(out, " limit={}:{value}", limit.name()).unwrap();
            }
            &unreadable.reply
        }
    };
    show_reply(&mut out, command, reply);
    out
}

fn show_continuation(out: &mut String, it: &Continuation) {
    if let Some(resume) = &it.resume {
        write!(out, " resume={resume}").unwrap();
    }
    for (room, at) in &it.covered {
        write!(out, " covered={room}@{:x}:{}", { at.epoch.0 }, at.offset).unwrap();
    }
    if let Some(device) = &it.device {
        write!(out, " device={device}").unwrap();
    }
    out.push_str(if it.hands_over { " handover" } else { "" });
    out.push_str(if *it == Continuation::default() { " anew" } else { "" });
}

fn show_reply(out: &mut String, command: &Command, reply: &ReplyTo) {
    if let Some(id) = &reply.id {
        write!(out, " for={id}").unwrap();
    }
    let named = match command {
        Command::Join(request) | Command::Leave(request) => Some(&request.room),
        Command::History(request) => Some(&request.room),
        Command::Presence(request) => Some(&request.room),
        Command::Mark(request) => Some(&request.room),
        Command::Receipts(request) => Some(&request.room),
        Command::Publish(publish) => Some(&publish.room),
        Command::Request(_)
        | Command::Authenticate(_)
        | Command::Rooms(_)
        | Command::Converse(_)
        | Command::Conversations(_)
        | Command::Away
        | Command::AckEvent(_)
        | Command::KeepAlive(_)
        | Command::Ack { .. }
        | Command::Unreadable(_) => None,
    };
    match (named, &reply.room) {
        (Some(named), Some(room)) => assert_eq!(named, room, "the answer names the room"),
        (Some(named), None) => assert!(named.len() > 255, "the answer names the room"),
        (None, Some(room)) => write!(out, " room={room}").unwrap(),
        (None, None) => {}
    }
}
