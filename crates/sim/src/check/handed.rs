//! What a lane hands over to a connection, at that moment: G6 (nothing after its expiry), G22 (nothing to a user who was
//! kicked), I5 (nothing without the permission that the session's token holds).

use crate::bus::server::EPOCH_MS;
use crate::rules::rule;
use crate::wire::{Framed, Wire, frame, published};
use crate::world::World;

/// How far clocks may be apart: a node learns the cluster's time from a round trip of at most a second, and servers
/// differ by 60 ms. Units: milliseconds.
const CLOCKS_MS: u64 = 1_200;

/// How long a permission may be taken away without that showing. Units: milliseconds. Source: I5.
const RIGHTS_MS: u64 = 1_000;

impl World {
    /// A lane hands frames to a socket.
    pub(crate) fn check_handed(&mut self, socket: usize, frames: &[u8]) {
        let talker = self.sockets[socket].talker();
        let mut rest = frames;
        while let Some((framed, length)) = frame(rest) {
            if let Framed::Text(text) = framed {
                if let Some(talker) = talker {
                    self.note_handed_chat(talker, text);
                } else if let Some(number) = published(text) {
                    self.check_inflight(socket, number, text);
                    self.check_handed_publication(socket, number, text);
                } else if text.starts_with("{\"type\":\"history\"") {
                    self.check_handed_history(socket, text);
                } else {
                    self.note_begun_anew(socket, text);
                }
            }
            rest = &rest[length..];
        }
    }

    /// What history shows is handed over as well.
    fn check_handed_history(&mut self, socket: usize, text: &str) {
        let Ok(wire) = Wire::read(text) else { return };
        let Ok(data) = wire.data() else { return };
        for text in data.publications.iter().flatten() {
            if let Some(number) = published(text.get()) {
                self.check_handed_publication(socket, number, text.get());
            }
        }
    }

    fn check_handed_publication(&mut self, socket: usize, number: usize, text: &str) {
        self.check_kicked(socket, number);
        let it = &self.sockets[socket];
        let client = it.client;
        let made = self.book.pubs[number].made;
        let about = [format!("c{client}"), format!("p{number}")];
        let (permissions, at_ms) = &it.permissions;
        let holds = |needed: &str| permissions.iter().any(|it| it == needed);
        let lacks = rule(made.room).needs.is_some_and(|needed| !holds(needed))
            || made.requires && !holds("r");
        if lacks && self.now_ms > at_ms + RIGHTS_MS {
            self.book.violate("I5", &about, || {
                format!("p{number} is handed to c{client}, who lacks the permission")
            });
        }
        let expires_ms = self.book.pubs[number].expires_ms;
        // What was accepted in isolation expires by its node's own clock.
        let isolated = text.contains("\"isolated\":true");
        if let Some(expires_ms) = expires_ms.filter(|_| !isolated)
            && EPOCH_MS + self.now_ms > expires_ms + CLOCKS_MS
        {
            let now_ms = self.now_ms;
            self.book.violate("G6", &about, || {
                let late_ms = EPOCH_MS + now_ms - expires_ms;
                format!("p{number} is handed to c{client} {late_ms} ms after its expiry")
            });
        }
    }
}
