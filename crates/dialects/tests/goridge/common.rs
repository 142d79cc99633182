//! What the tests of the RPC protocol share: the vectors, and a server that carries every call out.

use roomcast_dialects::goridge::{BadFrame, Call, Frame, Reader, Services};
use serde::Deserialize;

/// Captured from clients and servers that are not ours.
pub(crate) const FILES: [&str; 3] = [
    include_str!("../../vectors/goridge/goridge_rpc.json"),
    include_str!("../../vectors/goridge/goridge_php_client.json"),
    include_str!("../../vectors/goridge/origin.json"),
];

/// All services that there are.
pub(crate) const ALL: Services = Services { websockets: true };

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    #[serde(alias = "call")]
    pub(crate) name: String,
    request_hex: String,
    response_hex: String,
}

impl Case {
    pub(crate) fn request(&self) -> Vec<u8> {
        from_hex(&self.request_hex)
    }

    /// Empty where the connection is dropped.
    pub(crate) fn response(&self) -> Vec<u8> {
        from_hex(&self.response_hex)
    }
}

pub(crate) fn cases(file: &str) -> Vec<Case> {
    serde_json::from_str::<Vectors>(file).unwrap().vectors
}

pub(crate) fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}

/// Shows every frame of a stream that comes in these pieces; what ends it, if anything does.
pub(crate) fn each_frame<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    mut see: impl FnMut(&Frame<'_>),
) -> Option<BadFrame> {
    let mut reader = Reader::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.frame() {
                Ok(Some(frame)) => see(&frame),
                Ok(None) => break,
                Err(bad) => return Some(bad),
            }
        }
    }
    None
}

/// The answers of a server with which every publication succeeds.
pub(crate) fn served(bytes: &[u8], services: Services) -> Result<Vec<u8>, BadFrame> {
    let mut out = Vec::new();
    let bad = each_frame([bytes], |frame| match Call::read(frame, services) {
        Call::Publish(publish) => publish.reply.write(true, &mut out),
        Call::Refused { reply, text } => reply.write_error(&text, &mut out),
    });
    bad.map_or(Ok(out), Err)
}
