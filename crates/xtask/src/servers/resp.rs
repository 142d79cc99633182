//! A small blocking client for Redis (RESP2), enough to set servers up and to look into them. Not for speed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest text that is taken, and the longest list.
const BYTES_MAX: usize = 16 << 20;
const ITEMS_MAX: usize = 100_000;

/// What Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, such as `OK`.
    Status(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Several answers.
    Array(Vec<Reply>),
    /// Nothing there.
    Nil,
}

impl Reply {
    /// The text of a status, of bytes or of a number; empty for the others.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Array(_) | Self::Nil => String::new(),
        }
    }

    /// The items of an array; empty for the others.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            Self::Status(_) | Self::Integer(_) | Self::Bulk(_) | Self::Nil => &[],
        }
    }

    /// The value after `key` in a flat list of keys and values.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<String> {
        let mut pairs = self.items().chunks_exact(2);
        pairs.find_map(|pair| match pair {
            [name, value] if name.text() == key => Some(value.text()),
            _ => None,
        })
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a port of 127.0.0.1.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(port: u16) -> Result<Self, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connect = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&address, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.set_write_timeout(Some(LIMIT))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connect().map_err(|cause| format!("{address}: {cause}"))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one command and waits for its answer.
    ///
    /// # Errors
    /// Redis refuses it (its words), the connection ends, or no answer within 5 s.
    pub fn command<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<Reply, String> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            let arg = arg.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
        let name = args.first().map(|name| String::from_utf8_lossy(name.as_ref()).into_owned());
        let name = name.unwrap_or_default();
        let told = |cause: std::io::Error| format!("{name}: {cause}");
        self.stream.get_mut().write_all(&bytes).map_err(told)?;
        self.read().map_err(|cause| format!("{name}: {cause}"))
    }

    /// Reads what comes next without asking: a subscriber's messages.
    ///
    /// # Errors
    /// As of [`Client::command`].
    pub fn read(&mut self) -> Result<Reply, String> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or("an empty line")?;
        match kind {
            "+" => Ok(Reply::Status(rest.to_owned())),
            "-" => Err(rest.to_owned()),
            ":" => Ok(Reply::Integer(number(rest)?)),
            "$" => match size(rest, BYTES_MAX)? {
                Some(length) => self.bulk(length),
                None => Ok(Reply::Nil),
            },
            "*" => match size(rest, ITEMS_MAX)? {
                Some(count) => {
                    (0..count).map(|_| self.read()).collect::<Result<_, _>>().map(Reply::Array)
                }
                None => Ok(Reply::Nil),
            },
            _ => Err(format!("no RESP2: {line:?}")),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let taken = (&mut self.stream).take(64 << 10).read_line(&mut line);
        match taken {
            Ok(0) => Err("the connection was closed".to_owned()),
            Ok(_) => {
                line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| "a cut line".into())
            }
            Err(cause) => Err(cause.to_string()),
        }
    }

    fn bulk(&mut self, length: usize) -> Result<Reply, String> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).map_err(|cause| cause.to_string())?;
        bytes.truncate(length);
        Ok(Reply::Bulk(bytes))
    }
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("no number: {text:?}"))
}

/// A length; none for -1.
fn size(text: &str, max: usize) -> Result<Option<usize>, String> {
    match number(text)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) if length <= max => Ok(Some(length)),
            _ => Err(format!("a length of {length}, over {max}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What a client makes of `answer`.
    fn reads(answer: &'static str) -> Result<Reply, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 14];
            stream.read_exact(&mut head).unwrap();
            assert_eq!(&head, b"*1\r\n$4\r\nPING\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let reply = Client::connect(port).unwrap().command(&["PING"]);
        server.join().unwrap();
        reply
    }

    #[test]
    fn answers_of_each_kind_are_read() {
        assert_eq!(reads("+PONG\r\n"), Ok(Reply::Status("PONG".to_owned())));
        assert_eq!(reads(":-7\r\n"), Ok(Reply::Integer(-7)));
        assert_eq!(reads("$-1\r\n"), Ok(Reply::Nil));
        let pairs = reads("*4\r\n$1\r\na\r\n$2\r\n\r\n\r\n$1\r\nb\r\n:2\r\n").unwrap();
        assert_eq!(pairs.items().len(), 4);
        assert_eq!(pairs.field("a").as_deref(), Some("\r\n"));
        assert_eq!(pairs.field("b").as_deref(), Some("2"));
        assert_eq!(pairs.field("2"), None);
    }

    #[test]
    fn refusals_and_broken_answers_are_errors() {
        assert_eq!(reads("-ERR no\r\n"), Err("PING: ERR no".to_owned()));
        for broken in ["", "+PON", "!x\r\n", "$-2\r\n", "$99999999999\r\n", "$5\r\nab\r\n"] {
            assert!(reads(broken).is_err(), "{broken:?}");
        }
    }
}
