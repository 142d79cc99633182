//! Dead letters of webhooks: what the application could not be told is kept in the room `$dead`, where all nodes list it.
//! The core publishes it, as the system; nobody hears the room.

use roomcast_protocol::position::Keep;
use roomcast_protocol::publication::Publication;

/// The room's name. No client, back-end or outsider reaches it.
pub const DEAD: &str = "$dead";

/// What it keeps: the newest entries, of one event and webhook the newest alone.
pub const DEAD_KEEP: Keep = Keep {
    size: 10_000,
    bytes_max: 16 << 20,
    ttl_ms: 7 * 24 * 3_600_000,
    replicated: false,
    inbox: None,
};

/// Of what the newest entry is enough: the core writes it as the link to the event.
pub(super) fn collapse_key(publication: &Publication) -> Option<Box<str>> {
    publication.correlation_id.clone()
}
