//! Addresses by which connections are limited.

use std::net::{IpAddr, Ipv6Addr};

/// Returns the address by which connections of a peer are counted. A host of IPv6 usually has a /64 network for itself.
pub fn counted(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// Returns true if only this machine reaches the address.
pub fn is_local(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_networks_of_ipv6_and_mapped_addresses() {
        let counted = |text: &str| counted(text.parse().unwrap()).to_string();
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:3::1"), "2001:db8:1:3::");
    }

    #[test]
    fn only_loopback_is_local() {
        let is_local = |text: &str| is_local(text.parse().unwrap());
        assert!(is_local("127.0.0.1") && is_local("127.9.9.9") && is_local("::1"));
        assert!(is_local("::ffff:127.0.0.1"));
        assert!(
            !is_local("0.0.0.0") && !is_local("::") && !is_local("10.0.0.1") && !is_local("::ffff:10.0.0.1")
        );
    }
}
