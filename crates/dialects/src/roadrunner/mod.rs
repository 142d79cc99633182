//! The RoadRunner dialect: what clients of its websockets plugin say and hear.
//!
//! Owns its words in both directions, and which rooms its brokers and topics mean; never decides who may do what.
//! Where a name stands twice in one object the last one counts. Source: `docs/dialects/roadrunner.md`.

mod brokers;
mod decode;
mod encode;

use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::content::Content;
use roomcast_protocol::dialect::{
    Declined, Decoder, Dialect, Encoding, Handshake, Negotiated, Profile,
};
use roomcast_protocol::frame::FrameSink;
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::outbound::Outbound;

pub use brokers::{Alias, Brokers, Nowhere};

use crate::native::bounds;

/// The RoadRunner dialect with the names of its brokers, and whether joins are by call; holds nothing else.
#[derive(Clone, Debug, Default)]
pub struct RoadRunner {
    brokers: Arc<Brokers>,
    joins_by_call: bool,
}

/// Where the application is asked who may join.
static BY_CALL: Profile = Profile { joins_by_call: true, ..Profile::PLAIN };

impl RoadRunner {
    /// With these brokers; the application may be asked who may join.
    #[must_use]
    pub fn new(brokers: Brokers, joins_by_call: bool) -> Self {
        Self { brokers: Arc::new(brokers), joins_by_call }
    }

    /// Which rooms its topics mean: back-ends and clients name the same.
    #[must_use]
    pub fn brokers(&self) -> &Brokers {
        &self.brokers
    }
}

impl Dialect for RoadRunner {
    fn name(&self) -> &'static str {
        "roadrunner"
    }

    fn path(&self) -> &'static str {
        "/roadrunner"
    }

    /// It has no subprotocol and no query of its own: what a client asks for beside is the call's to read.
    fn accepts(&self, _handshake: &Handshake) -> Result<Negotiated, Declined> {
        Ok(Negotiated {
            encoding: Encoding::Json,
            subprotocol: None,
            token: None,
            continuation: None,
        })
    }

    fn profile(&self) -> &'static Profile {
        if self.joins_by_call { &BY_CALL } else { &Profile::PLAIN }
    }

    fn decoder(&self, _encoding: Encoding, limits: DecodeLimits) -> Box<dyn Decoder> {
        Box::new(decode::RoadRunnerDecoder { brokers: Arc::clone(&self.brokers), limits })
    }

    fn encode(&self, outbound: &Outbound<'_>, _encoding: Encoding, sink: &mut FrameSink) {
        encode::outbound(outbound, &self.brokers, sink);
    }
}

/// What a payload of a back-end is: JSON if it is the text of a JSON object, else text, else bytes.
#[must_use]
pub fn content(payload: Bytes, limits: DecodeLimits) -> Content {
    let Ok(text) = std::str::from_utf8(&payload) else { return Content::Binary(payload) };
    let object = text.trim_matches([' ', '\t', '\n', '\r']);
    let is_json = object.starts_with('{')
        && bounds::check(object, limits.depth_max).is_ok()
        && serde_json::from_str::<serde::de::IgnoredAny>(object).is_ok();
    if is_json {
        let json = payload.slice_ref(object.as_bytes());
        return Content::Json(json);
    }
    Content::Text(payload)
}
