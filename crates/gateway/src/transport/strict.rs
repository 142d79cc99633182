//! What hyper is too lenient or too patient about, at the socket: lines that end without CR, bytes behind a request,
//! and clients that take no answer. Changes no byte.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Follows the bytes of requests without bodies, one head at a time.
#[derive(Debug, Default)]
pub(super) struct HeadWatch {
    seen: Cell<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    after_cr: bool,
    in_line: bool,
    /// A line that is not empty; empty ones may come before the first (RFC 9112 2.2).
    any_line: bool,
    head_ended: bool,
    bare_lf: bool,
    bytes_behind: bool,
}

impl HeadWatch {
    /// A line of the head ended without CR, which hyper allows and others read differently (RFC 9112 2.2).
    pub(super) fn has_bare_lf(&self) -> bool {
        self.seen.get().bare_lf
    }

    /// More bytes came than the head.
    pub(super) fn has_bytes_behind(&self) -> bool {
        self.seen.get().bytes_behind
    }

    /// The request was answered; what comes now is the next one.
    pub(super) fn restart(&self) {
        self.seen.set(Seen::default());
    }

    fn follow(&self, bytes: &[u8]) {
        let mut seen = self.seen.get();
        for byte in bytes {
            if seen.head_ended {
                seen.bytes_behind = true;
                break;
            }
            match byte {
                b'\n' => {
                    seen.bare_lf |= !seen.after_cr;
                    seen.head_ended = seen.any_line && !seen.in_line;
                    seen.any_line |= seen.in_line;
                    seen.in_line = false;
                }
                b'\r' => {}
                _ => seen.in_line = true,
            }
            seen.after_cr = *byte == b'\r';
        }
        self.seen.set(seen);
    }
}

/// The socket as hyper sees it.
pub(super) struct Strict<'w> {
    stream: TcpStream,
    /// Read before, to be read again.
    early: Bytes,
    watch: &'w HeadWatch,
    write_limit: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<'w> Strict<'w> {
    pub(super) fn new(
        stream: TcpStream,
        early: Bytes,
        watch: &'w HeadWatch,
        write_limit: Duration,
    ) -> Self {
        watch.follow(&early);
        Self { stream, early, watch, write_limit, stalled: None }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// A write that goes on stops the clock; one that waits starts it.
    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let limit = self.write_limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no answer")))
    }
}

impl AsyncRead for Strict<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.has_remaining() {
            let count = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.watch.follow(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Strict<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.timed(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], bare_lf: bool, bytes_behind: bool) {
        for size in [1, 2, 3, bytes.len()] {
            let watch = HeadWatch::default();
            bytes.chunks(size).for_each(|piece| watch.follow(piece));
            assert_eq!((watch.has_bare_lf(), watch.has_bytes_behind()), (bare_lf, bytes_behind));
        }
    }

    #[test]
    fn a_line_without_cr_shows_in_the_head_only() {
        check(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", false, false);
        check(b"GET / HTTP/1.1\nhost: a\r\n\r\n", true, false);
        check(b"GET / HTTP/1.1\r\nhost: a\n\r\n", true, false);
        check(b"GET / HTTP/1.1\r\nhost: a\r\n\n", true, false);
        check(b"GET / HTTP/1.1\n\n", true, false);
        check(b"GET / HTTP/1.1\r\n\r\na\nb", false, true);
    }

    #[test]
    fn empty_lines_before_a_request_do_not_end_it() {
        check(b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", false, false);
        check(b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nx", false, true);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up_at_the_deadline() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let _never_reads = client.unwrap();
        let watch = HeadWatch::default();
        let limit = Duration::from_millis(200);
        let mut strict = Strict::new(accepted.unwrap().0, Bytes::new(), &watch, limit);
        let started = tokio::time::Instant::now();
        let mut written = 0;
        let error = loop {
            match strict.write(&[0; 65_536]).await {
                Ok(count) => written += count,
                Err(error) => break error,
            }
            assert!(written < 1 << 30, "nothing pushed back");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= limit);
    }

    #[test]
    fn each_request_is_followed_from_its_start() {
        let watch = HeadWatch::default();
        watch.follow(b"GET / HTTP/1.1\nhost: a\r\n\r\nx");
        watch.restart();
        watch.follow(b"GET / HTTP/1.1\r\n\r\n");
        assert!(!watch.has_bare_lf() && !watch.has_bytes_behind());
    }
}
