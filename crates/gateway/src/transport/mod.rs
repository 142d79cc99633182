//! How bytes of the public port become frames: HTTP/1.1 with its deadlines, the WebSocket handshake and reader, and the
//! client's address. Knows no dialect, room or user, and keeps INV-8: bytes from outside never panic.

pub mod client_addr;
pub mod http;
pub mod linger;
pub mod problem;
pub mod proxy;
pub mod socket;
mod strict;
pub mod websocket;
