//! Frames to commands: requests, events and acks. Owns which frame means what, and that a request's id is used for one
//! thing; never decides whether it is allowed. What cannot be read becomes `Command::Unreadable`.

use roomcast_protocol::codes::{Close, Refusal, Refused};
use roomcast_protocol::command::{Command, ReplyTo, Unreadable};
use roomcast_protocol::conversation::Converse;
use roomcast_protocol::dialect::Decoder;
use roomcast_protocol::frame::Frame;
use roomcast_protocol::limits::DecodeLimits;

use super::members::Members;
use super::request_ids::{RequestIds, Used};
use super::requests;
use crate::native::bounds;
use crate::native::fields::{missing, unknown_type};

/// A text of so many characters, or of fewer, keeps the connection alive and says nothing else.
pub const KEEP_ALIVE_CHARACTERS_MAX: usize = 5;

/// What an error repeats of a frame that could not be read. Units: bytes of UTF-8, whole characters.
pub const RAW_BYTES_MAX: usize = 1_024;

/// Reads the frames of one connection. Keeps which ids its requests had.
pub(super) struct ChatDecoder {
    limits: DecodeLimits,
    request_ids: RequestIds,
}

impl ChatDecoder {
    pub(super) fn new(limits: DecodeLimits) -> Self {
        Self { limits, request_ids: RequestIds::default() }
    }
}

impl Decoder for ChatDecoder {
    fn decode(&mut self, frame: Frame<'_>, out: &mut Vec<Command>) -> Result<(), Close> {
        out.push(if frame.text { self.text(frame.payload) } else { Command::KeepAlive(None) });
        Ok(())
    }
}

/// Where the client's own id for it is known, its answer is found by that; else by what it said.
fn unreadable(text: &str, reply: ReplyTo, refused: Refused) -> Command {
    let raw = || text.get(..text.floor_char_boundary(RAW_BYTES_MAX)).unwrap_or_default().into();
    let raw = reply.id.is_none().then(raw);
    Command::Unreadable(Unreadable { reply, refused, authenticates: false, raw })
}

impl ChatDecoder {
    fn text(&mut self, payload: &[u8]) -> Command {
        // A text frame is UTF-8: its transport has checked it.
        let text = String::from_utf8_lossy(payload);
        if text.chars().nth(KEEP_ALIVE_CHARACTERS_MAX).is_none() {
            return Command::KeepAlive(None);
        }
        let mut reply = ReplyTo::default();
        match self.read(&text, &mut reply) {
            Ok(command) => command,
            Err(refused) => unreadable(&text, reply, refused),
        }
    }

    /// Fills `reply` as it learns it, so that a refusal finds its question too.
    fn read(&mut self, text: &str, reply: &mut ReplyTo) -> Result<Command, Refused> {
        bounds::check(text, self.limits.depth_max)?;
        let packet = Members::read(text)?;
        let kind = packet.text("type");
        match kind.as_ref().map(|kind| kind.as_deref()) {
            Ok(Some("event")) => return event(&packet, reply),
            Ok(Some("ack")) => return ack(&packet),
            Ok(Some(_) | None) | Err(_) => reply.id = packet.id()?,
        }
        match kind?.as_deref() {
            Some("request") => self.request(&packet, reply),
            Some(_) => Err(unknown_type("type is `request`, `event` or `ack`")),
            None => Err(missing("type", "`request`, `event` or `ack`")),
        }
    }

    fn request(&mut self, packet: &Members<'_>, reply: &mut ReplyTo) -> Result<Command, Refused> {
        let id = reply.id.as_deref().ok_or_else(|| missing("id", "a string or a number"))?;
        packet.check_number("timestamp")?;
        let kind = packet.text("payloadType")?;
        let used = Used::new(id, &(kind.as_deref(), packet.value("payload")));
        if self.request_ids.conflicts(used) {
            return Err(Refused::because(Refusal::Duplicate, "Duplicate request id".into()));
        }
        let kind = kind.ok_or_else(|| missing("payloadType", "what is asked, such as `new`"))?;
        let command = requests::command(&kind, packet, reply)?;
        self.request_ids.remember(used);
        Ok(command)
    }
}

/// The documentation of the origin calls its type by two names.
fn event(packet: &Members<'_>, reply: &mut ReplyTo) -> Result<Command, Refused> {
    packet.check_number("timestamp")?;
    let kind = packet.text("payloadType")?.or(packet.text("eventType")?);
    match kind.as_deref() {
        Some("typing") => {
            let payload = packet.payload()?.ok_or_else(|| missing("payload", "an object"))?;
            let with = requests::chat(&payload, reply)?;
            let act = requests::typing(&payload)?;
            Ok(Command::Converse(Box::new(Converse { reply: reply.clone(), with, act })))
        }
        Some("offline") => {
            packet.payload()?;
            Ok(Command::Away)
        }
        Some(_) => Err(unknown_type("payloadType of an event is `typing` or `offline`")),
        None => Err(missing("payloadType", "`typing` or `offline`")),
    }
}

/// Events without an id are acked by some clients: such an ack names offset 0, which nobody was ever given.
fn ack(packet: &Members<'_>) -> Result<Command, Refused> {
    packet.check_number("timestamp")?;
    Ok(Command::AckEvent(packet.offset("id")?.unwrap_or(0)))
}
