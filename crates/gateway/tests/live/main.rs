//! A whole node on loopback, met by raw sockets: what good clients see, and what bad ones get.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths and figures of tests are small"
)]

#[path = "../common/mod.rs"]
mod common;

mod bad_frames;
mod bad_messages;
mod bad_tokens;
mod limits_connections;
mod limits_messages;
mod limits_slow;
mod native_rooms;
mod native_session;
mod scene;
