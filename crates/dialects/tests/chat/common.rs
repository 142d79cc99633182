//! What the tests of the chat dialect share: one client's decoder, and what a frame says.

use roomcast_dialects::chat::CHAT;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::{Command, ReplyTo, Unreadable};
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{self, Act, Answered, Converse, Origin};
use roomcast_protocol::dialect::{Decoder, Dialect, Encoding};
use roomcast_protocol::frame::{Frame, FrameSink};
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::iso8601;
use serde_json::{Value, json};

use crate::framing::unframed;

/// Levels of nested values in these tests.
pub(crate) const DEPTH_MAX: usize = 8;

/// One connection.
pub(crate) struct Client(Box<dyn Decoder>);

impl Default for Client {
    fn default() -> Self {
        let limits = DecodeLimits { depth_max: DEPTH_MAX, ..DecodeLimits::default() };
        Self(CHAT.decoder(Encoding::Json, limits))
    }
}

impl Client {
    /// The one command of a frame.
    #[track_caller]
    pub(crate) fn frame(&mut self, text: bool, payload: &[u8]) -> Command {
        let mut commands = Vec::new();
        self.0.decode(Frame { text, payload }, &mut commands).unwrap();
        assert_eq!(commands.len(), 1, "a frame is one command");
        commands.remove(0)
    }

    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> Command {
        self.frame(true, text.as_bytes())
    }

    /// What is refused of a text.
    #[track_caller]
    pub(crate) fn refused(&mut self, text: &str) -> (ReplyTo, Refused, Option<Box<str>>) {
        let command = self.says(text);
        let Command::Unreadable(Unreadable { reply, refused, authenticates: false, raw }) = command
        else {
            panic!("{text}: {command:?}")
        };
        (reply, refused, raw)
    }
}

/// A request as clients write it.
pub(crate) fn request(id: &str, kind: &str, payload: &Value) -> String {
    json!({"type": "request", "timestamp": 1, "id": id, "payloadType": kind, "payload": payload})
        .to_string()
}

/// What a new connection's request asks of its conversation with `User2`.
#[track_caller]
pub(crate) fn act(kind: &str, payload: &Value) -> Act {
    let command = Client::default().says(&request("1", kind, payload));
    let Command::Converse(converse) = command else { panic!("{payload}: {command:?}") };
    let Converse { reply, with, act } = *converse;
    assert_eq!((reply.id.as_deref(), reply.room.as_deref()), (Some("1"), Some("User2")));
    assert_eq!((&*with, reply.part), ("User2", false));
    act
}

/// The command that asks something of the conversation with a user.
pub(crate) fn converse(id: Option<&str>, with: &str, act: Act) -> Command {
    let reply = ReplyTo { id: id.map(Into::into), room: Some(with.into()), part: false };
    Command::Converse(Box::new(Converse { reply, with: with.into(), act }))
}

/// The payload of the one text frame that the outbound becomes, or nothing.
pub(crate) fn heard(outbound: &Outbound<'_>) -> Option<String> {
    let mut sink = FrameSink::new();
    CHAT.encode(outbound, Encoding::Json, &mut sink);
    let (is_text, payload) = Some(sink.bytes()).filter(|it| !it.is_empty()).map(unframed)?;
    assert!(is_text);
    Some(String::from_utf8(payload.to_vec()).unwrap())
}

pub(crate) fn answer(id: &str, user: &str, answered: &Answered, unix_ms: u64) -> String {
    let reply = ReplyTo { id: Some(id.into()), ..ReplyTo::default() };
    heard(&Outbound::Conversed { reply: &reply, user, answered, unix_ms }).unwrap()
}

pub(crate) fn at(offset: u64) -> Position {
    Position { epoch: Epoch(7), offset }
}

pub(crate) fn json_of(content: &str) -> Content {
    Content::Json(content.to_owned().into())
}

pub(crate) fn publication(room: &str, kind: &str, content: Content, unix_ms: u64) -> Publication {
    Publication {
        kind: kind.into(),
        timestamp: iso8601(unix_ms).into(),
        ..Publication::bare(RoomName::parse(room).unwrap(), content)
    }
}

/// What stands in a user's inbox at `offset`, of the dialog of `User1` and `User2`.
pub(crate) fn copy(
    user: &str,
    offset: u64,
    kind: &str,
    content: &str,
    unix_ms: u64,
    origin: Origin,
) -> Publication {
    Publication {
        sender: "User1".into(),
        position: Some(at(offset)),
        origin: Some(Box::new(origin)),
        ..publication(&format!("user-{user}"), kind, json_of(content), unix_ms)
    }
}

/// Of the message at 125 of the dialog of `User1` and `User2`.
pub(crate) fn of_message(id: &str, at_unix_ms: u64) -> Origin {
    let room = conversation::dialog("User1", "User2").unwrap();
    Origin { position: Some(at(125)), id: id.into(), ..Origin::of(room, at_unix_ms) }
}
