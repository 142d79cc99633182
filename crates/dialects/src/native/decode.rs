//! Frames to commands. Owns which form means what; never decides whether it is allowed. What cannot be read becomes
//! `Command::Unreadable` with the refusal that its sender gets.

use std::borrow::Cow;

use bytes::Bytes;
use roomcast_protocol::codes::{Close, Refusal, Refused};
use roomcast_protocol::command::{
    Authenticate, Command, Continuation, HistoryRequest, PresenceRequest, Publish, ReplyTo,
    RoomRequest, Unreadable,
};
use roomcast_protocol::content::Content;
use roomcast_protocol::dialect::{Decoder, Encoding};
use roomcast_protocol::frame::Frame;
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::inbox::DEVICE_BYTES_MAX;
use roomcast_protocol::limits::{DecodeLimits, LimitName};
use roomcast_protocol::position::{Direction, Epoch, OFFSET_MAX, Position, Span};
use roomcast_protocol::presence::ROSTER_PAGE_MAX;
use roomcast_protocol::publication::{Priority, TEXT_BYTES_MAX};
use roomcast_protocol::room::NAME_BYTES_MAX;
use roomcast_protocol::session::{ResumeToken, Secret};
use roomcast_protocol::time::is_iso8601;

use super::fields::{
    Fields, Key, bad_json, bounded, each_element, each_member, is_number, missing, schema, text,
    unknown_type, wrong,
};
use super::{backend, bounds, inflate, msgpack, receipts, requests, schema as types};

/// Rooms of which one client can say what it has covered.
const COVERED_MAX: usize = 1_024;

/// Permissions that one publication may require.
const REQUIRES_MAX: usize = 16;

/// Reads the frames of one connection. Keeps nothing between frames, so an idle connection costs nothing here.
pub(super) struct NativeDecoder {
    encoding: Encoding,
    limits: DecodeLimits,
}

impl NativeDecoder {
    pub(super) const fn new(encoding: Encoding, limits: DecodeLimits) -> Self {
        Self { encoding, limits }
    }

    fn text<'a>(&self, frame: Frame<'a>) -> Result<Cow<'a, str>, Refused> {
        match self.encoding {
            Encoding::Json | Encoding::JsonDeflated => {
                let text = std::str::from_utf8(frame.payload)
                    .map_err(|_| bad_json("The message is not UTF-8, as JSON must be"))?;
                bounds::check(text, self.limits.depth_max)?;
                Ok(Cow::Borrowed(text))
            }
            Encoding::MessagePack | Encoding::MessagePackDeflated if frame.text => {
                Err(bad_json("This connection speaks MessagePack: send binary frames"))
            }
            Encoding::MessagePack | Encoding::MessagePackDeflated => {
                msgpack::to_json(frame.payload, self.limits.depth_max).map(Cow::Owned)
            }
        }
    }
}

impl Decoder for NativeDecoder {
    fn decode(&mut self, frame: Frame<'_>, out: &mut Vec<Command>) -> Result<(), Close> {
        match self.text(frame) {
            Ok(text) => {
                let inflatable_bytes = self.limits.inflated_bytes_max;
                let mut reader = Reader { limits: self.limits, inflatable_bytes, out };
                reader.message(&text, Inside { batch: false, compressed: false })
            }
            Err(refused) => {
                let reply = ReplyTo::default();
                let (authenticates, raw) = (false, None);
                let unreadable = Unreadable { reply, refused, authenticates, raw };
                out.push(Command::Unreadable(unreadable));
                Ok(())
            }
        }
    }
}

/// Reads one publication; see [`super::publish_from_json`].
pub(super) fn publish_from_json(body: &[u8], limits: DecodeLimits) -> Result<Publish, Refused> {
    let (mut fields, mut reply) = (Fields::default(), ReplyTo::default());
    fields.read(backend::sound(body, limits.depth_max)?)?;
    backend_publish(&fields, &mut reply, None)
}

/// A publication of a back-end, for `room` or, without it, for the one that it names.
pub(super) fn backend_publish(
    fields: &Fields<'_>,
    reply: &mut ReplyTo,
    room: Option<&str>,
) -> Result<Publish, Refused> {
    let envelope = Envelope::read(fields, reply)?;
    if System::named(&envelope.kind).is_some() {
        return Err(unknown_type(format!("`{}` cannot be published", envelope.kind)));
    }
    publish(fields, envelope, reply, room)
}

/// What a message is wrapped in already: each wrapping happens once.
#[derive(Clone, Copy)]
struct Inside {
    batch: bool,
    compressed: bool,
}

/// Reads the messages of one frame.
struct Reader<'o> {
    limits: DecodeLimits,
    /// What this frame may still inflate to, all its `compressed` messages together.
    inflatable_bytes: usize,
    out: &'o mut Vec<Command>,
}

impl Reader<'_> {
    fn message(&mut self, text: &str, inside: Inside) -> Result<(), Close> {
        let (mut fields, mut reply) = (Fields::default(), ReplyTo::default());
        match self.read(text, inside, &mut fields, &mut reply) {
            Ok(()) => Ok(()),
            Err(inflate::Fault::Close(close)) => Err(close),
            Err(inflate::Fault::Refused(refused)) => {
                let kind = fields.text(Key::Type, "type").ok().flatten();
                let system = kind.and_then(|kind| System::named(&kind));
                let authenticates = matches!(system, Some(System::Authenticate));
                let unreadable = Unreadable { reply, refused, authenticates, raw: None };
                self.out.push(Command::Unreadable(unreadable));
                Ok(())
            }
        }
    }

    /// Fills `fields` and `reply` as it learns them, so that a refusal finds its question too.
    fn read<'a>(
        &mut self,
        text: &'a str,
        inside: Inside,
        fields: &mut Fields<'a>,
        reply: &mut ReplyTo,
    ) -> Result<(), inflate::Fault> {
        fields.read(text)?;
        let fields = &*fields;
        let envelope = Envelope::read(fields, reply)?;
        let command = match System::named(&envelope.kind) {
            None => Command::Publish(Box::new(publish(fields, envelope, reply, None)?)),
            Some(System::Batch) => return self.batch(fields, inside),
            Some(System::Compressed) => return self.compressed(fields, inside),
            Some(System::Pong) => return Ok(()),
            Some(System::Authenticate) => authenticate(fields, reply)?,
            Some(System::Ping) => Command::KeepAlive(keep_alive(fields)?),
            Some(System::Subscribe) => Command::Join(room_request(fields, reply)?),
            Some(System::Unsubscribe) => Command::Leave(room_request(fields, reply)?),
            Some(System::History) => Command::History(history(fields, reply)?),
            Some(System::Presence) => Command::Presence(presence(fields, reply)?),
            Some(System::Receipt) => receipts::command(fields, reply)?,
            Some(System::Request) => requests::command(fields, reply)?,
            Some(System::Ack) => acknowledged(fields)?,
            Some(System::FromServer) => {
                let message = format!("`{}` is only sent by the server", envelope.kind);
                return Err(unknown_type(message).into());
            }
        };
        self.out.push(command);
        Ok(())
    }

    fn batch(&mut self, fields: &Fields<'_>, inside: Inside) -> Result<(), inflate::Fault> {
        const MUST_BE: &str = "an array of messages";
        if inside.batch {
            return Err(schema("A batch cannot hold another batch").into());
        }
        let data = Fields::of(fields.raw(Key::Data));
        let messages = fields
            .value(Key::Messages)
            .or_else(|| data.value(Key::Messages))
            .ok_or_else(|| missing("messages", MUST_BE))?;
        let mut count = 0_usize;
        let mut kept = Vec::new();
        let is_array = each_element(messages, |message| {
            count += 1;
            if count <= self.limits.batch_max {
                kept.push(message);
            }
        });
        if !is_array {
            return Err(wrong("messages", MUST_BE).into());
        }
        if count == 0 {
            return Err(schema("messages is empty").into());
        }
        if count > self.limits.batch_max {
            let value = u64::try_from(self.limits.batch_max).unwrap_or(u64::MAX);
            let refused = Refused::limit(Refusal::TooLarge, LimitName::BatchMessages, value, None);
            return Err(refused.into());
        }
        for message in kept {
            self.message(message, Inside { batch: true, ..inside })
                .map_err(inflate::Fault::Close)?;
        }
        Ok(())
    }

    fn compressed(&mut self, fields: &Fields<'_>, inside: Inside) -> Result<(), inflate::Fault> {
        if inside.compressed {
            return Err(schema("A compressed message cannot hold another one").into());
        }
        let deflated = inflate::deflated_bytes(fields.value(Key::Data))?;
        let inflated = inflate::inflate(&deflated, self.inflatable_bytes)?;
        self.inflatable_bytes -= inflated.len();
        let text = std::str::from_utf8(&inflated)
            .map_err(|_| bad_json("The message is not UTF-8 when inflated, as JSON must be"))?;
        bounds::check(text, self.limits.depth_max)?;
        self.message(text, Inside { compressed: true, ..inside }).map_err(inflate::Fault::Close)
    }
}

impl From<Refused> for inflate::Fault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What every message may have.
struct Envelope<'a> {
    kind: Cow<'a, str>,
    id: Option<Cow<'a, str>>,
    correlation_id: Option<Cow<'a, str>>,
    metadata: Fields<'a>,
}

impl<'a> Envelope<'a> {
    fn read(fields: &Fields<'a>, reply: &mut ReplyTo) -> Result<Self, Refused> {
        let id = fields.id(Key::Id, "id")?;
        reply.id = id.as_deref().map(Into::into);
        let metadata = fields.value(Key::Metadata);
        if metadata.is_some_and(|text| !text.starts_with('{')) {
            return Err(wrong("metadata", "an object"));
        }
        let metadata = Fields::of(metadata);
        let correlation_id = metadata.id(Key::CorrelationId, "metadata.correlation_id")?;
        if reply.id.is_none() {
            reply.id = correlation_id.as_deref().map(Into::into);
        }
        let kind = fields.text(Key::Type, "type")?.ok_or_else(|| missing("type", "a string"))?;
        if kind.is_empty() {
            return Err(schema("type is empty"));
        }
        bounded(&kind, "type")?;
        Ok(Self { kind, id, correlation_id, metadata })
    }
}

/// The types that are about the protocol itself; any other type is a publication's.
enum System {
    Authenticate,
    Ping,
    Pong,
    Subscribe,
    Unsubscribe,
    Batch,
    Compressed,
    Ack,
    History,
    Presence,
    Receipt,
    Request,
    FromServer,
}

/// Whether only the protocol itself uses this type, so that no publication can have it.
pub(crate) fn is_system_type(kind: &str) -> bool {
    System::named(kind).is_some()
}

impl System {
    fn named(kind: &str) -> Option<Self> {
        Some(match kind {
            "auth" | "refresh" | "resume" => Self::Authenticate,
            "ping" => Self::Ping,
            "pong" => Self::Pong,
            "subscribe" => Self::Subscribe,
            "unsubscribe" => Self::Unsubscribe,
            "batch" => Self::Batch,
            "compressed" => Self::Compressed,
            "ack" => Self::Ack,
            "history" => Self::History,
            "welcome" | "error" | "subscribed" | "unsubscribed" | "skip" | "gap" | "drain"
            | "token_expiring" | "degraded" | "lost" => Self::FromServer,
            "presence" => Self::Presence,
            "receipt" => Self::Receipt,
            "request" => Self::Request,
            _ => return None,
        })
    }
}

fn authenticate(fields: &Fields<'_>, reply: &ReplyTo) -> Result<Command, Refused> {
    let data = Fields::of(fields.raw(Key::Data));
    let token = match fields.text(Key::Token, "token")? {
        Some(token) => Some(token),
        None => data.text(Key::Token, "data.token")?,
    };
    Ok(Command::Authenticate(Authenticate {
        reply: reply.clone(),
        token: token.ok_or_else(|| missing("token", "a string"))?.into(),
        compressed: fields.flag(Key::Compressed, "compressed")?
            || data.flag(Key::Compressed, "data.compressed")?,
        continuation: continuation(fields, &data)?,
    }))
}

/// How the session is to go on: `resume_token`, `covered`, `device` and `handover`, in `data` or at the top.
fn continuation(
    fields: &Fields<'_>,
    data: &Fields<'_>,
) -> Result<Option<Box<Continuation>>, Refused> {
    let pick = |key| if data.value(key).is_some() { data } else { fields };
    let resume = pick(Key::ResumeToken).text(Key::ResumeToken, "data.resume_token")?;
    let device = pick(Key::Device).id(Key::Device, "data.device")?;
    if device.as_ref().is_some_and(|device| device.len() > DEVICE_BYTES_MAX) {
        let must_be = format!("a string of at most {DEVICE_BYTES_MAX} bytes");
        return Err(wrong("data.device", &must_be));
    }
    let hands_over = pick(Key::Handover).flag(Key::Handover, "data.handover")?;
    let covered = match pick(Key::Covered).value(Key::Covered) {
        Some(raw) => covered(raw)?,
        None => Vec::new(),
    };
    // Who says no to all of it wants a session of its own; only who says nothing may be given an older one.
    let said = [Key::ResumeToken, Key::Device, Key::Handover, Key::Covered];
    if said.into_iter().all(|key| pick(key).value(key).is_none()) {
        return Ok(None);
    }
    // What was never a token names no session: then one begins anew, and the client is told.
    let unknown = ResumeToken { session: SessionId(0), secret: Secret(0) };
    let resume = resume.map(|text| ResumeToken::parse(&text).unwrap_or(unknown));
    let device = device.map(|device| Box::from(&*device));
    Ok(Some(Box::new(Continuation { resume, covered, device, hands_over })))
}

/// What a client has covered: an object of positions by room.
fn covered(raw: &str) -> Result<Vec<(Box<str>, Position)>, Refused> {
    const MUST_BE: &str = "an object of positions by room, as answers to `subscribe` carry them";
    let mut rooms = Vec::new();
    let mut fault = None;
    let sound = each_member(raw, |room, at| match position(at, "data.covered") {
        Ok(position) if rooms.len() < COVERED_MAX => rooms.push((room.into(), position)),
        Ok(_) => fault = Some(wrong("data.covered", &format!("at most {COVERED_MAX} rooms"))),
        Err(_) => fault = Some(wrong("data.covered", MUST_BE)),
    });
    match fault {
        Some(refused) => Err(refused),
        None if sound => Ok(rooms),
        None => Err(wrong("data.covered", MUST_BE)),
    }
}

/// Who is in a room is asked.
fn presence(fields: &Fields<'_>, reply: &mut ReplyTo) -> Result<PresenceRequest, Refused> {
    let RoomRequest { reply, room, .. } = room_request(fields, reply)?;
    let data = Fields::of(fields.raw(Key::Data));
    let pick = |key| if data.value(key).is_some() { &data } else { fields };
    let after = pick(Key::After).text(Key::After, "data.after")?.map(|user| Box::from(&*user));
    let limit = match pick(Key::Limit).value(Key::Limit).map(str::parse) {
        None => None,
        Some(Ok(limit)) if (1..=ROSTER_PAGE_MAX).contains(&limit) => Some(limit),
        Some(Ok(_) | Err(_)) => {
            let must_be = format!("a whole number from 1 to {ROSTER_PAGE_MAX}");
            return Err(wrong("data.limit", &must_be));
        }
    };
    Ok(PresenceRequest { reply, room, after, limit })
}

/// The timestamp to answer with, as it came.
fn keep_alive(fields: &Fields<'_>) -> Result<Option<Bytes>, Refused> {
    let data = Fields::of(fields.raw(Key::Data));
    let Some(raw) = fields.value(Key::Timestamp).or_else(|| data.value(Key::Timestamp)) else {
        return Ok(None);
    };
    if !is_number(raw) && !raw.starts_with('"') {
        return Err(wrong("timestamp", "a number or a string"));
    }
    bounded(raw, "timestamp")?;
    Ok(Some(Bytes::copy_from_slice(raw.as_bytes())))
}

/// A room is named.
pub(super) fn room_request(
    fields: &Fields<'_>,
    reply: &mut ReplyTo,
) -> Result<RoomRequest, Refused> {
    let data = Fields::of(fields.raw(Key::Data));
    let room = match data.text(Key::Room, "data.room")? {
        Some(room) => Some(room),
        None => fields.text(Key::Room, "room")?,
    };
    let room: Box<str> = room.ok_or_else(|| missing("data.room", "a string"))?.into();
    reply.room = named(&room);
    let since = data.value(Key::Since).or_else(|| fields.value(Key::Since));
    let since = since.map(|raw| position(raw, "data.since")).transpose()?;
    Ok(RoomRequest { reply: reply.clone(), room, since })
}

/// A position as answers carry it.
pub(super) fn position(raw: &str, name: &str) -> Result<Position, Refused> {
    let fields = Fields::of(Some(raw));
    let epoch = fields.value(Key::Epoch).and_then(text);
    let offset = fields.value(Key::Offset).and_then(|raw| raw.parse().ok());
    match (epoch, offset.filter(|offset| *offset <= OFFSET_MAX)) {
        // Whatever was never a room's epoch is as good as one that is over.
        (Some(epoch), Some(offset)) => {
            Ok(Position { epoch: Epoch::parse(&epoch).unwrap_or(Epoch::NONE), offset })
        }
        (_, _) => Err(wrong(
            name,
            "a position: {\"epoch\": a string, \"offset\": a number up to 9007199254740991}",
        )),
    }
}

/// A request for what a room keeps.
fn history(fields: &Fields<'_>, reply: &mut ReplyTo) -> Result<HistoryRequest, Refused> {
    let RoomRequest { reply, room, .. } = room_request(fields, reply)?;
    let data = Fields::of(fields.raw(Key::Data));
    let pick = |key| if data.value(key).is_some() { &data } else { fields };
    let direction = match pick(Key::Direction).text(Key::Direction, "data.direction")?.as_deref() {
        None | Some("backward") => Direction::Backward,
        Some("forward") => Direction::Forward,
        Some(_) => return Err(wrong("data.direction", "\"forward\" or \"backward\"")),
    };
    let from = pick(Key::From).whole(Key::From, "data.from")?;
    let limit = match pick(Key::Limit).value(Key::Limit).map(str::parse) {
        None => None,
        Some(Ok(limit)) if (1..=Span::COUNT_MAX).contains(&limit) => Some(limit),
        Some(Ok(_) | Err(_)) => {
            let must_be = format!("a whole number from 1 to {}", Span::COUNT_MAX);
            return Err(wrong("data.limit", &must_be));
        }
    };
    Ok(HistoryRequest { reply, room, direction, from, limit })
}

/// A room's name for the answer. What is too long to be a name is not sent back.
fn named(room: &str) -> Option<Box<str>> {
    (room.len() <= NAME_BYTES_MAX).then(|| room.into())
}

fn acknowledged(fields: &Fields<'_>) -> Result<Command, Refused> {
    let data = Fields::of(fields.raw(Key::Data));
    let id = match fields.id(Key::AckId, "ackId")? {
        Some(id) => Some(id),
        None => data.id(Key::AckId, "data.ackId")?,
    };
    let id = id.ok_or_else(|| missing("ackId", "a string"))?.into();
    let room = match data.text(Key::Room, "data.room")? {
        Some(room) => Some(room),
        None => fields.text(Key::Room, "room")?,
    };
    Ok(Command::Ack { id, room: room.map(Into::into) })
}

fn publish(
    fields: &Fields<'_>,
    envelope: Envelope<'_>,
    reply: &mut ReplyTo,
    room: Option<&str>,
) -> Result<Publish, Refused> {
    let room: Box<str> = match room {
        Some(room) => room.into(),
        None => fields
            .text(Key::Room, "room")?
            .ok_or_else(|| unknown_type("Unknown message type, or a publication without its room"))?
            .into(),
    };
    reply.room = named(&room);
    let Envelope { kind, id, correlation_id, metadata } = envelope;
    if fields.flag(Key::Isolated, "isolated")? {
        return Err(schema("isolated is said by the node alone: leave it out"));
    }
    let timestamp = fields.value(Key::Timestamp).and_then(text).filter(|text| is_iso8601(text));
    let priority = metadata
        .text(Key::Priority, "metadata.priority")?
        .map(|name| {
            Priority::parse(&name)
                .ok_or_else(|| wrong("metadata.priority", "\"high\", \"normal\" or \"low\""))
        })
        .transpose()?;
    let members_ack = metadata.flag(Key::MetadataRequiresAck, "metadata.requires_ack")?;
    let data = fields.raw(Key::Data).unwrap_or("{}");
    let agent_id = types::check(&kind, data)?;
    Ok(Publish {
        reply: reply.clone(),
        room,
        kind: kind.into(),
        id: id.map(Into::into),
        timestamp: timestamp.map(Into::into),
        sender: fields.id(Key::Sender, "sender")?.map(Into::into),
        content: Content::Json(Bytes::copy_from_slice(data.as_bytes())),
        agent_id,
        priority,
        ttl_s: ttl_s(&metadata)?,
        requires: requires(&metadata)?,
        correlation_id: correlation_id.map(Into::into),
        wants_ack: fields.flag(Key::RequiresAck, "requiresAck")? || members_ack,
        members_ack,
    })
}

/// The time to live.
pub(crate) fn ttl_s(metadata: &Fields<'_>) -> Result<Option<u32>, Refused> {
    let Some(raw) = metadata.value(Key::Ttl) else { return Ok(None) };
    match raw.parse() {
        Ok(seconds) if seconds > 0 => Ok(Some(seconds)),
        Ok(_) | Err(_) => {
            Err(wrong("metadata.ttl", "a whole number of seconds from 1 to 4294967295"))
        }
    }
}

/// The permissions that a member must hold.
pub(crate) fn requires(metadata: &Fields<'_>) -> Result<Vec<Box<str>>, Refused> {
    let Some(raw) = metadata.value(Key::Requires) else { return Ok(Vec::new()) };
    let mut permissions: Vec<Box<str>> = Vec::new();
    let mut sound = true;
    let is_array = each_element(raw, |element| match text(element) {
        Some(permission)
            if permissions.len() < REQUIRES_MAX
                && (1..=TEXT_BYTES_MAX).contains(&permission.len()) =>
        {
            permissions.push(permission.into());
        }
        Some(_) | None => sound = false,
    });
    if is_array && sound {
        return Ok(permissions);
    }
    let must_be = format!("at most {REQUIRES_MAX} strings of 1 to {TEXT_BYTES_MAX} bytes");
    Err(wrong("metadata.requires", &must_be))
}
