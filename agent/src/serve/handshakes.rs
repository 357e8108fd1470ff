//! Open TLS handshakes. A new handshake is never refused: at the limit, the oldest is aborted. An honest client
//! completes its handshake within a few round trips; a silent client's handshake becomes the oldest.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

/// How long an address is trusted after it proved a user.
const LATELY: Duration = Duration::from_secs(60 * 60);
/// Maximum number of trusted addresses.
const REMEMBERED: usize = 1024;

/// The network that one party can have many addresses in: a /24, or a /64 for IPv6.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Open handshakes, oldest first.
#[derive(Debug)]
pub(super) struct Handshakes {
    all: usize,
    each: usize,
    under_way: VecDeque<(IpAddr, AbortHandle)>,
}

impl Handshakes {
    /// At most `all` handshakes in total, and `each` from one origin.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all, each, under_way: VecDeque::new() }
    }

    /// Adds a handshake of `origin`; at a limit, aborts the oldest of this origin or of all.
    pub(super) fn add(&mut self, origin: IpAddr, handshake: AbortHandle) {
        self.under_way.retain(|(_, handshake)| !handshake.is_finished());
        let of_origin = self.under_way.iter().filter(|(other, _)| *other == origin).count();
        let oldest = match () {
            () if of_origin >= self.each => self.under_way.iter().position(|(other, _)| *other == origin),
            () if self.under_way.len() >= self.all => Some(0),
            () => None,
        };
        if let Some((_, oldest)) = oldest.and_then(|place| self.under_way.remove(place)) {
            oldest.abort();
        }
        self.under_way.push_back((origin, handshake));
    }
}

/// Addresses that proved a user recently: handshakes of strangers cannot displace theirs.
#[derive(Clone, Debug, Default)]
pub(super) struct Proved(Arc<Mutex<HashMap<IpAddr, Instant>>>);

impl Proved {
    /// Records that `address` proved a user.
    pub(super) fn note(&self, address: IpAddr, now: Instant) {
        let mut proved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if proved.len() >= REMEMBERED && !proved.contains_key(&address) {
            let oldest = proved.iter().min_by_key(|(_, when)| **when).map(|(address, _)| *address);
            oldest.and_then(|oldest| proved.remove(&oldest));
        }
        proved.insert(address, now);
    }

    /// Whether `address` proved a user within the last hour.
    pub(super) fn knows(&self, address: IpAddr, now: Instant) -> bool {
        let proved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        proved.get(&address).is_some_and(|when| now.saturating_duration_since(*when) < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neighbours_are_one_network() {
        for (one, expected) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::1", "::"),
        ] {
            assert_eq!(network(address(one)), address(expected));
        }
    }

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let mut tasks = JoinSet::new();
        let mut handshakes = Handshakes::new(3, 2);
        let mut begun = Vec::new();
        for origin in ["192.0.2.0", "192.0.2.0", "192.0.2.0", "198.51.100.0", "203.0.113.0"] {
            let handshake = tasks.spawn(pending::<()>());
            begun.push(handshake.clone());
            handshakes.add(address(origin), handshake);
            yield_now().await;
        }
        let ended: Vec<_> = begun.iter().map(AbortHandle::is_finished).collect();
        assert_eq!(
            ended,
            [true, true, false, false, false],
            "one of its own network, then the oldest of all"
        );
    }

    #[test]
    fn an_address_that_proved_a_user_is_known_for_an_hour() {
        let (proved, now) = (Proved::default(), Instant::now());
        proved.note(address("192.0.2.1"), now);
        assert!(proved.knows(address("192.0.2.1"), now + LATELY / 2));
        assert!(!proved.knows(address("192.0.2.1"), now + LATELY));
        assert!(!proved.knows(address("192.0.2.2"), now));
        for host in 0..REMEMBERED as u32 {
            proved.note(Ipv4Addr::from_bits(host).into(), now + Duration::from_secs(1));
        }
        assert!(!proved.knows(address("192.0.2.1"), now), "the oldest of too many is forgotten");
        assert_eq!(proved.0.lock().unwrap().len(), REMEMBERED);
    }
}
