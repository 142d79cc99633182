//! Reading a socket without asking it twice. Knows nothing of what is read.

use std::io;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// Like [`TcpStream::try_read`], but remembers that a read which did not fill the buffer emptied the socket, so that
/// the next `poll_read_ready` waits instead of causing a read that finds nothing.
///
/// Sound because the socket is edge-triggered: more data, or the end, is a new event (epoll(7), question 9). Asking twice
/// costs one system call for each message of a client that sends them one by one.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if nothing is there, or what reading the socket gave.
pub fn read_available(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut emptied = None;
    let read = stream.try_io(Interest::READABLE, || {
        let count = rustix::io::read(stream, &mut *buffer)?;
        if 0 < count && count < buffer.len() {
            emptied = Some(count);
            return Err(io::ErrorKind::WouldBlock.into()); // tells tokio to wait for the next event
        }
        Ok(count)
    });
    emptied.map_or(read, Ok)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    /// Waits until the socket says it is ready, then reads.
    async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let reading = async {
            loop {
                poll_fn(|cx| stream.poll_read_ready(cx)).await?;
                match read_available(stream, buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => return other,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap()
    }

    async fn is_ready(stream: &TcpStream) -> bool {
        poll_fn(|cx| Poll::Ready(stream.poll_read_ready(cx).is_ready())).await
    }

    #[tokio::test]
    async fn an_emptied_socket_is_not_ready_until_more_comes() {
        let (mut client, server) = pair().await;
        let mut buffer = [0; 8];
        for _ in 0..100 {
            client.write_all(b"one").await.unwrap();
            assert_eq!(read(&server, &mut buffer).await.unwrap(), 3);
            assert!(!is_ready(&server).await, "a second read would find nothing");
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_there_at_the_next_read() {
        let (mut client, server) = pair().await;
        client.write_all(b"twelve bytes").await.unwrap();
        let mut buffer = [0; 4];
        for part in [b"twel", b"ve b", b"ytes"] {
            assert_eq!(read(&server, &mut buffer).await.unwrap(), 4);
            assert_eq!(&buffer, part);
        }
    }

    #[tokio::test]
    async fn the_end_is_seen_behind_the_last_bytes() {
        for waits in [false, true] {
            let (mut client, server) = pair().await;
            let mut buffer = [0; 8];
            client.write_all(b"last").await.unwrap();
            if waits {
                assert_eq!(read(&server, &mut buffer).await.unwrap(), 4);
                drop(client);
            } else {
                drop(client);
                assert_eq!(read(&server, &mut buffer).await.unwrap(), 4);
            }
            assert_eq!(read(&server, &mut buffer).await.unwrap(), 0);
        }
    }
}
