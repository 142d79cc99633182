//! Who is in a room, as its members ask and are told.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::PresenceRequest;
use roomcast_protocol::ids::SessionKey;

use super::Lane;
use crate::messages::Effect;

impl Lane {
    /// Answers who is in a room.
    pub(super) fn ask_presence(
        &mut self,
        key: SessionKey,
        request: &PresenceRequest,
        out: &mut Vec<Effect>,
    ) {
        self.refuse(key, &request.reply, &Refused::new(Refusal::PermissionDenied), out);
    }
}
