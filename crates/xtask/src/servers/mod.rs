//! Real servers for tests: Redis alone, with Sentinels, as a Cluster, and a TCP proxy that fails on demand. Each
//! listens on 127.0.0.1 at a free port, has a folder of its own, and is gone when its value is dropped or when the
//! process ends, however that happens. Nothing here knows what Roomcast does with them.

mod certificates;
mod child;
mod cluster;
mod proxy;
mod redis;
mod resp;
mod sentinels;

pub use child::free_port;
pub use cluster::{Cluster, SLOTS};
pub use proxy::{Direction, Proxy};
pub use redis::Redis;
pub use resp::{Client, Reply};
pub use sentinels::Sentinels;

pub(crate) use child::{Folder, Server};

use std::time::{Duration, Instant};

/// Asks `probe` until it answers, for at most `limit`.
///
/// Errors: it did not answer in time; the last cause is told.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(found) => return Ok(found),
            Err(cause) if Instant::now() > deadline => {
                return Err(format!("not within {} s: {what}: {cause}", limit.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
