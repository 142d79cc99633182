//! Live tests: the binary as real processes on free loopback ports.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are not marked as tests"
)]

mod api;
mod bench;
mod client;
mod common;
mod history;
mod pub_sub;
mod serve;
mod session;
