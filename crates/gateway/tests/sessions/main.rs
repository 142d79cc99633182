//! Sessions that go on elsewhere, on two whole nodes with both brokers: resume, hand-over, drain, presence (G13, G14,
//! G18, G19).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a helper that fails shall fail its test; the helpers are shared by several test programs"
)]

#[path = "../common/mod.rs"]
mod common;

mod former;
mod handover;
mod inboxes;
mod presence;
mod receipts;
mod resume;
mod stage;
