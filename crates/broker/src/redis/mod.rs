//! The broker that several nodes share: Redis, alone, watched by Sentinels, or a Cluster.

pub mod options;

pub use options::{Address, Credentials, ModeOf, RedisOptions, Servers, Tls};
