//! WebSocket, RFC 6455, the server's side: handshake, reader and writer. No IO; extensions are never agreed to.

pub mod handshake;
mod head;
pub mod reader;
mod violation;
pub mod writer;
