//! Tests of the native dialect from outside: vectors and properties.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;
#[path = "../shared/framing.rs"]
mod framing;
mod properties;
#[path = "../shared/running.rs"]
mod running;
mod vectors;
