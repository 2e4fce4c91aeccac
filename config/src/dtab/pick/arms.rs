//! One union at one moment: which of its branches a draw falls on.

use super::units::{exponent_above, units};
use super::{Draw, Kind, LeafState, Picker, Weights};
use crate::dtab::{Branch, Union, Weight};
use crate::model::OnUnhealthy;

/// The branches of a union with their weights and states of this moment. Each state is asked for once, for the first
/// [`ARMS_KEPT`] branches.
pub(super) struct Arms<'p, 't, W, S, B> {
    picker: &'p Picker<'p, W, S>,
    union: &'t Union<B>,
    kinds: [Kind; ARMS_KEPT],
}

/// The branch that serves, and the one that the weights chose.
pub(super) struct Chosen {
    pub(super) place: usize,
    drawn: Drawn,
}

/// A branch that a draw fell on.
#[derive(Clone, Copy)]
struct Drawn {
    place: usize,
    /// Where in the branch's own share the draw fell, in 2^-64 units.
    offset: u128,
    /// The branch's units, of all units.
    units: (u64, u64),
}

impl<'p, 't, W: Weights, S: Fn(&B) -> LeafState, B> Arms<'p, 't, W, S, B> {
    pub(super) fn new(picker: &'p Picker<'p, W, S>, union: &'t Union<B>) -> Self {
        let mut kinds = [Kind::Neg; ARMS_KEPT];
        for (kind, branch) in kinds.iter_mut().zip(&union.branches) {
            *kind = picker.kind(&branch.tree);
        }
        Arms { picker, union, kinds }
    }

    /// What comes of the union. Branches of weight 0 are not there at all.
    pub(super) fn kind(&self) -> Kind {
        let (mut usable, mut unusable, mut empty, mut nothing) = Default::default();
        let (mut error, mut pending, mut absent) = Default::default();
        for place in (0..self.union.branches.len()).filter(|&place| !self.weight(place).is_zero()) {
            *match self.kind_of(place) {
                Kind::Usable => &mut usable,
                Kind::Unusable { .. } => &mut unusable,
                Kind::Empty => &mut empty,
                Kind::Neg | Kind::Fail => &mut nothing,
                Kind::Error => &mut error,
                Kind::Pending => &mut pending,
                Kind::Absent => &mut absent,
            } = true;
        }
        // In a union `!` stops nobody, so neither does it behind something unusable.
        let order = [
            (usable, Kind::Usable),
            (unusable, Kind::Unusable { stops: false }),
            (empty, Kind::Empty),
            (nothing, Kind::Neg),
            (error, Kind::Error),
            (pending, Kind::Pending),
            (absent, Kind::Absent),
        ];
        order.into_iter().find_map(|(there, kind): (bool, Kind)| there.then_some(kind)).unwrap_or(Kind::Neg)
    }

    /// The weights choose; if the chosen branch cannot serve, they choose again among those that can, with the rest of
    /// the draw.
    pub(super) fn choose(&self, draw: u64, on_unhealthy: OnUnhealthy) -> Option<Chosen> {
        let drawn = self.draw(draw, is_there)?;
        let mut last = drawn;
        if !is_ready(self.kind_of(drawn.place)) {
            if let Some(ready) = self.draw(last.rest(), is_ready) {
                last = ready;
            } else if let Some(place) = self.first_unready() {
                last = Drawn { place, ..last };
            }
        }
        if on_unhealthy == OnUnhealthy::Redistribute
            && matches!(self.kind_of(last.place), Kind::Unusable { .. })
            && let Some(usable) = self.draw(last.rest(), is_usable)
        {
            last = usable;
        }
        Some(Chosen { place: last.place, drawn })
    }

    /// The probability that [`Arms::choose`] ends at this branch.
    pub(super) fn share(&self, place: usize, on_unhealthy: OnUnhealthy) -> f64 {
        let (all, ready, usable) = (self.total(is_there), self.total(is_ready), self.total(is_usable));
        if ready == 0 {
            return if self.first_unready() == Some(place) { 1.0 } else { 0.0 };
        }
        let exponent = self.exponent(is_there);
        let part = |wanted: fn(Kind) -> bool, total: u64| {
            if total > 0 && wanted(self.kind_of(place)) {
                // Among `wanted` the units may be finer than among all.
                units(self.weight(place), self.exponent(wanted)) as f64 / total as f64
            } else {
                0.0
            }
        };
        let sum = |wanted: &dyn Fn(Kind) -> bool| -> f64 {
            let places = (0..self.union.branches.len()).filter(|&place| wanted(self.kind_of(place)));
            places.map(|place| units(self.weight(place), exponent) as f64).sum::<f64>() / all as f64
        };
        let kind = self.kind_of(place);
        let direct = if is_ready(kind) { part(is_there, all) } else { 0.0 };
        let unready = sum(&|kind| is_there(kind) && !is_ready(kind));
        let first = direct + unready * part(is_ready, ready);
        if on_unhealthy == OnUnhealthy::Fail || usable == 0 {
            return first;
        }
        if matches!(kind, Kind::Unusable { .. }) {
            return 0.0;
        }
        let unusable_of_all = sum(&|kind| matches!(kind, Kind::Unusable { .. }));
        let unusable_of_ready: f64 = (0..self.union.branches.len())
            .filter(|&place| matches!(self.kind_of(place), Kind::Unusable { .. }))
            .map(|place| units(self.weight(place), self.exponent(is_ready)) as f64 / ready as f64)
            .sum();
        first + (unusable_of_all + unready * unusable_of_ready) * part(is_usable, usable)
    }

    /// Lets the weights of the wanted branches choose. `None` if there is none.
    fn draw(&self, draw: u64, wanted: fn(Kind) -> bool) -> Option<Drawn> {
        let exponent = self.exponent(wanted);
        let total = self.total(wanted);
        let point = u128::from(draw) * u128::from(total);
        let mut low = 0_u64;
        for place in (0..self.union.branches.len()).filter(|&place| wanted(self.kind_of(place))) {
            let units = units(self.weight(place), exponent);
            if point < u128::from(low + units) << 64 {
                let offset = point - (u128::from(low) << 64);
                return Some(Drawn { place, offset, units: (units, total) });
            }
            low += units;
        }
        None
    }

    fn total(&self, wanted: fn(Kind) -> bool) -> u64 {
        let exponent = self.exponent(wanted);
        let places = (0..self.union.branches.len()).filter(|&place| wanted(self.kind_of(place)));
        places.map(|place| units(self.weight(place), exponent)).sum()
    }

    /// The smallest power of two above the weights of the wanted branches.
    fn exponent(&self, wanted: fn(Kind) -> bool) -> i32 {
        let places = (0..self.union.branches.len()).filter(|&place| wanted(self.kind_of(place)));
        places.map(|place| exponent_above(self.weight(place))).max().unwrap_or(i32::MIN)
    }

    /// Where nothing is ready the first error wins over what is pending, and that over what is not there.
    fn first_unready(&self) -> Option<usize> {
        [Kind::Error, Kind::Pending, Kind::Absent].into_iter().find_map(|kind| self.first(kind))
    }

    fn first(&self, kind: Kind) -> Option<usize> {
        (0..self.union.branches.len()).find(|&place| !self.weight(place).is_zero() && self.kind_of(place) == kind)
    }

    fn weight(&self, place: usize) -> Weight {
        let branch: &Branch<B> = &self.union.branches[place];
        let now = self.union.split.and_then(|split| self.picker.weights.weight(split, branch.index));
        now.unwrap_or(branch.weight)
    }

    fn kind_of(&self, place: usize) -> Kind {
        match self.kinds.get(place) {
            Some(&kind) => kind,
            None => self.picker.kind(&self.union.branches[place].tree),
        }
    }
}

impl Drawn {
    /// 64 even bits again: what is left of a draw once the branch is known.
    fn rest(&self) -> u64 {
        u64::try_from(self.offset / u128::from(self.units.0.max(1))).unwrap_or(u64::MAX)
    }
}

impl Chosen {
    pub(super) fn told<B>(&self, union: &Union<B>) -> Draw {
        let (units, total) = self.drawn.units;
        // Both fit: units are at most the total, and the total is below 2^62.
        let ppm = (u128::from(units) * 1_000_000 + u128::from(total) / 2) / u128::from(total.max(1));
        Draw {
            split: union.split,
            index: union.branches[self.place].index,
            drawn: union.branches[self.drawn.place].index,
            share_ppm: u32::try_from(ppm).unwrap_or(u32::MAX),
            redistributed: self.place != self.drawn.place,
        }
    }
}

fn is_there(kind: Kind) -> bool {
    !matches!(kind, Kind::Fail | Kind::Neg)
}

fn is_ready(kind: Kind) -> bool {
    matches!(kind, Kind::Empty | Kind::Unusable { .. } | Kind::Usable)
}

fn is_usable(kind: Kind) -> bool {
    kind == Kind::Usable
}

/// States kept on the stack for one union; for the branches behind them they are asked for again.
pub(super) const ARMS_KEPT: usize = 16;
