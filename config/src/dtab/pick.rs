//! Choosing one leaf of a bound tree for one request, without allocating.

use super::{Branch, NameTree, SplitId, Union, Weight};
use crate::model::{Failover, OnUnhealthy};

/// Weights of this moment; they win over the written ones.
pub trait Weights {
    /// `None`: the written weight holds. `index` is [`Branch::index`].
    fn weight(&self, split: SplitId, index: u16) -> Option<Weight>;
}

/// What the caller knows about a leaf at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafState {
    /// It could not be bound.
    Error,
    /// It is not known yet.
    Pending,
    /// It is bound, and none of its endpoints can serve.
    Unusable,
    /// It can serve.
    Usable,
}

/// How health changes the choice.
#[derive(Clone, Copy)]
pub struct Rules<'r> {
    /// Whether an alternation passes over what is unusable.
    pub failover: Failover,
    /// What becomes of the share of an unusable branch, for each union.
    pub on_unhealthy: &'r dyn Fn(Option<SplitId>) -> OnUnhealthy,
}

/// The end of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'t, B> {
    /// `$`: exists and has no members.
    Empty,
    /// This leaf could not be bound, and it decides.
    Error(&'t B),
    /// `!`: nothing, on purpose.
    Fail,
    /// A usable leaf.
    Leaf(&'t B),
    /// Nothing.
    Neg,
    /// This leaf is not known yet, and it decides.
    Pending(&'t B),
    /// A leaf that cannot serve; there was no better one.
    Unusable(&'t B),
}

/// What [`pick`] chose and by which draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked<'t, B> {
    /// The end.
    pub outcome: Outcome<'t, B>,
    /// The unions on the way, outer before inner.
    pub draws: Draws,
}

/// The draw of one union.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    /// Of which union.
    pub split: Option<SplitId>,
    /// [`Branch::index`] of the branch that serves.
    pub index: u16,
    /// [`Branch::index`] of the branch that the weights chose; it differs from `index` if that one could not serve.
    pub drawn: u16,
    /// With which probability the weights choose `drawn`, in parts per million, rounded to the nearest.
    pub share_ppm: u32,
    /// The branch that the weights chose could not serve, and its share went to the others.
    pub redistributed: bool,
}

/// The first [`Draws::MAX`] draws of a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draws {
    draws: [Draw; Draws::MAX],
    len: u8,
}

/// Chooses one leaf.
///
/// `draw` gives 64 evenly distributed bits for a union: random ones, or a hash of a user's key and the split. It is called once for each
/// union on the way, so nested unions are independent if its answers are.
///
/// **Unions.** A branch of weight 0 is never chosen; a union without any other branch is Neg. Branches that are Neg or Fail are left out.
/// The weights choose among all others, the first branch at the low draws; so raising its weight only ever moves draws to it, and the illness of one branch
/// moves nobody but its own users. An error or a pending name gives its share to the rest, as an unusable branch does where
/// the rules say so: to usable branches, by their weights. `$` keeps its share.
///
/// **Alternations.** The first that is not Neg; `!`, `$` and an error stop, a pending name is waited for. With [`Failover::Health`] what has
/// nothing usable is passed over too; if nothing usable follows, the first unusable one is the outcome, so that the error names it.
pub fn pick<'t, B>(
    tree: &'t NameTree<B>,
    draw: &mut dyn FnMut(Option<SplitId>) -> u64,
    weights: &impl Weights,
    state: &impl Fn(&B) -> LeafState,
    rules: &Rules<'_>,
) -> Picked<'t, B> {
    let picker = Picker { weights, state, rules };
    let mut draws = Draws::default();
    let outcome = picker.pick(tree, draw, &mut draws);
    Picked { outcome, draws }
}

/// With which probability [`pick`] ends how, exactly: a list over all ends, in the order of the tree, that sums to 1.
/// An end that can be reached on several ways is listed several times.
pub fn shares<'t, B>(
    tree: &'t NameTree<B>,
    weights: &impl Weights,
    state: &impl Fn(&B) -> LeafState,
    rules: &Rules<'_>,
) -> Vec<(Outcome<'t, B>, f64)> {
    let mut ends = Vec::new();
    Picker { weights, state, rules }.shares(tree, 1.0, &mut ends);
    ends
}

impl Draws {
    /// Draws kept; deeper unions are drawn, but not told of.
    pub const MAX: usize = 4;

    /// Outer before inner.
    pub fn as_slice(&self) -> &[Draw] {
        &self.draws[..usize::from(self.len)]
    }

    fn push(&mut self, draw: Draw) {
        if let Some(slot) = self.draws.get_mut(usize::from(self.len)) {
            *slot = draw;
            self.len += 1;
        }
    }
}

impl Default for Rules<'_> {
    fn default() -> Self {
        Rules { failover: Failover::default(), on_unhealthy: &|_| OnUnhealthy::default() }
    }
}

impl std::fmt::Debug for Rules<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("failover", &self.failover).finish_non_exhaustive()
    }
}

/// The written weights hold.
impl Weights for () {
    fn weight(&self, _: SplitId, _: u16) -> Option<Weight> {
        None
    }
}

/// What can come of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Empty,
    Error,
    Fail,
    Neg,
    Pending,
    /// Bound, but nothing in it can serve; `stops`: and a further alternative must not be tried.
    Unusable {
        stops: bool,
    },
    Usable,
}

struct Picker<'p, W, S> {
    weights: &'p W,
    state: &'p S,
    rules: &'p Rules<'p>,
}

impl<W: Weights, S> Picker<'_, W, S> {
    fn pick<'t, B>(
        &self,
        tree: &'t NameTree<B>,
        draw: &mut dyn FnMut(Option<SplitId>) -> u64,
        draws: &mut Draws,
    ) -> Outcome<'t, B>
    where
        S: Fn(&B) -> LeafState,
    {
        match tree {
            NameTree::Leaf(leaf) => outcome(leaf, (self.state)(leaf)),
            NameTree::Neg => Outcome::Neg,
            NameTree::Fail => Outcome::Fail,
            NameTree::Empty => Outcome::Empty,
            NameTree::Alt(children) => match self.alternative(children) {
                (Some(child), _) => self.pick(child, draw, draws),
                (None, _) => Outcome::Neg,
            },
            NameTree::Union(union) => {
                let arms = Arms::new(self, union);
                if arms.kind() == Kind::Neg {
                    return Outcome::Neg;
                }
                let Some(chosen) = arms.choose(draw(union.split), (self.rules.on_unhealthy)(union.split)) else {
                    return Outcome::Neg;
                };
                draws.push(chosen.told(union));
                self.pick(&union.branches[chosen.place].tree, draw, draws)
            }
        }
    }

    fn shares<'t, B>(&self, tree: &'t NameTree<B>, share: f64, ends: &mut Vec<(Outcome<'t, B>, f64)>)
    where
        S: Fn(&B) -> LeafState,
    {
        match tree {
            NameTree::Leaf(leaf) => ends.push((outcome(leaf, (self.state)(leaf)), share)),
            NameTree::Neg => ends.push((Outcome::Neg, share)),
            NameTree::Fail => ends.push((Outcome::Fail, share)),
            NameTree::Empty => ends.push((Outcome::Empty, share)),
            NameTree::Alt(children) => match self.alternative(children) {
                (Some(child), _) => self.shares(child, share, ends),
                (None, _) => ends.push((Outcome::Neg, share)),
            },
            NameTree::Union(union) => {
                let arms = Arms::new(self, union);
                if arms.kind() == Kind::Neg {
                    ends.push((Outcome::Neg, share));
                    return;
                }
                let on_unhealthy = (self.rules.on_unhealthy)(union.split);
                for (place, branch) in union.branches.iter().enumerate() {
                    let part = arms.share(place, on_unhealthy);
                    if part > 0.0 {
                        self.shares(&branch.tree, share * part, ends);
                    }
                }
            }
        }
    }

    /// The alternative that decides, and what comes of the alternation.
    fn alternative<'t, B>(&self, children: &'t [NameTree<B>]) -> (Option<&'t NameTree<B>>, Kind)
    where
        S: Fn(&B) -> LeafState,
    {
        let mut unusable = None;
        for child in children {
            let kind = self.kind(child);
            match (kind, self.rules.failover) {
                (Kind::Neg, _) => {}
                (Kind::Unusable { stops: false }, Failover::Health) => {
                    unusable.get_or_insert(child);
                }
                (Kind::Usable | Kind::Pending, _) => return (Some(child), kind),
                // It stops. What was unusable before it names the failure better.
                (Kind::Empty | Kind::Error | Kind::Fail | Kind::Unusable { .. }, _) => {
                    return match unusable {
                        Some(first) => (Some(first), Kind::Unusable { stops: true }),
                        None => (Some(child), kind),
                    };
                }
            }
        }
        match unusable {
            Some(first) => (Some(first), Kind::Unusable { stops: false }),
            None => (None, Kind::Neg),
        }
    }

    fn kind<B>(&self, tree: &NameTree<B>) -> Kind
    where
        S: Fn(&B) -> LeafState,
    {
        match tree {
            NameTree::Leaf(leaf) => match (self.state)(leaf) {
                LeafState::Error => Kind::Error,
                LeafState::Pending => Kind::Pending,
                LeafState::Unusable => Kind::Unusable { stops: false },
                LeafState::Usable => Kind::Usable,
            },
            NameTree::Neg => Kind::Neg,
            NameTree::Fail => Kind::Fail,
            NameTree::Empty => Kind::Empty,
            NameTree::Alt(children) => self.alternative(children).1,
            NameTree::Union(union) => Arms::new(self, union).kind(),
        }
    }
}

fn outcome<B>(leaf: &B, state: LeafState) -> Outcome<'_, B> {
    match state {
        LeafState::Error => Outcome::Error(leaf),
        LeafState::Pending => Outcome::Pending(leaf),
        LeafState::Unusable => Outcome::Unusable(leaf),
        LeafState::Usable => Outcome::Leaf(leaf),
    }
}

/// The branches of a union with their weights and states of this moment. Each state is asked for once, for the first [`ARMS_KEPT`] branches.
struct Arms<'p, 't, W, S, B> {
    picker: &'p Picker<'p, W, S>,
    union: &'t Union<B>,
    kinds: [Kind; ARMS_KEPT],
}

/// The branch that serves, and the one that the weights chose.
struct Chosen {
    place: usize,
    drawn: Drawn,
}

/// A branch that a draw fell on.
#[derive(Clone, Copy)]
struct Drawn {
    place: usize,
    /// Where in the branch's own share the draw fell, as 64 even bits again.
    rest: u64,
    /// The branch's units, of all units.
    units: (u64, u64),
}

impl<'p, 't, W: Weights, S: Fn(&B) -> LeafState, B> Arms<'p, 't, W, S, B> {
    fn new(picker: &'p Picker<'p, W, S>, union: &'t Union<B>) -> Self {
        let mut kinds = [Kind::Neg; ARMS_KEPT];
        for (kind, branch) in kinds.iter_mut().zip(&union.branches) {
            *kind = picker.kind(&branch.tree);
        }
        Arms { picker, union, kinds }
    }

    /// What comes of the union. Branches of weight 0 are not there at all.
    fn kind(&self) -> Kind {
        let (mut usable, mut unusable, mut empty, mut nothing, mut error, mut pending) = Default::default();
        for place in (0..self.union.branches.len()).filter(|&place| !self.weight(place).is_zero()) {
            *match self.kind_of(place) {
                Kind::Usable => &mut usable,
                Kind::Unusable { .. } => &mut unusable,
                Kind::Empty => &mut empty,
                Kind::Neg | Kind::Fail => &mut nothing,
                Kind::Error => &mut error,
                Kind::Pending => &mut pending,
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
        ];
        order.into_iter().find_map(|(there, kind): (bool, Kind)| there.then_some(kind)).unwrap_or(Kind::Neg)
    }

    /// The weights choose; if the chosen branch cannot serve, they choose again among those that can, with the rest of the draw.
    fn choose(&self, draw: u64, on_unhealthy: OnUnhealthy) -> Option<Chosen> {
        let drawn = self.draw(draw, is_there)?;
        let mut last = drawn;
        if matches!(self.kind_of(drawn.place), Kind::Error | Kind::Pending) {
            if let Some(ready) = self.draw(last.rest, is_ready) {
                last = ready;
            } else if self.kind_of(drawn.place) == Kind::Pending
                && let Some(failed) = self.first(Kind::Error)
            {
                // Nothing is ready: the first error wins over what is pending.
                last = Drawn { place: failed, ..last };
            } else if let Some(first) = self.first(self.kind_of(drawn.place)) {
                last = Drawn { place: first, ..last };
            }
        }
        if on_unhealthy == OnUnhealthy::Redistribute
            && matches!(self.kind_of(last.place), Kind::Unusable { .. })
            && let Some(usable) = self.draw(last.rest, is_usable)
        {
            last = usable;
        }
        Some(Chosen { place: last.place, drawn })
    }

    /// The probability that [`Arms::choose`] ends at this branch.
    fn share(&self, place: usize, on_unhealthy: OnUnhealthy) -> f64 {
        let (all, ready, usable) = (self.total(is_there), self.total(is_ready), self.total(is_usable));
        if ready == 0 {
            // Nothing but errors and pending names: the first error, or the first pending name.
            let first = self.first(Kind::Error).or_else(|| self.first(Kind::Pending));
            return if first == Some(place) { 1.0 } else { 0.0 };
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
                let rest = u64::try_from(offset / u128::from(units)).unwrap_or(u64::MAX);
                return Some(Drawn { place, rest, units: (units, total) });
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

impl Chosen {
    fn told<B>(&self, union: &Union<B>) -> Draw {
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

/// Weights become whole numbers, so that shares add up exactly: the largest one gets [`UNIT_BITS`] bits, smaller ones the same scale,
/// rounded down. Powers of two scale exactly, so equal weights stay equal and the ratio of whole numbers stays what it is.
fn units(weight: Weight, exponent: i32) -> u64 {
    let (mantissa, scale) = parts(weight);
    match scale.saturating_add(UNIT_BITS).saturating_sub(exponent) {
        shift @ 0..=63 => mantissa << shift, // below 2^UNIT_BITS, as the weight is below 2^exponent
        shift @ -63..=-1 => mantissa >> -shift,
        _ => 0,
    }
}

/// The smallest `e` with weight < 2^e; for weight 0 the smallest there is.
fn exponent_above(weight: Weight) -> i32 {
    let (mantissa, scale) = parts(weight);
    match u64::BITS - mantissa.leading_zeros() {
        0 => i32::MIN,
        bits => scale + i32::try_from(bits).unwrap_or(i32::MAX),
    }
}

/// Mantissa and power of two: their product is the weight, exactly.
fn parts(weight: Weight) -> (u64, i32) {
    let bits = weight.get().to_bits();
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    match i32::try_from(bits >> FRACTION_BITS).unwrap_or(0) {
        0 => (fraction, 1 - EXPONENT_BIAS),
        exponent => (fraction | 1 << FRACTION_BITS, exponent - EXPONENT_BIAS),
    }
}

/// States kept on the stack for one union; for the branches behind them they are asked for again.
const ARMS_KEPT: usize = 16;
/// With 2^16 branches at most, all units of a union stay below 2^62.
const UNIT_BITS: i32 = 46;
const FRACTION_BITS: u32 = 52;
/// Of a mantissa that is a whole number.
const EXPONENT_BIAS: i32 = 1023 + 52;

#[cfg(test)]
mod tests;
