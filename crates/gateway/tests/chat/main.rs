//! The chat protocol on real nodes: clients as the seed has them, on one node and on several.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod chat;
#[path = "../common/mod.rs"]
mod common;
mod dialog;
mod door;
mod groups;
mod lists;
mod people;
mod privacy;
mod sequence;
