//! Test orchestration.
fn main() {}
