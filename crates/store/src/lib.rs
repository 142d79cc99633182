//! What a broker keeps of rooms, as the one reference for all brokers: streams with positions, the ids of publications,
//! and which rooms moved (G2, G5, G7, G12). Pure: time, the master's name, fresh epochs and hashes come as arguments.
//! Never delivers anything and never decides who may read.

#[cfg(feature = "testing")]
pub mod bare;
mod ids;
mod moved;
mod room;
mod store;
mod stream;

#[cfg(test)]
mod tests;

pub use ids::{Id, id_of};
pub use moved::{MOVED_MAX, TOLD_MAX};
pub use room::META_MS;
pub use store::{
    At, Found, ID_BYTES, Keys, Published, Put, ROOM_BYTES, Remembered, Rules, Store, Swept,
};
pub use stream::{ENTRY_BYTES, Entry};
