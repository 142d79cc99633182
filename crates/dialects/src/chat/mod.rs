//! The chat dialect: requests, events and acks by which two people write to each other.
//!
//! Owns its words in both directions and the terms of its handshake; never decides who may do what, nor in which room two
//! people talk. Where a name stands twice in one object the last one counts. Source: `docs/dialects/chat.md`.

mod calls;
mod decode;
mod encode;
mod events;
mod handshake;
mod lists;
mod members;
mod messages;
mod request_ids;
mod requests;

use roomcast_protocol::dialect::{
    Declined, Decoder, Dialect, Encoding, Handshake, Negotiated, Profile,
};
use roomcast_protocol::frame::FrameSink;
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::outbound::Outbound;

pub use calls::{CALL_ID_BYTES_MAX, PARTICIPANTS_MAX};
pub use decode::{KEEP_ALIVE_CHARACTERS_MAX, RAW_BYTES_MAX};
pub use lists::write_list;
pub use request_ids::REQUEST_IDS_MAX;

/// The chat dialect, served where configuration says so.
pub static CHAT: Chat = Chat;

/// The subprotocol that is selected where it is offered, for browsers fail a connection without.
pub const SUBPROTOCOL: &str = "protocol";

/// The device of all clients that name none: they share a cursor.
pub const DEVICE: &str = "chat";

/// The chat dialect; holds no state.
#[derive(Clone, Copy, Debug)]
pub struct Chat;

static PROFILE: Profile = Profile {
    joins_own_rooms: true,
    ack_after_ms: 5_000,
    ack_tries: 0,
    silence_ms: 20_000,
    tells_gaps: false,
    tells_online: true,
    refuses_tokens_early: true,
    joins_groups: true,
    ..Profile::PLAIN
};

impl Dialect for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn path(&self) -> &'static str {
        "/chat"
    }

    fn accepts(&self, handshake: &Handshake) -> Result<Negotiated, Declined> {
        handshake::negotiate(handshake)
    }

    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn decoder(&self, _encoding: Encoding, limits: DecodeLimits) -> Box<dyn Decoder> {
        Box::new(decode::ChatDecoder::new(limits))
    }

    fn encode(&self, outbound: &Outbound<'_>, _encoding: Encoding, sink: &mut FrameSink) {
        encode::outbound(outbound, sink);
    }
}
