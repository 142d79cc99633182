//! Tests about the repository itself: each check is a function from text to what is wrong with it, proven on a bad
//! sample here; `tests/` applies them to this repository. It knows nothing of the product but its files.

pub mod codes;
pub mod crates;
pub mod generated;
pub mod repo;
pub mod rust;
pub mod text;
