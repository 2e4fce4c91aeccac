//! Choosing one leaf of a bound tree for one request, without allocating.

mod arms;
mod units;

#[cfg(test)]
mod tests;

use self::arms::Arms;
use super::{NameTree, SplitId, Weight};
use crate::model::{Failover, OnUnhealthy};

/// Weights of this moment; they win over the written ones.
pub trait Weights {
    /// `None`: the written weight holds. `index` is [`Branch::index`](super::Branch::index).
    fn weight(&self, split: SplitId, index: u16) -> Option<Weight>;
}

/// What the caller knows about a leaf at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafState {
    /// The namer was asked, and knows no such name: as if `~` stood here.
    Absent,
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
    /// [`Branch::index`](super::Branch::index) of the branch that serves.
    pub index: u16,
    /// [`Branch::index`](super::Branch::index) of the branch that the weights chose; it differs from
    /// `index` if that one could not serve.
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
/// `draw` gives 64 evenly distributed bits for a union: random ones, or a hash of a user's key and the split. It is
/// called once for each union on the way, so nested unions are independent if its answers are.
///
/// **Unions.** A branch of weight 0 is never chosen; a union without any other branch is Neg. Branches that are Neg or
/// Fail are left out. The weights choose among all others, the first branch at the low draws; so raising its weight
/// only ever moves draws to it, and the illness of one branch moves nobody but its own users. An error, a pending
/// or an absent name gives its share to the rest, as an unusable branch does where the rules say so: to usable
/// branches, by their weights. `$` keeps its share.
///
/// **Alternations.** The first that is neither Neg nor absent; `!`, `$` and an error stop, a pending name is waited for. With
/// [`Failover::Health`] what has nothing usable is passed over too; if nothing usable follows, the first unusable one
/// is the outcome, so that the error names it.
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
    /// A name that its namer does not have at this moment.
    Absent,
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
        let (mut unusable, mut nothing) = (None, Kind::Neg);
        for child in children {
            let kind = self.kind(child);
            match (kind, self.rules.failover) {
                (Kind::Neg, _) => {}
                (Kind::Absent, _) => nothing = Kind::Absent,
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
            None => (None, nothing),
        }
    }

    fn kind<B>(&self, tree: &NameTree<B>) -> Kind
    where
        S: Fn(&B) -> LeafState,
    {
        match tree {
            NameTree::Leaf(leaf) => match (self.state)(leaf) {
                LeafState::Absent => Kind::Absent,
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
        LeafState::Absent => Outcome::Neg,
        LeafState::Error => Outcome::Error(leaf),
        LeafState::Pending => Outcome::Pending(leaf),
        LeafState::Unusable => Outcome::Unusable(leaf),
        LeafState::Usable => Outcome::Leaf(leaf),
    }
}
