//! The members of a packet, or of its payload, that mean something, each still as its raw text. Owns the wording of
//! refusals about them: they name the member, never its value.

use std::borrow::Cow;

use bytes::Bytes;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::content::Content;
use roomcast_protocol::position::OFFSET_MAX;

use crate::native::fields::{
    bounded, each_element, each_member, id, is_number, missing, no_object, text, wrong,
};
use crate::native::writer::{Json, Writer};

/// All names that mean something somewhere; others are passed over.
const KNOWN: [&str; 26] = [
    "type",
    "id",
    "timestamp",
    "payloadType",
    "eventType",
    "payload",
    "chatId",
    "message",
    "clientMessageId",
    "attachments",
    "replyTo",
    "forwarded",
    "originalMessageId",
    "originalClientMessageId",
    "messageId",
    "startId",
    "endId",
    "count",
    "stop",
    "callId",
    "userId",
    "userIdCreateCall",
    "participantsInvited",
    "participantsConnected",
    "callType",
    "callDuration",
];

/// The known members of one object.
#[derive(Default)]
pub(super) struct Members<'a> {
    values: [Option<&'a str>; KNOWN.len()],
}

impl<'a> Members<'a> {
    /// Reads a whole packet.
    pub(super) fn read(packet: &'a str) -> Result<Self, Refused> {
        Self::of(packet).ok_or_else(|| no_object(packet))
    }

    /// Reads the payload of a packet; `None`: it has none.
    pub(super) fn payload(&self) -> Result<Option<Self>, Refused> {
        let Some(payload) = self.value("payload") else { return Ok(None) };
        Self::of(payload).map(Some).ok_or_else(|| wrong("payload", "an object"))
    }

    fn of(object: &'a str) -> Option<Self> {
        let mut found = Self::default();
        let is_object = each_member(object, |name, value| {
            if let Some(place) = found.place(name) {
                *place = Some(value);
            }
        });
        is_object.then_some(found)
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        let at = KNOWN.iter().position(|known| *known == name)?;
        self.values.get_mut(at)
    }

    /// The value as it came; `null` is as good as absent.
    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        debug_assert!(KNOWN.contains(&name), "a name that is not read: {name}");
        let at = KNOWN.iter().position(|known| *known == name)?;
        self.values.get(at).copied().flatten().filter(|&value| value != "null")
    }

    /// A string.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Refused> {
        let Some(raw) = self.value(name) else { return Ok(None) };
        text(raw).map(Some).ok_or_else(|| wrong(name, "a string"))
    }

    /// A string that names somebody or something; empty means none.
    pub(super) fn name(&self, name: &str) -> Result<Option<Box<str>>, Refused> {
        let Some(found) = self.text(name)?.filter(|found| !found.is_empty()) else {
            return Ok(None);
        };
        bounded(&found, name)?;
        Ok(Some(found.into()))
    }

    /// The same, which must be there.
    pub(super) fn needs_name(&self, name: &str, must_be: &str) -> Result<Box<str>, Refused> {
        self.name(name)?.ok_or_else(|| missing(name, must_be))
    }

    /// A request's id: a string, or a number, which is kept as its text. Empty means none.
    pub(super) fn id(&self) -> Result<Option<Box<str>>, Refused> {
        let Some(raw) = self.value("id") else { return Ok(None) };
        Ok(id(raw, "id")?.map(Into::into))
    }

    /// The number of a message or event: as a number, or as the text of one. Units: an offset.
    pub(super) fn offset(&self, name: &str) -> Result<Option<u64>, Refused> {
        let Some(raw) = self.value(name) else { return Ok(None) };
        let digits = text(raw).unwrap_or(Cow::Borrowed(raw));
        // The parser of numbers takes a sign, which JSON does not.
        let offset = digits.parse().ok().filter(|_| !digits.starts_with('+'));
        let offset = offset.filter(|offset| (1..=OFFSET_MAX).contains(offset));
        let must_be = || wrong(name, &format!("a whole number from 1 to {OFFSET_MAX}"));
        offset.map(Some).ok_or_else(must_be)
    }

    /// Refuses a member that is there and is no number.
    pub(super) fn check_number(&self, name: &str) -> Result<(), Refused> {
        match self.value(name) {
            Some(raw) if !is_number(raw) => Err(wrong(name, "a number")),
            Some(_) | None => Ok(()),
        }
    }

    /// A list of strings, which must be there.
    pub(super) fn needs_names(&self, name: &str, most: usize) -> Result<Vec<Box<str>>, Refused> {
        let must_be = format!("an array of at most {most} strings, each the id of a user");
        let raw = self.value(name).ok_or_else(|| missing(name, &must_be))?;
        let (mut names, mut sound) = (Vec::new(), true);
        let is_array = each_element(raw, |element| {
            let user = text(element).filter(|it| !it.is_empty() && bounded(it, name).is_ok());
            match user {
                Some(user) if names.len() < most => names.push(user.into()),
                Some(_) | None => sound = false,
            }
        });
        if is_array && sound { Ok(names) } else { Err(wrong(name, &must_be)) }
    }

    /// An object of those of the members that are there, as they came, each under a name of its own.
    pub(super) fn object(&self, members: &[(&'static str, &str)]) -> Content {
        let mut object = Vec::new();
        Json::new(&mut object).map(|out| {
            for (told, name) in members {
                if let Some(value) = self.value(name) {
                    out.member(told, value);
                }
            }
        });
        Content::Json(Bytes::from(object))
    }
}
