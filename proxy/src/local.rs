//! A snapshot as one worker uses it: beside the shared part, what must not be shared.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use serin_config::dtab::SplitId;
use serin_metrics::{RequestLabels, Shard, SplitCells};

use crate::bindings::Bindings;
use crate::inflight::{Gate, Series};
use crate::ledger::{Ledger, Teller};
use crate::snapshot::{ServerStructure, Snapshot, SplitInfo, Structure};

/// Metric label of requests whose name did not bind.
pub const UNBOUND: &str = "(unbound)";

/// One snapshot on one worker. A change of weights makes a new one around the same shape.
#[derive(Debug)]
pub struct Local {
    /// The shared part.
    pub snapshot: Arc<Snapshot>,
    /// The worker's part, which lives as long as the structure.
    pub shape: Rc<Shape>,
}

/// The worker's part of a structure.
#[derive(Debug)]
pub struct Shape {
    /// What it belongs to.
    pub structure: Arc<Structure>,
    /// As [`Structure::routers`].
    pub routers: Vec<LocalRouter>,
    /// As [`Structure::servers`].
    pub gates: Vec<Rc<Gate>>,
    /// As [`Structure::splits`].
    pub splits: Vec<Rc<LocalSplit>>,
}

/// The worker's part of a router.
#[derive(Debug)]
pub struct LocalRouter {
    /// Bound names.
    pub bindings: Bindings,
    /// Counts requests that had no name.
    pub unbound: Rc<Series>,
}

/// The worker's part of one split. It outlives the structure as long as the split keeps its name and branches.
#[derive(Debug)]
pub struct LocalSplit {
    /// What it is.
    pub info: SplitInfo,
    /// The split of a rollout is watched.
    pub watched: Option<Rc<Watched>>,
    cells: Vec<Arc<SplitCells>>,
}

/// This worker's book of a rollout. It lives as long as the evidence, whatever else of its split changes.
#[derive(Debug)]
pub struct Watched {
    /// Of the rollout.
    pub name: Arc<str>,
    /// The book.
    pub ledger: RefCell<Ledger>,
    /// The tick knows of it.
    pub ticking: Cell<bool>,
}

impl Local {
    /// This worker's view of `snapshot`; what can be kept of the view before it is kept.
    pub fn new(snapshot: Arc<Snapshot>, before: Option<&Rc<Self>>, shard: &Shard, teller: &Teller) -> Self {
        let before = before.map(|local| &local.shape);
        let shape = match before {
            Some(shape) if Arc::ptr_eq(&shape.structure, &snapshot.structure) => Rc::clone(shape),
            _ => Rc::new(Shape::new(Arc::clone(&snapshot.structure), before, shard, teller)),
        };
        Self { snapshot, shape }
    }
}

impl Shape {
    fn new(structure: Arc<Structure>, before: Option<&Rc<Self>>, shard: &Shard, teller: &Teller) -> Self {
        let router = |index: usize| {
            let labels = RequestLabels {
                router: Arc::clone(&structure.routers[index].label),
                service: UNBOUND.into(),
                client: "".into(),
                arm: "",
            };
            let unbound = Rc::new(Series(shard.requests(&labels)));
            LocalRouter { bindings: Bindings::new(&structure.config.routers[index].binding), unbound }
        };
        let split = |info: &SplitInfo| {
            let kept = before.and_then(|shape| shape.splits.iter().find(|split| split.info == *info));
            kept.map_or_else(|| Rc::new(LocalSplit::new(info, before, shard, teller)), Rc::clone)
        };
        Self {
            routers: (0..structure.routers.len()).map(router).collect(),
            gates: structure.servers.iter().map(|server| gate(server, before)).collect(),
            splits: structure.splits.iter().map(split).collect(),
            structure,
        }
    }

    /// Index of the listener in this structure; `None` once it was removed.
    pub fn server(&self, listener: u64) -> Option<usize> {
        self.structure.servers.iter().position(|server| server.listener.id == listener)
    }

    /// Forgets names that were not used for long.
    pub fn sweep(&self, now_ms: u64) {
        for router in &self.routers {
            router.bindings.sweep(now_ms);
        }
    }
}

/// A listener that stays keeps its count: requests that run began under it.
fn gate(server: &ServerStructure, before: Option<&Rc<Shape>>) -> Rc<Gate> {
    let kept = before.and_then(|shape| Some(Rc::clone(&shape.gates[shape.server(server.listener.id)?])));
    if let Some(kept) = kept.filter(|gate| gate.is_shared() == server.in_flight.is_some()) {
        return kept;
    }
    Rc::new(match &server.in_flight {
        Some(shared) => Gate::Shared(Arc::clone(shared)),
        None => Gate::Local(Cell::new(0)),
    })
}

impl LocalSplit {
    fn new(info: &SplitInfo, before: Option<&Rc<Shape>>, shard: &Shard, teller: &Teller) -> Self {
        let cells = info.branches.iter().map(|branch| shard.split(&info.router, &info.name, branch)).collect();
        let watched = info.rollout.as_ref().map(|rollout| {
            let mut known =
                before.into_iter().flat_map(|shape| &shape.splits).filter_map(|split| split.watched.as_ref());
            let kept = known.find(|known| Arc::ptr_eq(known.ledger.borrow().evidence(), &rollout.evidence));
            kept.map(Rc::clone).unwrap_or_else(|| {
                let ledger = Ledger::new(Arc::clone(&rollout.evidence), teller.clone());
                let name = Arc::clone(&rollout.name);
                Rc::new(Watched { name, ledger: RefCell::new(ledger), ticking: Cell::new(false) })
            })
        });
        Self { watched, cells, info: info.clone() }
    }

    /// The weights chose this branch for a request.
    pub fn count(&self, branch: u16, redistributed: bool) {
        if let Some(cells) = self.cells.get(usize::from(branch)) {
            cells.choices.inc();
            if redistributed {
                cells.redistributed.inc();
            }
        }
    }
}

/// A split's place in a structure, as an index.
pub fn index(split: SplitId) -> usize {
    split.0 as usize
}
