//! Tests of the chat dialect from outside: vectors, requests, what is told, and properties.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;
mod frames;
#[path = "../shared/framing.rs"]
mod framing;
mod lists;
mod properties;
mod requests;
#[path = "../shared/running.rs"]
mod running;
mod told;
mod vectors;
