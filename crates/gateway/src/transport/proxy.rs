//! The PROXY protocol, versions 1 and 2: a balancer's line before the first byte that names the client's address.
//! Believed only where it is switched on and from trusted networks; there it is required, never guessed.
//!
//! Source: HAProxy's `proxy-protocol.txt`, 2 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::client_addr::TrustedProxies;

/// The longest line of version 1, its CRLF included. Units: bytes.
const LINE_BYTES_MAX: usize = 107;

/// The longest header of version 2, addresses and TLVs included. Units: bytes.
const HEADER_BYTES_MAX: usize = 4_096;

const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client's address; nothing where the proxy speaks for itself or does not know.
    pub source: Option<SocketAddr>,
    /// How many bytes it took.
    pub bytes: usize,
}

/// Why a connection was dropped before its first request.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Not from a trusted network.
    #[error(
        "this port takes connections from trusted proxies only: add the peer's network to \
         `trusted_proxies`, or switch `proxy_protocol` off"
    )]
    Untrusted,
    /// It does not begin with a header.
    #[error("no PROXY protocol header: have the balancer send one, or switch `proxy_protocol` off")]
    Missing,
    /// It begins with a header that breaks the protocol.
    #[error("malformed PROXY protocol header")]
    Malformed,
    /// The header is longer than its limit.
    #[error("PROXY protocol header over the limit of {HEADER_BYTES_MAX} bytes")]
    TooLong,
    /// The header took too long.
    #[error("PROXY protocol header not complete within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The peer hung up within the header.
    #[error("the peer hung up within the PROXY protocol header")]
    Truncated,
    /// The socket failed.
    #[error("reading the PROXY protocol header failed")]
    Io(#[from] std::io::Error),
}

/// Reads the header from the start of a connection; gives the client's address, if the header names one, and the
/// bytes behind it.
///
/// # Errors
/// Each is a reason to drop the connection at once.
pub async fn accept(
    stream: &mut TcpStream,
    peer: IpAddr,
    trusted: &TrustedProxies,
    limit: Duration,
) -> Result<(Option<SocketAddr>, Bytes), ProxyError> {
    if !trusted.trusts(peer) {
        return Err(ProxyError::Untrusted);
    }
    let reading = async {
        let mut bytes = BytesMut::with_capacity(512);
        loop {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(ProxyError::Truncated);
            }
            if let Some(header) = parse(&bytes)? {
                let rest = bytes.split_off(header.bytes);
                return Ok((header.source, rest.freeze()));
            }
        }
    };
    tokio::time::timeout(limit, reading).await.unwrap_or(Err(ProxyError::TimedOut(limit)))
}

/// Reads a header from the start of `bytes`; nothing, if more bytes are needed.
///
/// # Errors
/// [`ProxyError::Missing`], [`ProxyError::Malformed`] or [`ProxyError::TooLong`], as soon as the bytes show it.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let begins = |signature: &[u8]| {
        let common = signature.len().min(bytes.len());
        bytes.get(..common) == signature.get(..common)
    };
    if begins(SIGNATURE_1) {
        parse_line(bytes)
    } else if begins(SIGNATURE_2) {
        parse_binary(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

fn parse_line(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let within = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        let is_over = bytes.len() >= LINE_BYTES_MAX || within.contains(&b'\n');
        return if is_over { Err(ProxyError::Malformed) } else { Ok(None) };
    };
    let line = within.get(SIGNATURE_1.len()..end).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let source = source_of_line(line).ok_or(ProxyError::Malformed)?;
    Ok(Some(Header { source, bytes: end + 2 }))
}

/// Reads `TCP4 from to port port`, `TCP6 ..`, or `UNKNOWN` and anything.
fn source_of_line(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (from, to): (IpAddr, IpAddr) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (port, to_port) = (parse_port(words.next()?)?, parse_port(words.next()?)?);
    let is_family = match family {
        "TCP4" => from.is_ipv4() && to.is_ipv4(),
        "TCP6" => from.is_ipv6() && to.is_ipv6(),
        _ => false,
    };
    let source = SocketAddr::new(from.to_canonical(), port);
    (is_family && to_port != 0 && words.next().is_none()).then_some(Some(source))
}

/// Decimal, without sign or leading zeros.
fn parse_port(word: &str) -> Option<u16> {
    let is_plain =
        word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if is_plain { word.parse().ok() } else { None }
}

fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let fixed = SIGNATURE_2.len() + 4;
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE_2.len()..fixed) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || command & 0x0f > 1 {
        return Err(ProxyError::Malformed);
    }
    if fixed + length > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(body) = bytes.get(fixed..fixed + length) else { return Ok(None) };
    let is_local = command & 0x0f == 0;
    let source = if is_local { None } else { source_of_body(family, body)? };
    Ok(Some(Header { source, bytes: fixed + length }))
}

/// The first address of a binary header's body; what follows the addresses are TLVs, which are not looked at.
fn source_of_body(family: u8, body: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    match family {
        0x11 => {
            let addresses: &[u8; 12] = body.first_chunk().ok_or(ProxyError::Malformed)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
            let ip = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
            Ok(Some(SocketAddr::new(ip, u16::from_be_bytes([high, low]))))
        }
        0x21 => {
            let addresses: &[u8; 36] = body.first_chunk().ok_or(ProxyError::Malformed)?;
            let ip: &[u8; 16] = addresses.first_chunk().ok_or(ProxyError::Malformed)?;
            let [high, low] = [addresses[32], addresses[33]];
            let ip = IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical();
            Ok(Some(SocketAddr::new(ip, u16::from_be_bytes([high, low]))))
        }
        // Unspecified, or a UNIX socket: the connection itself is all that is known.
        0x00 | 0x31 => Ok(None),
        _ => Err(ProxyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header must be read however many bytes of it and behind it are there.
    #[track_caller]
    fn check(header: &[u8], expected: Option<&str>) {
        for cut in 0..header.len() {
            assert!(matches!(parse(&header[..cut]), Ok(None)), "cut at {cut}");
        }
        let source = expected.map(|source| source.parse().unwrap());
        let bytes = [header, b"GET / HTTP/1.1\r\n"].concat();
        let parsed = parse(&bytes).unwrap();
        assert_eq!(parsed, Some(Header { source, bytes: header.len() }));
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE_2.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn lines_of_version_1_are_read() {
        check(b"PROXY TCP4 192.0.2.1 10.0.0.1 5678 443\r\n", Some("192.0.2.1:5678"));
        check(b"PROXY TCP6 2001:db8::1 fd00::1 5678 443\r\n", Some("[2001:db8::1]:5678"));
        check(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 443\r\n", Some("192.0.2.1:1"));
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", None);
    }

    #[test]
    fn headers_of_version_2_are_read() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x16, 0x2e, 1, 187];
        check(&binary(0x21, 0x11, &v4), Some("192.0.2.1:5678"));
        let tlvs = [&v4[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        check(&binary(0x21, 0x11, &tlvs), Some("192.0.2.1:5678"));
        let mut v6 = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets().to_vec();
        v6.extend([0; 16]);
        v6.extend([0x16, 0x2e, 1, 187]);
        check(&binary(0x21, 0x21, &v6), Some("[2001:db8::1]:5678"));
        check(&binary(0x20, 0x11, &v4), None);
        check(&binary(0x20, 0x00, b""), None);
        check(&binary(0x21, 0x00, b"tlv"), None);
        check(&binary(0x21, 0x31, &[0; 216]), None);
        check(&binary(0x21, 0x00, &[0; HEADER_BYTES_MAX - 16]), None);
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_byte() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PROXX", b"\r\n\r\nGET", b"\x16\x03\x01"] {
            assert!(matches!(parse(bytes), Err(ProxyError::Missing)), "{bytes:?}");
        }
    }

    #[test]
    fn broken_lines_are_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678 443 1\r\n",
            "PROXY TCP4  192.0.2.1 10.0.0.1 5678 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 01 443\r\n",
            "PROXY TCP4 ::1 ::1 5678 443\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 5678 443\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 5678 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678 443\n",
            "PROXY \r\n",
        ] {
            assert!(matches!(parse(line.as_bytes()), Err(ProxyError::Malformed)), "{line:?}");
        }
        let longest = format!("PROXY UNKNOWN{}\r\n", " ".repeat(LINE_BYTES_MAX - 15));
        check(longest.as_bytes(), None);
        let endless = format!("PROXY UNKNOWN{}", " ".repeat(LINE_BYTES_MAX));
        assert!(matches!(parse(endless.as_bytes()), Err(ProxyError::Malformed)));
    }

    #[test]
    fn broken_headers_of_version_2_are_refused() {
        for (command, family, body) in [
            (0x11, 0x11, &[0; 12][..]),
            (0x22, 0x11, &[0; 12]),
            (0x21, 0x11, &[0; 11]),
            (0x21, 0x21, &[0; 35]),
            (0x21, 0x12, &[0; 12]),
            (0x21, 0xff, &[0; 12]),
        ] {
            let bytes = binary(command, family, body);
            assert!(matches!(parse(&bytes), Err(ProxyError::Malformed)), "{bytes:?}");
        }
        let mut long = binary(0x21, 0x11, &[0; HEADER_BYTES_MAX - 15]);
        long.truncate(16);
        assert!(matches!(parse(&long), Err(ProxyError::TooLong)));
    }
}
