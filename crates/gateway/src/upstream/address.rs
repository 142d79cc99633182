//! Which addresses a back-end may have: those of the public internet, and the networks that its target lists. Keeps
//! whoever can influence a name's addresses from reaching what only this machine, or its network, should (SSRF).
//! Pure: never resolves a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 networks that are not of the public internet. Metadata services of clouds are among them (169.254.169.254,
/// 100.100.100.200, 192.0.0.192). Source: the IANA registry of special-purpose addresses (RFC 6890).
const SPECIAL_V4: [([u8; 4], u8); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// IPv6's global unicast addresses: all others are local, or special.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What is special within them: protocol assignments (Teredo and benchmarks among them), documentation.
const SPECIAL_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether a node may connect to this address for a target that lists these networks.
pub(super) fn is_permitted(address: IpAddr, listed: &[IpNet]) -> bool {
    // An IPv4 address is itself in every dress that a socket takes off.
    let address = address.to_canonical();
    listed.iter().any(|network| network.contains(&address)) || is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match inner_v4(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_in = |(network, bits): &([u8; 4], u8)| {
        Ipv4Net::new((*network).into(), *bits).is_ok_and(|it| it.contains(&address))
    };
    !SPECIAL_V4.iter().any(is_in)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_in = |(network, bits): &(Ipv6Addr, u8)| {
        Ipv6Net::new(*network, *bits).is_ok_and(|it| it.contains(&address))
    };
    is_in(&GLOBAL_V6) && !SPECIAL_V6.iter().any(is_in)
}

/// The IPv4 address that a translator or a tunnel would reach: NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => Some(of(high, low)),
        (0x2002, _) => Some(of(b, c)),
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(address: &str, listed: &[&str]) -> bool {
        let listed: Vec<IpNet> = listed.iter().map(|it| it.parse().unwrap()).collect();
        is_permitted(address.parse().unwrap(), &listed)
    }

    #[test]
    fn addresses_of_the_internet_need_not_be_listed() {
        for address in
            ["1.1.1.1", "93.184.216.34", "172.15.255.255", "172.32.0.0", "2606:4700::1111"]
        {
            assert!(permitted(address, &[]), "{address}");
        }
    }

    #[test]
    fn what_is_private_local_or_metadata_is_refused() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::7f00:1",
        ] {
            assert!(!permitted(address, &[]), "{address}");
        }
    }

    #[test]
    fn an_address_within_another_is_judged_by_itself() {
        for address in
            ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::169.254.169.254", "2002:7f00:1::"]
        {
            assert!(!permitted(address, &[]), "{address}");
        }
        for address in ["::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::"] {
            assert!(permitted(address, &[]), "{address}");
        }
    }

    #[test]
    fn a_network_that_the_target_lists_is_permitted_and_no_other() {
        assert!(permitted("10.1.2.3", &["10.0.0.0/8"]));
        assert!(permitted("::ffff:10.1.2.3", &["10.0.0.0/8"]));
        assert!(permitted("::1", &["::1/128"]));
        assert!(!permitted("192.168.0.1", &["10.0.0.0/8"]));
        assert!(!permitted("fd00::1", &["10.0.0.0/8", "fd01::/16"]));
    }
}
