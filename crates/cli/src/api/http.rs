//! One connection to a node's internal port, which is kept: requests go out, and their answers come back, one at a time.
//! Knows no more of HTTP/1.1 than that port speaks: answers with a length.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::failure::Failure;

/// Longest wait for an answer: longer than a node ever waits itself.
const LIMIT: Duration = Duration::from_secs(60);

/// Head of one answer. Units: bytes.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// Body of one answer. Units: bytes.
const BODY_BYTES_MAX: usize = 256 << 20;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A connection.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Http {
    /// Connects to `host:port`.
    pub(crate) fn connect(address: &str) -> Result<Self, Failure> {
        let failed = |cause: std::io::Error| {
            Failure::failed(&format!("the internal port {address} cannot be reached"), &cause)
        };
        let stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { stream: BufReader::new(stream), host: address.to_owned() })
    }

    /// Asks, and takes the answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            if value.bytes().any(|byte| byte.is_ascii_control()) {
                return Err(Failure::Usage(format!("{name} holds a control character")));
            }
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str("Content-Type: application/json\r\n");
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer, Failure> {
        let broken = || Failure::Failed("the answer is no HTTP/1.1 with a length".to_owned());
        let mut head = self.stream.by_ref().take(HEAD_BYTES_MAX);
        let mut line = String::new();
        head.read_line(&mut line)?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(broken)?;
        let mut length = None;
        loop {
            line.clear();
            if head.read_line(&mut line)? == 0 {
                return Err(broken());
            }
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<usize>().ok();
            }
        }
        let length = length.filter(|length| *length <= BODY_BYTES_MAX).ok_or_else(broken)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn answers_come_one_after_the_other_over_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            for answer in
                ["HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\n\r\n{}", "HTTP/1.1 401 No\r\n\r\n"]
            {
                let mut buffer = [0; 1_024];
                let count = stream.read(&mut buffer).unwrap();
                asked.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        let mut http = Http::connect(&address).unwrap();
        let key = [("Authorization", "Bearer k".to_owned())];
        let answer = http.ask("POST", "/a", &key, b"[1]").unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"{}"[..]));
        assert!(http.ask("GET", "/b", &[], b"").is_err(), "an answer without a length");
        let asked = server.join().unwrap();
        assert!(asked.starts_with(&format!(
            "POST /a HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer k\r\n\
             Content-Type: application/json\r\nContent-Length: 3\r\n\r\n[1]GET /b HTTP/1.1\r\n"
        )));
        let split = http.ask("GET", "/", &[("A", "b\r\nC: d".to_owned())], b"");
        assert!(matches!(split, Err(Failure::Usage(_))));
    }
}
