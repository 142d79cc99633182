//! A whole node on loopback, met by raw sockets: what good clients see, and what bad ones get.
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

mod bad_frames;
mod bad_messages;
mod bad_tokens;
mod drain;
mod first_message;
mod happenings;
mod limits_connections;
mod limits_messages;
mod limits_slow;
mod native_rooms;
mod native_session;
mod nodes;
mod requests;
mod rules;
mod scene;
mod slow_rooms;
