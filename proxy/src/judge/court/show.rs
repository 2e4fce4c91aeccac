//! Pictures of all rollouts, for people and metrics.

use std::sync::Arc;

use serin_metrics::RolloutSample;

use super::{Court, VIEWS_MS};
use crate::judge::seat::Seat;
use crate::judge::view::View;

impl Court {
    /// Draws new pictures: at once after a change, else now and then while something is under way.
    pub(super) fn show(&mut self, now: u64) {
        let active = self.seats.values().any(Seat::is_active);
        let changed = self.stale || self.told || self.seats.values().any(|seat| seat.stale);
        let due = active && now >= self.shown_at + VIEWS_MS;
        if !changed && !due {
            return;
        }
        let before = self.shared.views.load_full();
        let known =
            |name: &str| before.binary_search_by(|view| (*view.name).cmp(name)).ok().map(|at| Arc::clone(&before[at]));
        let memory = self.memory;
        let views: Vec<Arc<View>> = self
            .seats
            .iter_mut()
            .map(|(name, seat)| {
                let fresh = std::mem::take(&mut seat.stale) || seat.is_active();
                let kept = if fresh { None } else { known(name) };
                kept.unwrap_or_else(|| Arc::new(seat.view(now, memory)))
            })
            .collect();
        let samples =
            self.seats.values().zip(&views).map(|(seat, view)| seat.sample(view, now)).collect::<Vec<RolloutSample>>();
        self.doors.metrics.rollouts().replace(samples);
        if let Some(outside) = &self.outside {
            self.doors.metrics.rollouts().outside(outside.totals());
        }
        self.shared.views.store(Arc::new(views));
        if std::mem::take(&mut self.told) {
            self.shared.recent.store(Arc::new(self.recent.iter().cloned().collect()));
        }
        self.stale = false;
        self.shown_at = now;
    }
}
