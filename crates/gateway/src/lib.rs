//! A Roomcast node as a library: sockets, threads, clock and files around the pure router. Decides nothing about
//! rooms; [`node::Node::start`] is the whole of it.

mod api;
mod backend;
mod clock;
pub mod config;
mod core;
mod drain;
pub mod guard;
mod happened;
mod lane;
pub mod measure;
mod metrics;
mod nap;
pub mod node;
mod places;
mod public;
mod queue;
mod relay;
mod rpc;
pub mod system;
pub mod tokens;
pub mod transport;
mod upstream;
mod webhooks;

pub use drain::Drained;
pub use node::{Node, StartError};
