//! Which addresses belong to everybody: all others lead into somebody's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of IPv4 that are not public, with what they are.
const NOT_PUBLIC_4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by carriers"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    // Also where clouds tell machines who they are.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "metadata of a cloud"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local or metadata"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "kept for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a 6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved or broadcast"),
];

/// What is public of IPv6 lies in here.
const PUBLIC_6: Network = Network { base: IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)), len: 3 };
/// Networks of IPv6 with what they are: the first that has an address says why it is refused.
const NOT_PUBLIC_6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "IPv4 in IPv6"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96, "IPv4 in IPv6"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 32, "translated to IPv4 (NAT64)"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "discarded"),
    // Teredo, ORCHID, benchmarks.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "kept for protocols, such as Teredo"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "IPv4 in IPv6 (6to4)"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "private"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    len: u32,
}

// === impl Network ===

impl Network {
    /// Reads `ADDRESS/BITS`; the bits after the first so many must be zero.
    pub fn parse(text: &str) -> Result<Network, String> {
        let told = || format!("`{text}` is no network; write ADDRESS/BITS, for example 10.1.0.0/16");
        let (base, len) = text.split_once('/').ok_or_else(told)?;
        let base: IpAddr = base.parse().map_err(|_| told())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let len = len.parse().ok().filter(|len| *len <= most).ok_or_else(told)?;
        let network = Network { base, len };
        let ends = match base {
            IpAddr::V4(base) => len < 32 && u32::from(base) << len != 0,
            IpAddr::V6(base) => len < 128 && u128::from(base) << len != 0,
        };
        match ends {
            true => Err(format!(
                "`{text}` has bits after the first {len}; write the first address of the network"
            )),
            false => Ok(network),
        }
    }

    pub fn has(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                (u32::from(base) ^ u32::from(address)).checked_shr(32 - self.len).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                (u128::from(base) ^ u128::from(address)).checked_shr(128 - self.len).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// What an address is, if it is not public.
pub(crate) fn not_public(address: IpAddr) -> Option<&'static str> {
    let within = |base: IpAddr, len: u32| Network { base, len }.has(address);
    match address {
        IpAddr::V4(_) => {
            NOT_PUBLIC_4.iter().find(|(base, len, _)| within((*base).into(), *len)).map(|(.., what)| *what)
        }
        IpAddr::V6(_) => {
            let known = NOT_PUBLIC_6.iter().find(|(base, len, _)| within((*base).into(), *len));
            let known = known.map(|(.., what)| *what);
            known.or_else(|| (!PUBLIC_6.has(address)).then_some("not public"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    const OF_EVERYBODY: &str = "1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.167.0.1 \
        198.17.0.1 198.20.0.1 223.255.255.255 2606:4700::1111 2001:4860:4860::8888 2a00::1 2001:200::1";
    const OF_SOMEBODY: &str = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 100.100.100.200 127.0.0.1 \
        127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 \
        192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 \
        239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 \
        ::ffff:a9fe:a9fe 64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 2001:2::1 2001:10::1 2001:20::1 \
        2001:db8::1 2002:7f00:1:: 3fff::1 4000::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 5f00::1";

    #[test]
    fn addresses_of_everybody_are_told_from_those_of_somebody() {
        for text in OF_EVERYBODY.split_whitespace() {
            assert_eq!(not_public(address(text)), None, "{text}");
        }
        for text in OF_SOMEBODY.split_whitespace() {
            assert!(not_public(address(text)).is_some(), "{text}");
        }
    }

    #[test]
    fn networks_are_read_strictly() {
        let network = Network::parse("10.1.0.0/16").expect("a network");
        assert!(network.has(address("10.1.255.255")) && !network.has(address("10.2.0.0")));
        assert!(!network.has(address("::ffff:10.1.0.1")), "another kind of address");
        assert!(Network::parse("0.0.0.0/0").is_ok_and(|all| all.has(address("1.2.3.4"))));
        assert!(Network::parse("::/0").is_ok_and(|all| all.has(address("fe80::1"))));
        assert!(Network::parse("127.0.0.1/32").is_ok_and(|one| !one.has(address("127.0.0.2"))));
        for bad in
            ["10.1.0.0", "10.1.2.3/16", "10.1.0.0/33", "::1/129", "host/8", "/8", "10.0.0.0/", "fe80::1/10"]
        {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }
}
