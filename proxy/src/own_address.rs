//! Is an address one of Serin's own listeners? Serin never dials itself: a request that came back in would go round
//! until every connection is taken, and the admin port behind a routed name would be open to whoever may send requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Would a connection to `addr` end at one of `listeners` (bound addresses: no port 0; the admin listener too)?
///
/// A listener on a wildcard address stands on every local address of its family; `[::]` takes IPv4 as well.
/// `is_local` says whether an address belongs to this host ([`is_local`] asks the kernel) and is asked only when a
/// wildcard listener has the same port. IPv4-mapped addresses are the IPv4 addresses they carry.
#[must_use]
pub fn is_own(addr: SocketAddr, listeners: &[SocketAddr], is_local: &dyn Fn(IpAddr) -> bool) -> bool {
    let dialed = dialed(addr.ip());
    listeners.iter().filter(|listener| listener.port() == addr.port()).any(|listener| {
        match listener.ip().to_canonical() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => dialed.is_ipv4() && is_local(dialed),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => is_local(dialed),
            ip => ip == dialed,
        }
    })
}

/// Does `ip` belong to this host? Asks the kernel through a UDP socket, which sends nothing.
///
/// Only local addresses can be bound, unless the host is set to allow others (`ip_nonlocal_bind`, as hosts with floating
/// addresses are). There the source address the kernel would use to reach `ip` decides: for a local address, itself.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    if ip.is_loopback() {
        return true;
    }
    let (elsewhere, any): (IpAddr, IpAddr) = match ip {
        IpAddr::V4(_) => (NOWHERE_V4.into(), Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => (NOWHERE_V6.into(), Ipv6Addr::UNSPECIFIED.into()),
    };
    if UdpSocket::bind((ip, 0)).is_err() {
        return false;
    }
    if UdpSocket::bind((elsewhere, 0)).is_err() {
        return true;
    }
    let source =
        UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((ip, 9)).and_then(|()| socket.local_addr()));
    source.is_ok_and(|source| source.ip() == ip)
}

/// Where a connection to `ip` really goes: the unspecified address is dialed as loopback.
fn dialed(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

/// Addresses kept for documentation: no host has them.
const NOWHERE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NOWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Local are loopback, 10.0.0.5 and fd00::5.
    #[track_caller]
    fn check(addr: &str, listeners: &[&str], own: bool) {
        let listeners: Vec<SocketAddr> = listeners.iter().map(|l| l.parse().unwrap()).collect();
        let local = |ip: IpAddr| ip.is_loopback() || ["10.0.0.5", "fd00::5"].contains(&ip.to_string().as_str());
        assert_eq!(is_own(addr.parse().unwrap(), &listeners, &local), own, "{addr} and {listeners:?}");
    }

    #[test]
    fn the_very_address_is_own() {
        check("127.0.0.1:4140", &["127.0.0.1:9990", "127.0.0.1:4140"], true);
        check("[fd00::5]:4140", &["[fd00::5]:4140"], true);
    }

    #[test]
    fn another_port_or_address_is_not() {
        check("127.0.0.1:4141", &["127.0.0.1:4140"], false);
        check("127.0.0.2:4140", &["127.0.0.1:4140"], false);
        check("127.0.0.1:4140", &[], false);
    }

    #[test]
    fn a_wildcard_listener_stands_on_every_local_address() {
        check("10.0.0.5:4140", &["0.0.0.0:4140"], true);
        check("10.0.0.6:4140", &["0.0.0.0:4140"], false);
        check("[::1]:4140", &["0.0.0.0:4140"], false);
        check("[::1]:4140", &["[::]:4140"], true);
        check("10.0.0.5:4140", &["[::]:4140"], true);
        check("10.0.0.5:80", &["[::]:4140"], false);
    }

    #[test]
    fn mapped_forms_do_not_hide_it() {
        check("[::ffff:127.0.0.1]:4140", &["127.0.0.1:4140"], true);
        check("127.0.0.1:4140", &["[::ffff:127.0.0.1]:4140"], true);
        check("[::ffff:10.0.0.5]:4140", &["0.0.0.0:4140"], true);
    }

    #[test]
    fn dialing_nowhere_reaches_loopback() {
        check("0.0.0.0:4140", &["127.0.0.1:4140"], true);
        check("[::]:4140", &["[::1]:4140"], true);
        check("0.0.0.0:4140", &["0.0.0.0:4140"], true);
    }

    #[test]
    fn the_kernel_knows_loopback_is_local_and_documentation_is_not() {
        assert!(is_local(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(!is_local(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    }

    proptest! {
        #[test]
        fn a_listener_is_always_own(ip in any::<u32>(), port in 1u16..) {
            let addr = SocketAddr::from((Ipv4Addr::from_bits(ip), port));
            let mapped = SocketAddr::from((Ipv4Addr::from_bits(ip).to_ipv6_mapped(), port));
            prop_assert!(is_own(addr, &[addr], &|_| true));
            prop_assert!(is_own(mapped, &[addr], &|_| true));
        }
    }
}
