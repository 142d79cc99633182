//! Tests of the relay's bytes from outside: vectors and properties.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;
mod kept;
mod properties;
#[path = "../shared/running.rs"]
mod running;
mod vectors;
