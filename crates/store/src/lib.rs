//! What a broker keeps, as the one reference for all brokers: of rooms streams with positions, the ids of publications,
//! which rooms moved, how far inboxes are acked, what users have got and read and who is present; sessions that outlive
//! their connection (G2, G5, G7, G12, G13, G16, G17, G18); and directories. Pure: time, the master's name, fresh epochs and
//! hashes come as arguments. Never delivers anything and never decides who may read.

#[cfg(feature = "testing")]
pub mod bare;
mod directory;
mod ids;
mod inbox;
mod keep;
mod leases;
mod moved;
mod occupancy;
mod presence;
mod receipts;
mod room;
mod sessions;
mod store;
mod stream;
mod untold;

#[cfg(test)]
mod tests;

pub use directory::{DIRECTORY_BYTES, DIRECTORY_ENTRY_BYTES};
pub use ids::{Id, id_of};
pub use inbox::USER_IDLE_MS;
pub use keep::{OLDEST_MAX, SPAN_TIMES};
pub use leases::{Beaten, REAPED_MS, TEND_MAX, Tended, quiet_ms};
pub use moved::{MOVED_MAX, TOLD_MAX};
pub use occupancy::OCCUPANCIES_MAX;
pub use presence::{PRESENCE_MS, Stepped};
pub use receipts::Marking;
pub use room::META_MS;
pub use sessions::SESSION_BYTES;
pub use store::{
    At, Found, ID_BYTES, Keys, Published, Put, ROOM_BYTES, Remembered, Rules, Store, Swept,
};
pub use stream::{ENTRY_BYTES, Entry, HOLE_BYTES, KEY_BYTES, Place};
pub use untold::{CLAIM_MAX, CLAIM_MS, UNTOLD_MAX};
