//! Whose address a connection counts for: the peer's, or what a trusted proxy says in `X-Forwarded-For`. Anyone else's
//! word is not heard.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::header::HeaderMap;
use ipnet::IpNet;

/// How many addresses of `X-Forwarded-For` are looked at, from the right.
const HOPS_MAX: usize = 32;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies whose word about their clients is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
}

impl TrustedProxies {
    /// Trusts the proxies in these networks; none of them if there are none.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self { networks }
    }

    /// Whether `ip` is a trusted proxy's.
    #[must_use]
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// The client's address: the right-most hop that is not a trusted proxy.
    ///
    /// Each proxy appends the address it was called from, so that all left of the first untrusted hop is hearsay. What
    /// cannot be read ends the walk at the proxy that wrote it. Bounds: 32 hops.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lines = headers.get_all(FORWARDED_FOR).into_iter();
        let mut hops = lines.rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for _ in 0..HOPS_MAX {
            if !self.trusts(client) {
                break;
            }
            match hops.next().and_then(parse_hop) {
                Some(hop) => client = hop,
                None => break,
            }
        }
        client
    }
}

/// Reads `1.2.3.4`, `1.2.3.4:5`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5`.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match bare {
        Some(inside) => IpAddr::V6(inside.parse().ok()?),
        None => text.parse().or_else(|_| text.parse().map(|hop: SocketAddr| hop.ip())).ok()?,
    };
    Some(ip.to_canonical())
}

/// What a limit per address counts by: an IPv4 address, or the /64 that an IPv6 host has to itself.
#[must_use]
pub fn limit_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};

    use super::*;

    fn trusted() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "fd00::/8"];
        TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    #[track_caller]
    fn check(peer: &str, lines: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let client = trusted().client(peer.parse().unwrap(), &headers);
        assert_eq!(client, expected.parse::<IpAddr>().unwrap());
    }

    #[test]
    fn an_untrusted_peer_speaks_only_for_itself() {
        check("203.0.113.9", &["1.2.3.4"], "203.0.113.9");
        check("203.0.113.9", &["10.0.0.1, 10.0.0.2"], "203.0.113.9");
        check("2001:db8::9", &["1.2.3.4"], "2001:db8::9");
        let nobody = TrustedProxies::default();
        assert!(!nobody.trusts("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn the_right_most_untrusted_hop_is_the_client() {
        check("10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["1.2.3.4, 198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["1.2.3.4, 198.51.100.7, 10.0.0.2"], "198.51.100.7");
        check("10.0.0.1", &["10.9.9.9, 10.0.0.2"], "10.9.9.9");
        check("10.0.0.1", &[], "10.0.0.1");
    }

    #[test]
    fn several_lines_are_one_list() {
        check("10.0.0.1", &["1.2.3.4", "198.51.100.7", "10.0.0.3,10.0.0.2"], "198.51.100.7");
    }

    #[test]
    fn every_way_to_write_an_address_is_read() {
        for hop in ["198.51.100.7", "198.51.100.7:443", "\t198.51.100.7 ", "::ffff:198.51.100.7"] {
            check("10.0.0.1", &[hop], "198.51.100.7");
        }
        for hop in ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:443"] {
            check("fd00::1", &[hop], "2001:db8::7");
        }
        check("::ffff:10.0.0.1", &["2001:db8::7"], "2001:db8::7");
    }

    #[test]
    fn garbage_ends_the_walk_at_the_proxy_that_wrote_it() {
        for garbage in ["", "unknown", "1.2.3", "1.2.3.4.5", "[::1", "_hidden", "fe80::1%eth0", "é"]
        {
            check("10.0.0.1", &[garbage], "10.0.0.1");
            check("10.0.0.1", &[&format!("1.2.3.4, {garbage}, 10.0.0.2")], "10.0.0.2");
        }
    }

    #[test]
    fn a_hundred_hops_end_at_the_limit() {
        let hops: Vec<String> = (0..100).rev().map(|hop| format!("10.0.1.{hop}")).collect();
        check("10.0.0.1", &[&hops.join(",")], "10.0.1.31");
    }

    #[test]
    fn hops_of_any_bytes_are_read_without_panic() {
        let mut runner = TestRunner::new(Config {
            cases: 2_000,
            rng_algorithm: RngAlgorithm::ChaCha,
            rng_seed: RngSeed::Fixed(7_239),
            failure_persistence: None,
            ..Config::default()
        });
        runner
            .run(&prop::collection::vec(any::<u8>(), 0..60), |bytes| {
                if let Ok(line) = HeaderValue::from_bytes(&bytes) {
                    let mut headers = HeaderMap::new();
                    headers.append(FORWARDED_FOR, line);
                    let outsider = "203.0.113.9".parse().unwrap();
                    prop_assert_eq!(trusted().client(outsider, &headers), outsider);
                    let proxy = "10.0.0.1".parse().unwrap();
                    let told = trusted().client(proxy, &headers);
                    prop_assert!(told == proxy || bytes.contains(&b'.') || bytes.contains(&b':'));
                }
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn limits_count_ipv6_by_64_bits() {
        let key = |ip: &str| limit_key(ip.parse().unwrap());
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2::"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
