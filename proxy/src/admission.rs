//! How many connections a listener has, in all and of each source, over all workers.
//!
//! Touched once when a connection comes and once when it goes. The table of sources holds those that have a connection open,
//! and nobody else: it is never larger than the number of connections.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;

/// The connections of one listener.
#[derive(Debug, Default)]
pub struct Admission {
    open: AtomicU32,
    sources: DashMap<IpAddr, u32, foldhash::fast::RandomState>,
}

/// What may be open.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// In all.
    pub connections: u32,
    /// Of one source.
    pub of_source: u32,
}

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The listener has as many as it may: this one can wait.
    Full,
    /// Its source has as many as it may.
    Source,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    source: Option<IpAddr>,
}

impl Admission {
    /// Counts one more, from `source` if it has one.
    ///
    /// # Errors
    /// There are enough.
    pub fn enter(self: &Arc<Self>, source: Option<IpAddr>, most: Most) -> Result<Admitted, Refused> {
        let below = |open: u32| (open < most.connections).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).map_err(|_| Refused::Full)?;
        let mut admitted = Admitted { admission: Arc::clone(self), source: None };
        if let Some(source) = source.map(network) {
            let mut count = self.sources.entry(source).or_insert(0);
            if *count >= most.of_source {
                // given back by the drop of what was admitted, without the source
                return Err(Refused::Source);
            }
            *count += 1;
            admitted.source = Some(source);
        }
        Ok(admitted)
    }

    /// Has it as many as it may.
    pub fn is_full(&self, most: Most) -> bool {
        self.open.load(Ordering::Relaxed) >= most.connections
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let before = self.admission.open.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more connections closed than opened");
        if let Some(source) = self.source {
            self.admission.sources.remove_if_mut(&source, |_, count| {
                *count = count.saturating_sub(1);
                *count == 0
            });
        }
    }
}

/// One IPv4 address, or the network that one customer of an IPv6 provider gets.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most { connections: 4, of_source: 2 };

    fn enter(admission: &Arc<Admission>, source: &str) -> Result<Admitted, Refused> {
        admission.enter(Some(source.parse().unwrap()), MOST)
    }

    #[test]
    fn a_source_has_its_share_and_no_more() {
        let admission = Arc::default();
        let (first, _second) = (enter(&admission, "10.0.0.1").unwrap(), enter(&admission, "::ffff:10.0.0.1").unwrap());
        assert_eq!(enter(&admission, "10.0.0.1").unwrap_err(), Refused::Source);
        let _other = enter(&admission, "10.0.0.2").unwrap();
        drop(first);
        assert!(enter(&admission, "10.0.0.1").is_ok());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let admission = Arc::default();
        let _held = (enter(&admission, "2001:db8::1").unwrap(), enter(&admission, "2001:db8::2").unwrap());
        assert_eq!(enter(&admission, "2001:db8::3").unwrap_err(), Refused::Source);
        assert!(enter(&admission, "2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn a_listener_has_its_number_and_no_more() {
        let admission = Arc::default();
        let held: Vec<_> = (1..=4).map(|n| enter(&admission, &format!("10.0.0.{n}")).unwrap()).collect();
        assert!(admission.is_full(MOST));
        assert_eq!(enter(&admission, "10.0.0.5").unwrap_err(), Refused::Full);
        assert_eq!(admission.enter(None, MOST).unwrap_err(), Refused::Full);
        drop(held);
        assert!(admission.enter(None, MOST).is_ok());
    }

    #[test]
    fn nothing_is_left_of_sources_that_are_gone() {
        let admission: Arc<Admission> = Arc::default();
        for n in 0..100 {
            let _refused_or_not =
                (enter(&admission, &format!("10.0.0.{n}")), enter(&admission, &format!("10.0.0.{n}")));
            let _third = enter(&admission, &format!("10.0.0.{n}"));
        }
        assert_eq!((admission.sources.len(), admission.open.load(Ordering::Relaxed)), (0, 0));
    }
}
