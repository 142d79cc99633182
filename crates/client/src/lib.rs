//! The Rust client of Roomcast's native protocol: connect, join, publish, hear.
//!
//! Two layers. A [`Session`] is what applications use: it survives its connections, comes back by itself, takes its rooms
//! along, and tells what it could not mend. A [`Client`] is one connection: [`Event::Closed`] says whether coming back makes
//! sense, and [`Backoff`] when. Neither decides about rights or limits: the node does, and its refusals come back as
//! [`Error::Refused`].
//!
//! ```no_run
//! # async fn example() -> Result<(), roomcast_client::Error> {
//! use roomcast_client::{PublishOptions, SessionEvent, SessionOptions, session};
//!
//! let options = SessionOptions::new("ws://127.0.0.1:8080/ws", "a token")
//!     .get_token(|| async { Ok("a new token".to_owned()) });
//! let session = session(options)?;
//! session.join("agents").await?;
//! session.publish("agents", "message", &"hello", &PublishOptions::acked()).await?;
//! while let Some(event) = session.next().await {
//!     match event {
//!         SessionEvent::Publication(publication) => assert_eq!(publication.room, "agents"),
//!         SessionEvent::Gap { room, .. } => eprintln!("load anew: {room:?}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod backoff;
mod client;
mod driver;
mod error;
mod event;
mod handshake;
mod options;
mod pending;
mod receipts;
mod roster;
mod session;
pub mod wire;

pub use backoff::Backoff;
pub use client::{Client, connect};
pub use error::{Closed, Error, Refused};
pub use event::{
    Ack, Drain, Event, Joined, Metadata, Position, Presence, Publication, Published, Response,
    ResumeOffer, Roster, RosterPage, Welcome,
};
pub use options::{Continuation, Format, Options, PublishOptions, TokenIn};
pub use receipts::{Marked, Receipt, Receipts, ReceiptsPage, ReceiptsQuery};
pub use roomcast_protocol::publication::Priority;
pub use session::{
    Acks, Heartbeat, Reconnect, Reliable, RoomState, RoomStatus, Session, SessionCounters,
    SessionEvent, SessionOptions, SessionState, session,
};
