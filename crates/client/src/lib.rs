//! The Rust client of Roomcast's native protocol: connect, join, publish, hear.
//!
//! Owns one WebSocket connection and the matching of answers to requests. Never decides about rights or limits: the
//! node does, and its refusals come back as [`Error::Refused`]. Never reconnects by itself yet: [`Event::Closed`] says
//! whether coming back makes sense, and [`Backoff`] when.
//!
//! ```no_run
//! # async fn example() -> Result<(), roomcast_client::Error> {
//! use roomcast_client::{Event, Options, PublishOptions, connect};
//!
//! let client = connect(Options::new("ws://127.0.0.1:8080/ws", "a token")).await?;
//! client.join("agents").await?;
//! client.publish("agents", "message", &"hello", &PublishOptions::acked()).await?;
//! while let Some(event) = client.next().await {
//!     if let Event::Publication(publication) = event {
//!         assert_eq!(publication.room, "agents");
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
pub mod wire;

pub use backoff::Backoff;
pub use client::{Client, connect};
pub use error::{Closed, Error, Refused};
pub use event::{Ack, Event, Joined, Metadata, Position, Publication, Published, Welcome};
pub use options::{Format, Options, PublishOptions, TokenIn};
pub use roomcast_protocol::publication::Priority;
