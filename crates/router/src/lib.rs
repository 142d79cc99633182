//! The pure core: sessions, lanes, the hub and what they share. It does no IO, reads no clock, environment or
//! randomness (INV-1) and gives the same effects for the same inputs in the same order (INV-2). Handlers write what
//! they want done into the caller's buffer; nothing stays queued inside that the caller does not ask for.

pub mod alternation;
mod asked;
pub mod coalescing;
pub mod happenings;
pub mod hub;
pub mod lane;
mod made;
mod membership;
pub mod messages;
pub mod meter;
pub mod orders;
pub mod outbox;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(test)]
mod random;
pub mod reader;
pub mod requests;
mod session;
pub mod surveys;
pub mod talks;
mod weights;
mod wheel;
