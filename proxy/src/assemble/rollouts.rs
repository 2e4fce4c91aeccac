//! The dentries that rollouts own.

use std::collections::VecDeque;
use std::sync::Arc;

use serin_config::dtab::{Branch, Dentry, Dtab, Elem, NameTree, Path, Prefix, SplitShape, Union, Weight};
use serin_config::model::{Rollout, Router};

use super::Parts;
use crate::evidence::SplitEvidence;
use crate::snapshot::{Arms, RolloutSplit, Routing};

/// Rollouts of one router that wait for their split to get its place, in the order of their dentries.
pub(super) struct Placed<'a>(VecDeque<(usize, Owned<'a>)>);

/// A rollout with its split.
pub(super) struct Owned<'a> {
    pub(super) file: &'a Rollout,
    pub(super) split: Arc<RolloutSplit>,
}

impl<'a> Placed<'a> {
    /// So many dentries were put in front of all.
    pub(super) fn move_by(&mut self, dentries: usize) {
        self.0.iter_mut().for_each(|(at, _)| *at += dentries);
    }

    /// The rollout whose own union this is. To be asked in the order of the splits.
    pub(super) fn take(&mut self, shape: &SplitShape) -> Option<Owned<'a>> {
        let mine = self.0.front().is_some_and(|(dentry, _)| *dentry == shape.dentry && shape.ordinal == 0);
        if mine { self.0.pop_front().map(|(_, owned)| owned) } else { None }
    }
}

/// Adds the dentry of each rollout of this router: `path => 0 * canary & primary | fallback`, directly behind the last
/// dentry of exactly that prefix in the file, or at the end where there is none. So more specific dentries behind it keep winning,
/// and what stood there before is reached only through the fallback.
pub(super) fn place<'a>(parts: &Parts<'a>, router: &Router, dtab: &mut Dtab) -> Placed<'a> {
    let mut placed: Vec<(usize, Owned<'a>)> = Vec::new();
    for file in parts.config.rollouts.iter().filter(|rollout| rollout.router == router.label) {
        let arms = arms(file, parts.routings.get(file.name.as_str()));
        let at =
            dtab.0.iter().rposition(|dentry| is_prefix(&dentry.prefix, &file.path)).map_or(dtab.0.len(), |at| at + 1);
        let Some(dentry) = dentry(file, &arms) else { continue };
        dtab.0.insert(at, dentry);
        placed.iter_mut().filter(|(other, _)| *other >= at).for_each(|(other, _)| *other += 1);
        placed.push((at, Owned { file, split: Arc::new(split(parts, file, arms)) }));
    }
    placed.sort_by_key(|(at, _)| *at);
    Placed(placed.into())
}

/// Which name is the primary, and which the canary. A file that changed its primary wins over everything; a file that
/// changed its canary starts from what is proven.
fn arms(file: &Rollout, routing: Option<&Routing>) -> Arms {
    let canary = file.canary.clone();
    match routing.filter(|routing| routing.origin == file.primary) {
        None => Arms { primary: file.primary.clone(), canary },
        Some(routing) if routing.arms.canary == canary => routing.arms.clone(),
        Some(routing) => Arms { primary: routing.proven.clone(), canary },
    }
}

/// `None` for a prefix longer than any; the compiler of the file refuses such.
fn dentry(file: &Rollout, arms: &Arms) -> Option<Dentry> {
    let branch = |index, weight, path: &Path| Branch { weight, index, tree: NameTree::Leaf(path.clone()) };
    let branches = vec![branch(0, Weight::ZERO, &arms.canary), branch(1, Weight::ONE, &arms.primary)];
    let union = NameTree::Union(Union { split: None, branches });
    let destination = NameTree::Alt(vec![union, file.fallback.clone()]);
    let elems: Vec<Elem<'_>> = file.path.labels().map(Elem::Label).collect();
    Some(Dentry { prefix: Prefix::from_elems(elems)?, destination })
}

/// The evidence of a rollout lives on where its arms are the same.
fn split(parts: &Parts<'_>, file: &Rollout, arms: Arms) -> RolloutSplit {
    let before = parts.previous.and_then(|previous| previous.structure.rollout(&file.name));
    let kept = before.filter(|(_, split)| split.arms == arms).map(|(_, split)| Arc::clone(&split.evidence));
    RolloutSplit {
        name: file.name.as_str().into(),
        arms,
        strategy: file.strategy.clone(),
        affinity: file.affinity.clone(),
        evidence: kept.unwrap_or_else(|| Arc::new(SplitEvidence::new(parts.workers))),
    }
}

fn is_prefix(prefix: &Prefix, path: &Path) -> bool {
    prefix.len() == path.len() && prefix.elems().zip(path.labels()).all(|(elem, label)| elem == Elem::Label(label))
}
