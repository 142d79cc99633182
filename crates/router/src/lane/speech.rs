//! What is said to one session alone: encoded for its client, and never let go.

use bytes::Bytes;
use roomcast_protocol::dialect::Format;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::Outbound;

use super::Lane;
use crate::messages::Effect;
use crate::session::Session;

impl Lane {
    pub(super) fn format_index(&mut self, format: Format) -> u8 {
        let at = self.formats.iter().position(|known| *known == format).unwrap_or_else(|| {
            self.formats.push(format);
            self.formats.len() - 1
        });
        u8::try_from(at).unwrap_or(u8::MAX)
    }

    /// Sends to the session's client alone.
    pub(super) fn send(&mut self, key: SessionKey, outbound: &Outbound<'_>, out: &mut Vec<Effect>) {
        self.encode_for(key, out, |_| Some(*outbound));
    }

    /// The same of what `make` finds in the session.
    pub(super) fn encode_for<'a>(
        &'a mut self,
        key: SessionKey,
        out: &mut Vec<Effect>,
        make: impl FnOnce(&'a Session) -> Option<Outbound<'a>>,
    ) {
        let session = self.sessions.get(key.index as usize).filter(|session| session.key == key);
        let Some(session) = session else { return };
        let Some(format) = self.formats.get(usize::from(session.format)) else { return };
        if let Some(outbound) = make(session) {
            self.sink.clear();
            format.dialect.encode(&outbound, format.encoding, &mut self.sink);
            let frame = Bytes::copy_from_slice(self.sink.bytes());
            if !frame.is_empty() {
                out.push(Effect::reply(key.index, frame));
            }
        }
    }
}
