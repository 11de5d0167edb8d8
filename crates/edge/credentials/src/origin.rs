//! Where a login comes from.

use std::net::{IpAddr, SocketAddr};

/// The address that a login comes from, as far as one is told from another: all of an IPv4
/// address, the first half of an IPv6 address (the rest is the client's to choose).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// This machine, over a unix socket.
    Local,
    /// An IPv4 address.
    V4([u8; 4]),
    /// The network of an IPv6 address.
    V6([u8; 8]),
}

impl Origin {
    /// The origin of a remote address as it is logged: `HOST:PORT`, or nothing.
    pub fn of(address: &str) -> Origin {
        let Ok(address) = address.parse::<SocketAddr>() else { return Origin::Local };
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Origin::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Origin::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_from_the_same_place() {
        assert_eq!(Origin::of("10.0.0.7:1234"), Origin::V4([10, 0, 0, 7]));
        assert_eq!(Origin::of("[::ffff:10.0.0.7]:9"), Origin::V4([10, 0, 0, 7]));
        assert_eq!(Origin::of("[2001:db8::1]:9"), Origin::of("[2001:db8::2]:10"));
        assert_ne!(Origin::of("[2001:db8:0:1::1]:9"), Origin::of("[2001:db8::1]:9"));
        assert_eq!(Origin::of(""), Origin::Local);
        assert_eq!(Origin::of("@"), Origin::Local);
    }
}
