//! What holds for any octets; the tests and a fuzz target check the same.

use super::{Budgets, Floods};

/// Small enough to be met by few octets.
pub(crate) const SMALL: Budgets =
    Budgets { frames_per_second: 50, frames_burst: 5, block_frames: 4, empty: 3, unread: 1_000, resets: 3 };

/// However reads cut the octets (at these sizes, over and over), the verdict is the same, and it never changes once it
/// is there.
pub(crate) fn check_any_split(octets: &[u8], sizes: &[usize]) {
    for make in [Floods::of_client, Floods::of_origin] {
        let (mut whole, mut cut) = (make(SMALL, 7), make(SMALL, 7));
        let verdict = whole.read(octets, 7);
        let (mut rest, mut sizes) = (octets, sizes.iter().cycle());
        while !rest.is_empty() {
            let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
            let (now, later) = rest.split_at(size);
            let before = cut.flood();
            let found = cut.read(now, 7);
            assert!(before.is_none() || found.err() == before, "a verdict changed");
            rest = later;
        }
        assert_eq!(cut.flood(), verdict.err(), "reads changed the verdict");
        assert_eq!(format!("{cut:?}"), format!("{whole:?}"), "reads changed the accounts");
    }
}
