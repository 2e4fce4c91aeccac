//! Where names made by requests may not lead: into this host, onto its link, or to a cloud's metadata service.
//!
//! A name that a request made (`/$/inet/<Host>/80`, an override) is resolved by whoever owns the DNS zone, so its
//! addresses are a stranger's choice. The check stands behind resolution, on addresses, where no spelling of a name can
//! slip past it. Names written in the configuration do not pass through here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// May a name made by a request reach `ip`?
///
/// Refused are loopback, link-local, unspecified, multicast, broadcast and metadata addresses, and the IPv6 forms that
/// carry such an IPv4 address (mapped, compatible, translated, NAT64, 6to4, Teredo), unless `allow` contains the address.
/// An IPv4-mapped address is the same as its IPv4 address to `allow` too; the other forms must be allowed as they are.
#[must_use]
pub fn permitted(ip: IpAddr, allow: &[IpNet]) -> bool {
    let plain = ip.to_canonical();
    if allow.iter().any(|net| net.contains(&ip) || net.contains(&plain)) {
        return true;
    }
    match plain {
        IpAddr::V4(ip) => !is_inside_v4(ip),
        IpAddr::V6(ip) => !is_inside_v6(ip) && !carried(ip).iter().flatten().any(|ip| is_inside_v4(*ip)),
    }
}

fn is_inside_v4(ip: Ipv4Addr) -> bool {
    // All of 0.0.0.0/8 means "this host on this network".
    ip.octets()[0] == 0
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || METADATA_V4.contains(&ip)
}

fn is_inside_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unicast_link_local()
        || METADATA_V6.iter().any(|(net, bits)| same_network(ip, *net, *bits))
}

/// The IPv4 addresses that an IPv6 address may lead to: each form at most once.
fn carried(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 3] {
    let bits = ip.to_bits();
    let last = Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32);
    let in_last = LAST_32_BITS.iter().any(|(net, prefix)| same_network(ip, *net, *prefix));
    // 6to4 keeps the address behind its 16 bits; Teredo keeps the client's address inverted at the end.
    let six_to_four = same_network(ip, SIX_TO_FOUR, 16).then(|| Ipv4Addr::from_bits((bits >> 80) as u32));
    let teredo = same_network(ip, TEREDO, 32).then(|| Ipv4Addr::from_bits(!last.to_bits()));
    [in_last.then_some(last), six_to_four, teredo]
}

/// Do the first `prefix` bits (1 to 128) agree?
fn same_network(ip: Ipv6Addr, net: Ipv6Addr, prefix: u32) -> bool {
    let shift = 128 - prefix;
    ip.to_bits() >> shift == net.to_bits() >> shift
}

/// Metadata services outside link-local: Alibaba, Azure, Oracle. (169.254.169.254 is link-local.)
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// Metadata services: Amazon's block with fd00:ec2::254, Google's fd20:ce::254.
const METADATA_V6: [(Ipv6Addr, u32); 2] =
    [(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32), (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128)];

/// Networks whose last 32 bits are an IPv4 address: compatible, mapped, translated, NAT64 (RFC 6052, RFC 8215).
const LAST_32_BITS: [(Ipv6Addr, u32); 5] = [
    (Ipv6Addr::UNSPECIFIED, 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
];

const SIX_TO_FOUR: Ipv6Addr = Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0);
const TEREDO: Ipv6Addr = Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(ip: &str, allow: &[&str], expected: bool) {
        let allow: Vec<IpNet> = allow.iter().map(|net| net.parse().unwrap()).collect();
        assert_eq!(permitted(ip.parse().unwrap(), &allow), expected, "{ip} with {allow:?}");
    }

    #[test]
    fn public_and_private_networks_are_reachable() {
        for ip in ["93.184.216.34", "10.0.0.1", "192.168.1.1", "172.16.0.1", "2606:4700::1", "fd12:3456::1"] {
            check(ip, &[], true);
        }
    }

    #[test]
    fn this_host_its_link_and_metadata_are_refused() {
        for ip in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "255.255.255.255"] {
            check(ip, &[], false);
        }
        for ip in ["::", "::1", "fe80::1", "febf::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200"] {
            check(ip, &[], false);
        }
    }

    #[test]
    fn ipv6_forms_do_not_hide_an_ipv4_address() {
        let forms = [
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:0:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::169.254.169.254",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "2001:0:4136:e378:8000:63bf:80ff:fffe",
        ];
        for ip in forms {
            check(ip, &[], false);
        }
        check("64:ff9b::808:808", &[], true);
        check("2002:808:808::1", &[], true);
    }

    #[test]
    fn what_is_allowed_is_reached() {
        check("127.0.0.1", &["127.0.0.0/8"], true);
        check("::ffff:127.0.0.1", &["127.0.0.1/32"], true);
        check("::1", &["::1/128"], true);
        check("127.0.0.2", &["127.0.0.1/32"], false);
        check("2002:7f00:1::1", &["127.0.0.0/8"], false);
        check("2002:7f00:1::1", &["2002::/16"], true);
    }

    proptest! {
        #[test]
        fn every_form_of_a_refused_ipv4_address_is_refused(last in any::<[u8; 3]>(), net in 0usize..4) {
            let first = [127u8, 0, 224, 239][net];
            let v4 = u128::from(u32::from_be_bytes([first, last[0], last[1], last[2]]));
            prop_assert!(!permitted(IpAddr::V4(Ipv4Addr::from_bits(v4 as u32)), &[]));
            for (network, _) in LAST_32_BITS {
                prop_assert!(!permitted(IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() | v4)), &[]));
            }
            prop_assert!(!permitted(IpAddr::V6(Ipv6Addr::from_bits(SIX_TO_FOUR.to_bits() | v4 << 80)), &[]));
        }

        #[test]
        fn allowing_everything_allows_everything(bits in any::<u128>(), v4 in any::<u32>()) {
            let all: [IpNet; 2] = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            prop_assert!(permitted(IpAddr::V6(Ipv6Addr::from_bits(bits)), &all));
            prop_assert!(permitted(IpAddr::V4(Ipv4Addr::from_bits(v4)), &all));
        }

        #[test]
        fn allowing_more_never_refuses_more(bits in any::<u128>(), net in any::<u128>(), prefix in 0u8..=128) {
            let ip = IpAddr::V6(Ipv6Addr::from_bits(bits));
            let allow = [IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(net)), prefix).unwrap()];
            prop_assert!(!permitted(ip, &[]) || permitted(ip, &allow));
        }

        #[test]
        fn mapped_and_plain_are_judged_alike(v4 in any::<u32>()) {
            let v4 = Ipv4Addr::from_bits(v4);
            prop_assert_eq!(permitted(IpAddr::V4(v4), &[]), permitted(IpAddr::V6(v4.to_ipv6_mapped()), &[]));
        }
    }
}
