//! What the tests of bad input share: a node, somebody who misbehaves, and a bystander who must not notice.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};

use crate::common::ws::Ws;
use crate::common::{Bystander, Live};

/// Clients end before the node does.
pub(crate) struct Scene {
    /// The user `eve`, in no room but her own.
    pub(crate) eve: Ws,
    pub(crate) bystander: Bystander,
    pub(crate) live: Live,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(overrides: &[(&str, &str)]) -> Self {
        let many = [("limits.messages_per_minute", "100000")];
        let all: Vec<_> = many.into_iter().chain(overrides.iter().copied()).collect();
        let live = Live::start(&all);
        let bystander = Bystander::join(&live);
        let eve = live.user("eve");
        Self { eve, bystander, live }
    }

    /// The connection that got an error lives, and so does the one beside it.
    #[track_caller]
    pub(crate) fn all_live(&mut self) {
        expect_pong(&mut self.eve);
        self.bystander.lives();
    }
}

/// The connection answers.
#[track_caller]
pub(crate) fn expect_pong(ws: &mut Ws) {
    let pong = ws.ask(&json!({ "type": "ping", "timestamp": 7 }));
    assert_eq!(pong, json!({ "type": "pong", "timestamp": 7 }));
}

/// A `compressed` message as pako 1.x makes it: one character for each byte.
pub(crate) fn compressed(deflated: &[u8]) -> Value {
    let data: String = deflated.iter().copied().map(char::from).collect();
    json!({ "type": "compressed", "data": data })
}

/// A zlib stream.
pub(crate) fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut stream = ZlibEncoder::new(Vec::new(), Compression::best());
    stream.write_all(plain).unwrap();
    stream.finish().unwrap()
}
