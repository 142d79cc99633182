//! The last moments of a socket: what was written last must reach the peer, although it may still be sending. Knows
//! nothing of what is sent.

use std::net::Shutdown;
use std::time::Duration;

use tokio::net::TcpStream;

/// Bytes thrown away at most while waiting for the peer's end. Units: bytes.
const DISCARDED_BYTES_MAX: usize = 16 << 20;

/// Says that nothing more comes, and waits for the peer to hang up.
///
/// Closing a socket with unread bytes resets the connection, and the reset can overtake what was written last. Bounds:
/// `limit`, and 16 MiB thrown away. A socket that fails meanwhile is at its end all the same.
pub async fn linger(stream: TcpStream, limit: Duration) {
    if socket2::SockRef::from(&stream).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let until = tokio::time::Instant::now() + limit;
    let mut scratch = [0; 4_096];
    let mut left = DISCARDED_BYTES_MAX;
    while left > 0 {
        let Ok(Ok(())) = tokio::time::timeout_at(until, stream.readable()).await else { return };
        match stream.try_read(&mut scratch) {
            Ok(0) => return,
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
