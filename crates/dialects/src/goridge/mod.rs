//! The RPC protocol of RoadRunner's back-ends: goridge frames (version 3), and the calls and answers within them.
//!
//! Owns the bytes in both directions and the origin's texts; never decides who may call, nor carries a call out. It
//! is fed what a socket brought, in pieces of any size, and keeps no more than one frame. Source:
//! `docs/dialects/roadrunner.md`.

mod answers;
mod call;
mod frame;
mod go_base64;
mod json;
mod messages;
mod proto;

pub use answers::{ANSWERS_BYTES_MAX, Answers, CALLS_MAX, CallTicket};
pub use call::{Call, Codec, Publish, Reply, Services};
pub use frame::{BadFrame, FRAME_BYTES_MAX, Frame, PAYLOAD_BYTES_MAX, Reader};
pub use messages::{Message, PUBLICATIONS_MAX};

/// Bits of a frame's second byte.
pub mod flags {
    /// A frame of goridge itself; means nothing in a call.
    pub const CONTROL: u8 = 0x01;
    /// The body is bytes.
    pub const RAW: u8 = 0x04;
    /// The body is JSON.
    pub const JSON: u8 = 0x08;
    /// The body is MessagePack.
    pub const MSGPACK: u8 = 0x10;
    /// The body is Go's own encoding.
    pub const GOB: u8 = 0x20;
    /// The call failed, and the body says why.
    pub const ERROR: u8 = 0x40;
    /// The body is a protobuf message.
    pub const PROTO: u8 = 0x80;
}
