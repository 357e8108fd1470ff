//! The cloud's network: addresses, and the input for `ip -batch` and `nft -f` that sets it up.
//!
//! Everything is inside the cloud's own network namespace, so the fixed address range cannot clash with other networks.

use std::{collections::BTreeSet, net::Ipv4Addr};

use nix::ifaddrs::getifaddrs;

use crate::{
    error::{Error, Result},
    provider::local::failure::Doing,
};

/// Address of the bridge, the gateway of all hosts.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
/// The resolver in slirp4netns; it forwards to the name servers currently in the machine's resolv.conf.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The same MTU everywhere: a smaller one on the path would silently drop full-size segments.
pub(super) const MTU: u32 = 65520;
/// Last octets for hosts, within the /24.
const HOSTS: std::ops::RangeInclusive<u8> = 10..=254;

/// The lowest free address.
pub(crate) fn free_address(taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr> {
    HOSTS.map(|last| Ipv4Addr::new(10, 213, 0, last)).find(|address| !taken.contains(address)).ok_or_else(
        || {
            Error::invalid(format!("this local cloud is full: {} hosts", HOSTS.len()))
                .hint("destroy some with `ctl destroy HOST`, or use another state directory")
        },
    )
}

/// The machine's own IPv4 addresses, which hosts must not reach.
pub(super) fn machine_addresses() -> Result<BTreeSet<Ipv4Addr>> {
    let interfaces = getifaddrs().doing(|| "cannot list the machine's addresses")?;
    Ok(interfaces
        .filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
        .filter(|address| !address.is_loopback())
        .collect())
}

/// `ip -batch`: the bridge.
pub(super) fn bridge() -> String {
    format!(
        "link set lo up\n\
         link add magpie0 type bridge\n\
         addr add {GATEWAY}/24 dev magpie0\n\
         link set magpie0 mtu {MTU} up\n"
    )
}

/// `nft -f`: masquerade outgoing packets, and drop packets to the machine itself.
pub(super) fn firewall(machine: &BTreeSet<Ipv4Addr>) -> String {
    let drop = match machine.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => String::new(),
        some => format!("ip daddr {{ {some} }} drop"),
    };
    format!(
        "table ip magpie {{\n\
           chain postrouting {{ type nat hook postrouting priority srcnat; oifname != \"magpie0\" masquerade; }}\n\
           chain forward {{ type filter hook forward priority filter; {drop}\n }}\n\
         }}\n"
    )
}

/// `ip -batch`, inside the host's namespace: loopback and `eth0`, whose other end goes to `cloud`.
///
/// The hardware address is derived from the IP address, so that a new host with a reused address is reachable at once.
pub(crate) fn host_side(address: Ipv4Addr, port: &str, cloud: &str) -> String {
    let last = address.octets()[3];
    format!(
        "link set lo up\n\
         link add eth0 mtu {MTU} address 02:4d:41:00:00:{last:02x} type veth peer name {port} mtu {MTU} netns {cloud}\n\
         addr add {address}/24 dev eth0\n\
         link set eth0 up\n\
         route add default via {GATEWAY}\n"
    )
}

/// `ip -batch`, inside the cloud's namespace: connects a host to the bridge.
pub(crate) fn cloud_side(port: &str) -> String {
    format!("link set {port} master magpie0\nlink set {port} up\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_addresses_is_an_error() {
        let mut taken = BTreeSet::new();
        for last in HOSTS {
            assert_eq!(free_address(&taken).unwrap().octets()[3], last);
            taken.insert(Ipv4Addr::new(10, 213, 0, last));
        }
        assert!(free_address(&taken).unwrap_err().to_string().contains("full"));
    }

    #[test]
    fn machine_without_addresses_gets_a_valid_rule_set() {
        assert!(!firewall(&BTreeSet::new()).contains("daddr"));
        let some = BTreeSet::from([Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)]);
        assert!(firewall(&some).contains("ip daddr { 192.0.2.1, 192.0.2.2 } drop"));
    }
}
