//! Frames to commands. What the origin leaves unanswered is unanswered here: it becomes `Command::Unreadable`, which
//! is counted, and for whose refusal this dialect has no words.

use std::borrow::Cow;
use std::sync::Arc;

use roomcast_protocol::codes::{Close, Refusal, Refused};
use roomcast_protocol::command::{Command, ReplyTo, RoomsRequest, RoomsVerb, Unreadable};
use roomcast_protocol::dialect::Decoder;
use roomcast_protocol::frame::Frame;
use roomcast_protocol::limits::DecodeLimits;

use super::brokers::Brokers;
use crate::native::bounds;
use crate::native::fields::{each_element, each_member, text};

/// Reads the frames of one connection. Keeps nothing between frames.
pub(super) struct RoadRunnerDecoder {
    pub(super) brokers: Arc<Brokers>,
    pub(super) limits: DecodeLimits,
}

impl Decoder for RoadRunnerDecoder {
    fn decode(&mut self, frame: Frame<'_>, out: &mut Vec<Command>) -> Result<(), Close> {
        match self.read(frame.payload) {
            Ok(Some(command)) => out.push(command),
            Ok(None) => {}
            Err(refused) => {
                let reply = ReplyTo::default();
                let unreadable = Unreadable { reply, refused, authenticates: false, raw: None };
                out.push(Command::Unreadable(unreadable));
            }
        }
        Ok(())
    }
}

/// The members of a command that mean something. The payload does not: no command has one.
#[derive(Default)]
struct Fields<'a> {
    command: Option<Cow<'a, str>>,
    broker: Option<Cow<'a, str>>,
    topics: Vec<Box<str>>,
}

impl RoadRunnerDecoder {
    fn read(&self, payload: &[u8]) -> Result<Option<Command>, Refused> {
        let text = std::str::from_utf8(payload)
            .map_err(|_| Refused::because(Refusal::BadJson, "The command is not UTF-8".into()))?;
        bounds::check(text, self.limits.depth_max)?;
        let Fields { command, broker, topics } = fields(text)?;
        let verb = match command.as_deref() {
            Some("join") => RoomsVerb::Join,
            Some("leave") => RoomsVerb::Leave,
            Some("headers") => return Ok(None),
            Some(_) | None => {
                let text = "A command is `join`, `leave` or `headers`";
                return Err(Refused::because(Refusal::UnknownType, text.into()));
            }
        };
        let broker = broker.as_deref().unwrap_or_default();
        let room = |topic: &str| self.brokers.room(broker, topic).map(Box::from);
        let rooms = topics.iter().map(|topic| room(topic)).collect::<Result<Vec<_>, _>>();
        let rooms = rooms.map_err(|it| Refused::because(Refusal::BadName, it.text().into()));
        Ok(Some(Command::Rooms(Box::new(RoomsRequest { verb, named: topics, rooms }))))
    }
}

/// Reads an object, whatever the case of its names, as Go reads it; null is as good as absent.
fn fields(object: &str) -> Result<Fields<'_>, Refused> {
    let mut found = Fields::default();
    let mut wrong = None;
    let is_object = each_member(object, |name, value| {
        if value == "null" {
            return;
        }
        let string = |wrong: &mut Option<&str>| {
            let found = text(value);
            if found.is_none() {
                *wrong = Some("command and broker must be strings");
            }
            found
        };
        if name.eq_ignore_ascii_case("command") {
            found.command = string(&mut wrong);
        } else if name.eq_ignore_ascii_case("broker") {
            found.broker = string(&mut wrong);
        } else if name.eq_ignore_ascii_case("topics") {
            found.topics.clear();
            let is_array = each_element(value, |topic| match text(topic) {
                Some(topic) => found.topics.push(topic.into()),
                None => wrong = Some("topics must be strings"),
            });
            if !is_array {
                wrong = Some("topics must be an array");
            }
        }
    });
    match wrong {
        Some(text) => Err(Refused::because(Refusal::Schema, text.into())),
        None if is_object => Ok(found),
        None => Err(Refused::because(Refusal::BadJson, "A command is a JSON object".into())),
    }
}
