//! How many connections a listener has: in all, of each source, and with each worker.
//!
//! Touched once when a connection comes and once when it goes. The table of sources holds those that have a connection open,
//! and nobody else: it is never larger than the number of connections.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;

/// A worker may have so many more than the one with the fewest as this part of what that one has. So few connections lie as even
/// as they can, and of many that come and go almost all are served where they were accepted.
const UNEVEN_PART: u32 = 4;

/// The connections of one listener.
#[derive(Debug)]
pub struct Admission {
    open: AtomicU32,
    sources: DashMap<IpAddr, u32, foldhash::fast::RandomState>,
    /// For each worker.
    seats: Box<[Seats]>,
}

/// Connections that one worker serves or is about to get. On lines of its own: the worker writes it for each connection.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Seats(AtomicU32);

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
    /// A number of a worker: small, because every connection has one.
    seat: u16,
}

impl Admission {
    /// No connections yet, for so many workers.
    pub fn new(workers: usize) -> Self {
        let seats = (0..workers.max(1)).map(|_| Seats::default()).collect();
        Self { open: AtomicU32::new(0), sources: DashMap::default(), seats }
    }

    /// Counts one more, from `source` if it has one, which the worker `own` accepted. Its seat may be another's.
    ///
    /// # Errors
    /// There are enough.
    pub fn enter(self: &Arc<Self>, source: Option<IpAddr>, most: Most, own: usize) -> Result<Admitted, Refused> {
        let below = |open: u32| (open < most.connections).then_some(open + 1);
        self.open.fetch_update(Ordering::Acquire, Ordering::Relaxed, below).map_err(|_| Refused::Full)?;
        let mut admitted = Admitted { admission: Arc::clone(self), source: None, seat: short(self.find_seat(own)) };
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

    /// Takes a seat with the worker that accepted, or with the one that has fewest if those are clearly fewer. It is taken
    /// only if nobody took or left one there meanwhile, so however many workers accept at once they end up even.
    fn find_seat(&self, own: usize) -> usize {
        let load = |seats: &Seats| seats.0.load(Ordering::Relaxed);
        loop {
            let (mut chosen, mut had) = (own, load(&self.seats[own]));
            let least = self.seats.iter().map(load).enumerate().min_by_key(|(_, load)| *load);
            if let Some((other, least)) = least.filter(|(_, least)| had > least + least / UNEVEN_PART) {
                (chosen, had) = (other, least);
            }
            let seats = &self.seats[chosen].0;
            if seats.compare_exchange(had, had + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return chosen;
            }
        }
    }

    fn leave_seat(&self, seat: usize) {
        let before = self.seats[seat].0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more seats left than taken");
    }

    /// Has it as many as it may.
    pub fn is_full(&self, most: Most) -> bool {
        self.open.load(Ordering::Relaxed) >= most.connections
    }
}

impl Admitted {
    /// The worker that serves it.
    pub fn seat(&self) -> usize {
        usize::from(self.seat)
    }

    /// It is served by this worker after all.
    pub fn sit_down(&mut self, worker: usize) {
        self.admission.leave_seat(self.seat());
        self.admission.seats[worker].0.fetch_add(1, Ordering::Relaxed);
        self.seat = short(worker);
    }
}

impl Drop for Admitted {
    /// The place at the listener goes last: whoever gets it finds the other two free.
    fn drop(&mut self) {
        if let Some(source) = self.source {
            self.admission.sources.remove_if_mut(&source, |_, count| {
                *count = count.saturating_sub(1);
                *count == 0
            });
        }
        self.admission.leave_seat(self.seat());
        let before = self.admission.open.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "more connections closed than opened");
    }
}

/// There are never more than 1,024 workers.
fn short(worker: usize) -> u16 {
    u16::try_from(worker).unwrap_or(u16::MAX)
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
        admission.enter(Some(source.parse().unwrap()), MOST, 0)
    }

    fn one_worker() -> Arc<Admission> {
        Arc::new(Admission::new(1))
    }

    /// A connection without a source, accepted by this worker.
    fn accepted(admission: &Arc<Admission>, own: usize) -> Admitted {
        let most = Most { connections: u32::MAX, of_source: u32::MAX };
        admission.enter(None, most, own).unwrap()
    }

    fn loads(admission: &Admission) -> Vec<u32> {
        admission.seats.iter().map(|seats| seats.0.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn a_source_has_its_share_and_no_more() {
        let admission = one_worker();
        let (first, _second) = (enter(&admission, "10.0.0.1").unwrap(), enter(&admission, "::ffff:10.0.0.1").unwrap());
        assert_eq!(enter(&admission, "10.0.0.1").unwrap_err(), Refused::Source);
        let _other = enter(&admission, "10.0.0.2").unwrap();
        drop(first);
        assert!(enter(&admission, "10.0.0.1").is_ok());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let admission = one_worker();
        let _held = (enter(&admission, "2001:db8::1").unwrap(), enter(&admission, "2001:db8::2").unwrap());
        assert_eq!(enter(&admission, "2001:db8::3").unwrap_err(), Refused::Source);
        assert!(enter(&admission, "2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn a_listener_has_its_number_and_no_more() {
        let admission = one_worker();
        let held: Vec<_> = (1..=4).map(|n| enter(&admission, &format!("10.0.0.{n}")).unwrap()).collect();
        assert!(admission.is_full(MOST));
        assert_eq!(enter(&admission, "10.0.0.5").unwrap_err(), Refused::Full);
        assert_eq!(admission.enter(None, MOST, 0).unwrap_err(), Refused::Full);
        drop(held);
        assert!(admission.enter(None, MOST, 0).is_ok());
    }

    #[test]
    fn nothing_is_left_of_sources_that_are_gone() {
        let admission = one_worker();
        for n in 0..100 {
            let _refused_or_not =
                (enter(&admission, &format!("10.0.0.{n}")), enter(&admission, &format!("10.0.0.{n}")));
            let _third = enter(&admission, &format!("10.0.0.{n}"));
        }
        assert_eq!((admission.sources.len(), admission.open.load(Ordering::Relaxed)), (0, 0));
    }
    #[test]
    fn few_connections_lie_even_wherever_they_come() {
        for workers in 1..=5 {
            let admission = Arc::new(Admission::new(workers));
            let held: Vec<_> = (0..4 * workers).map(|_| accepted(&admission, 0)).collect();
            assert_eq!(loads(&admission), vec![4; workers]);
            drop(held);
            assert_eq!(loads(&admission), vec![0; workers]);
        }
    }

    #[test]
    fn of_many_connections_those_stay_where_they_came_that_make_little_difference() {
        let admission = Arc::new(Admission::new(2));
        let _even: Vec<_> = (0..80).map(|index| accepted(&admission, index % 2)).collect();
        let _more: Vec<_> = (0..11).map(|_| accepted(&admission, 0)).collect();
        assert_eq!(loads(&admission), [51, 40], "a quarter more");
        assert_eq!(accepted(&admission, 0).seat(), 1, "and one beyond");
    }

    #[test]
    fn a_seat_changes_hands_and_is_given_back_once() {
        let admission = Arc::new(Admission::new(2));
        let _first = accepted(&admission, 0);
        let mut second = accepted(&admission, 0);
        assert_eq!(second.seat(), 1);
        second.sit_down(0);
        assert_eq!(loads(&admission), [2, 0]);
        drop(second);
        assert_eq!(loads(&admission), [1, 0]);
    }

    #[test]
    fn workers_that_accept_at_once_end_up_even() {
        let admission = Arc::new(Admission::new(4));
        let of = |own: usize, count: usize| (0..count).map(|_| accepted(&admission, own)).collect::<Vec<_>>();
        let _held: Vec<_> = std::thread::scope(|scope| {
            // as a hash may spread them
            let threads = [(0, 9), (1, 3), (2, 0), (3, 0)].map(|(own, count)| scope.spawn(move || of(own, count)));
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(loads(&admission), [3, 3, 3, 3]);
    }
}
