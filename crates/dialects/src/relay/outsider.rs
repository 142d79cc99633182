//! What other programs publish on `room:<name>`, made into publications.
//!
//! Owns what an outsider may say about its publication: never who sent it, and never a type of the protocol itself.
//! What is wrong is ignored, with one exception: who asked for permissions that cannot be read is not heard by all.

use bytes::Bytes;
use roomcast_protocol::codes::Refusal;
use roomcast_protocol::content::Content;
use roomcast_protocol::publication::{Priority, Publication, TEXT_BYTES_MAX};
use roomcast_protocol::relay::{ClusterTime, Relayed, Unreadable};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{is_iso8601, iso8601};

use super::{Envelopes, OUTSIDER, from_cluster};
use crate::native::bounds;
use crate::native::decode::{is_system_type, requires, ttl_s};
use crate::native::fields::{Fields, Key, text};

/// The type of what names none.
const KIND: &str = "message";

/// What is known of an outsider's payload before it is read.
pub(super) struct Outsider<'a> {
    pub(super) envelopes: Envelopes,
    pub(super) room: &'a RoomName,
    pub(super) time: ClusterTime,
    pub(super) serial: u64,
}

impl Outsider<'_> {
    pub(super) fn read(&self, payload: &Bytes) -> Result<Relayed, Unreadable> {
        if payload.len() > self.envelopes.message_bytes_max {
            return Err(Unreadable::TooLarge);
        }
        let text = std::str::from_utf8(payload).map_err(|_| Unreadable::Malformed)?;
        let publication = match self.object(text)? {
            Some((fields, object)) => self.seed_form(payload, &fields, object)?,
            None => self.publication(Content::Text(payload.clone())),
        };
        Ok(Relayed { publication, published_us: None })
    }

    /// The text's members and itself without the space around it; `None`: it is no JSON object.
    ///
    /// Half of a surrogate pair is no JSON here, as for clients: strict parsers could not read it.
    fn object<'t>(&self, text: &'t str) -> Result<Option<(Fields<'t>, &'t str)>, Unreadable> {
        let object = text.trim_matches([' ', '\t', '\n', '\r']);
        let mut fields = Fields::default();
        if !object.starts_with('{') || fields.read(object).is_err() {
            return Ok(None);
        }
        match bounds::check(object, self.envelopes.depth_max) {
            Ok(()) => Ok(Some((fields, object))),
            Err(refused) if refused.refusal == Refusal::TooLarge => Err(Unreadable::TooLarge),
            Err(_) => Ok(None),
        }
    }

    fn seed_form(
        &self,
        payload: &Bytes,
        fields: &Fields<'_>,
        object: &str,
    ) -> Result<Publication, Unreadable> {
        let metadata = Fields::of(fields.value(Key::Metadata));
        let data = fields.raw(Key::Data).unwrap_or(object);
        let mut found = self.publication(Content::Json(payload.slice_ref(data.as_bytes())));
        if let Ok(Some(id)) = fields.id(Key::Id, "id") {
            found.id = id.into();
        }
        if let Some(kind) = fields.value(Key::Type).and_then(text)
            && (1..=TEXT_BYTES_MAX).contains(&kind.len())
            && !is_system_type(&kind)
        {
            found.kind = kind.into();
        }
        if let Some(timestamp) = fields.value(Key::Timestamp).and_then(text)
            && is_iso8601(&timestamp)
        {
            found.timestamp = timestamp.into();
        }
        let priority = metadata.value(Key::Priority).and_then(text);
        found.priority = priority.and_then(|name| Priority::parse(&name));
        found.ttl_s = ttl_s(&metadata).unwrap_or_default();
        found.expires_unix_ms = found.ttl_s.map(|ttl_s| {
            let expires_ms = (self.time.now_us / 1_000).saturating_add(u64::from(ttl_s) * 1_000);
            from_cluster(expires_ms, self.time)
        });
        let correlation_id = metadata.id(Key::CorrelationId, "metadata.correlation_id");
        found.correlation_id = correlation_id.unwrap_or_default().map(Into::into);
        found.requires = requires(&metadata).map_err(|_| Unreadable::Malformed)?;
        Ok(found)
    }

    /// A publication that says nothing about itself.
    fn publication(&self, content: Content) -> Publication {
        let ClusterTime { now_us, .. } = self.time;
        Publication {
            id: format!("{OUTSIDER}-{now_us:x}-{:x}", self.serial).into(),
            kind: KIND.into(),
            timestamp: iso8601(now_us / 1_000).into(),
            sender: OUTSIDER.into(),
            ..Publication::bare(self.room.clone(), content)
        }
    }
}
