//! Tests of the RoadRunner dialect from outside: vectors and properties.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

#[path = "../shared/framing.rs"]
mod framing;
mod properties;
#[path = "../shared/running.rs"]
mod running;
mod vectors;
