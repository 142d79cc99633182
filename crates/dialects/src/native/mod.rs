//! The native dialect: the SysManage WebSocket protocol, in JSON and in MessagePack.
//!
//! Owns its words in both directions and the terms of its handshake; never decides who may do what. Every form that
//! the seed prints is accepted (flat and full envelope) and answered as the seed shows. Where a key stands twice in
//! one object the last one counts, as for `JSON.parse`. Source: `docs/dialects/native.md`.

mod backend;
pub(crate) mod bounds;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod fields;
pub(crate) mod handshake;
mod inflate;
mod msgpack;
mod receipts;
mod requests;
mod schema;
pub(crate) mod writer;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::Publish;
use roomcast_protocol::dialect::{
    Declined, Decoder, Dialect, Encoding, Handshake, Negotiated, Profile,
};
use roomcast_protocol::frame::FrameSink;
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::outbound::Outbound;

pub use backend::{BackendLimits, batch_from_json, broadcast_from_json, publication_to_json};

/// The native dialect.
pub static NATIVE: Native = Native;

/// The subprotocol whose frames are JSON text; what is spoken where none is asked for.
pub const SUBPROTOCOL_JSON: &str = "roomcast.v1.json";

/// The subprotocol whose frames are MessagePack maps with the JSON names.
pub const SUBPROTOCOL_MSGPACK: &str = "roomcast.v1.msgpack";

/// JSON text over this size leaves deflated towards clients that said `compressed: true`. Units: bytes.
/// Source: the seed's `compressMessage`.
pub const DEFLATE_OVER_BYTES: usize = 1_024;

/// The native dialect; holds no state.
#[derive(Clone, Copy, Debug)]
pub struct Native;

static PROFILE: Profile = Profile {
    joins_own_rooms: true,
    resumes: true,
    resumes_unasked: true,
    drops_on_drain: true,
    ..Profile::PLAIN
};

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn path(&self) -> &'static str {
        "/ws"
    }

    fn accepts(&self, handshake: &Handshake) -> Result<Negotiated, Declined> {
        handshake::negotiate(handshake)
    }

    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn decoder(&self, encoding: Encoding, limits: DecodeLimits) -> Box<dyn Decoder> {
        Box::new(decode::NativeDecoder::new(encoding, limits))
    }

    fn encode(&self, outbound: &Outbound<'_>, encoding: Encoding, sink: &mut FrameSink) {
        encode::outbound(outbound, encoding, sink);
    }
}

/// Reads one publication in the native envelope, as `POST /api/v1/publish` takes it.
///
/// # Errors
/// The refusal that the same message would get on a socket: 100 not JSON, 101 a system type, 102 a field missing or
/// wrong, 103 too deep.
pub fn publish_from_json(body: &[u8], limits: DecodeLimits) -> Result<Publish, Refused> {
    decode::publish_from_json(body, limits)
}
