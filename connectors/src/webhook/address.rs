//! Which addresses requests may go to, checked on the address that a name is resolved to, at each connection.
//!
//! Link-local addresses are refused always: what answers there is the machine's cloud, with its credentials. Loopback and private
//! networks are refused with `deny_private`. A name that has allowed addresses too is connected to at these. A proxy of the
//! environment is the operator's: its own address is not checked, and what it connects to is its affair.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Which addresses are refused.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub deny_private: bool,
    /// Hosts of proxies.
    pub proxies: Arc<[String]>,
}

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("`{0}` is a link-local address, which no request goes to")]
    LinkLocal(IpAddr),
    #[error("`{0}` is a private address, and `deny_private` is set")]
    Private(IpAddr),
}

impl Addresses {
    /// Returns why an address is refused; `None` if it is not.
    pub fn denied(&self, address: IpAddr) -> Option<Denied> {
        let address = address.to_canonical();
        if is_link_local(address) {
            return Some(Denied::LinkLocal(address));
        }
        (self.deny_private && is_private(address)).then_some(Denied::Private(address))
    }

    /// Returns those addresses of a host that are not refused; the reason, if all are.
    fn allowed(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Denied> {
        if self.proxies.iter().any(|proxy| proxy == host) {
            return Ok(found);
        }
        let mut denied = None;
        let allowed = found.into_iter().filter(|address| match self.denied(address.ip()) {
            None => true,
            Some(reason) => {
                denied = Some(reason);
                false
            }
        });
        let allowed: Vec<SocketAddr> = allowed.collect();
        match denied {
            Some(reason) if allowed.is_empty() => Err(reason),
            _ => Ok(allowed),
        }
    }
}

/// The system's resolver, without what is refused.
impl reqwest::dns::Resolve for Addresses {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let addresses = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let allowed = addresses.allowed(&host, found)?;
            Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || first == 0
        // Carriers' own networks, and benchmarks'.
        || (first == 100 && (64..128).contains(&second))
        || (first == 198 && (18..20).contains(&second))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unspecified() || address.is_unique_local() || address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(deny_private: bool) -> Addresses {
        Addresses { deny_private, proxies: ["proxy.internal".to_owned()].into() }
    }

    const LINK_LOCAL: [&str; 4] = ["169.254.169.254", "169.254.0.1", "fe80::1", "::ffff:169.254.169.254"];
    const PRIVATE: [&str; 11] = [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "fd00::1",
        "::ffff:10.0.0.1",
        "198.18.0.1",
    ];

    #[test]
    fn link_local_addresses_are_refused_always_and_private_ones_where_the_job_says_so() {
        for text in LINK_LOCAL {
            assert!(addresses(false).denied(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in PRIVATE {
            assert_eq!(addresses(false).denied(text.parse().unwrap()), None, "{text}");
            assert!(addresses(true).denied(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["93.184.216.34", "2606:2800:220:1::1", "172.32.0.1", "100.128.0.1"] {
            assert_eq!(addresses(true).denied(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn a_name_is_refused_only_if_all_its_addresses_are() {
        let found =
            |texts: &[&str]| texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect::<Vec<_>>();
        let denied = addresses(false).allowed("metadata", found(&["169.254.169.254"]));
        assert_eq!(denied, Err(Denied::LinkLocal("169.254.169.254".parse().unwrap())));
        let some = addresses(true).allowed("both", found(&["10.0.0.1", "93.184.216.34"]));
        assert_eq!(some, Ok(found(&["93.184.216.34"])));
        assert!(addresses(true).allowed("proxy.internal", found(&["10.0.0.1"])).is_ok());
    }
}
