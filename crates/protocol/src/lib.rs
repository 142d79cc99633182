//! The words that every side of Roomcast shares: rooms, publications, commands, outbounds, codes and the seams
//! (`Dialect`, `Decoder`, `Guard`). Owns no behaviour beyond checking its own values; never does IO and never reads
//! a clock (INV-1): time comes in as a [`time::Now`].

pub mod codes;
pub mod command;
pub mod content;
#[cfg(feature = "testing")]
pub mod contract;
pub mod conversation;
pub mod dialect;
pub mod directory;
pub mod envelope;
pub mod frame;
pub mod guard;
pub mod ids;
pub mod inbox;
pub mod limits;
pub mod lists;
pub mod occupancy;
pub mod outbound;
pub mod people;
pub mod position;
pub mod presence;
pub mod publication;
pub mod receipts;
pub mod relay;
pub mod request;
pub mod room;
pub mod session;
pub mod texts;
pub mod time;
