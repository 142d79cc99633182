//! The client protocols: how frames become commands, and how outbounds become frames; and the bytes that nodes relay
//! and that back-ends call with.
//! Pure: never does IO, never reads a clock, never draws a random number (INV-1). A dialect's wire quirks stay in its module.

pub mod chat;
pub mod goridge;
pub mod native;
pub mod relay;
pub mod roadrunner;

use roomcast_protocol::dialect::Dialect;

/// The dialects that are always served, each on its own path. [`chat`] and [`roadrunner`] are served where configuration
/// says so.
pub const ALL: &[&dyn Dialect] = &[&native::NATIVE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_has_its_own_name_and_path() {
        for (index, one) in ALL.iter().enumerate() {
            for other in &ALL[index + 1..] {
                assert_ne!(one.name(), other.name());
                assert_ne!(one.path(), other.path());
            }
        }
        assert!(ALL.iter().any(|dialect| dialect.name() == "native" && dialect.path() == "/ws"));
    }
}
