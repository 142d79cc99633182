//! RoadRunner's back-ends and browsers met by a whole node: calls as their clients send them, and one audience with
//! everybody else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests fail as tests do, and their figures are small"
)]

#[path = "../common/mod.rs"]
mod common;

mod audience;
mod caller;
mod calls;
mod endpoint;
mod misuse;
mod permission;
