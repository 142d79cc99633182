//! Tests of the RoadRunner dialect from outside: vectors and properties.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod properties;
mod vectors;
