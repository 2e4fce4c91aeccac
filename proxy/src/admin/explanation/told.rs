//! What a namerd binds a name to, for routers whose names it binds.

use std::sync::Arc;

use serin_config::dtab::{self, BindError, Bound, Dtab, Layers, NameTree, Path};

use super::{ExplainedStep, shown};
use crate::bindings::made_by;
use crate::endpoints::{Addresses, Cluster};
use crate::resolve::{Remote, RemoteLeaf};

/// What is known of a question to a namerd.
#[derive(Clone, Debug)]
pub enum Told {
    /// Why it has no answer.
    Failed(Arc<str>),
    /// It is asked, and has not answered yet.
    Pending,
    /// Its answer.
    Tree(Arc<NameTree<RemoteLeaf>>),
    /// Nobody asks here.
    Unasked,
}

impl Told {
    /// As the cluster has it that stands for a question.
    pub fn of(question: &Cluster) -> Self {
        match (&question.addresses().load().addresses, question.tree()) {
            (Addresses::Absent(why) | Addresses::Failed(why), _) => Self::Failed(Arc::clone(why)),
            (Addresses::Bound(_), Some(tree)) => Self::Tree(tree),
            (Addresses::Bound(_) | Addresses::Neg | Addresses::Pending, _) => Self::Pending,
        }
    }
}

/// A name as it goes to a namerd.
pub(crate) struct Asked<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) path: &'a Path,
    /// The name comes from the file, not from the request.
    pub(crate) by_file: bool,
    pub(crate) layers: &'a Layers<'a>,
}

impl Asked<'_> {
    /// The tree as the answer has it, as if it had been bound here.
    pub(crate) fn tree(&self, told: &dyn Fn(&Path) -> Told) -> NameTree<Bound> {
        let Layers { base, written, sent } = self.layers;
        let whole: Dtab = base.dtab().concat(&dtab::travelling(written, sent));
        let failed =
            |message: String| NameTree::Leaf(Bound::Error(BindError::Namer { path: self.path.to_string(), message }));
        let Some(question) = self.remote.bind(self.path, &whole.to_string()) else {
            return failed("the name and the dtab with it are longer than a question to a namerd may be".to_owned());
        };
        match told(&question) {
            Told::Failed(why) => failed(why.to_string()),
            Told::Pending | Told::Unasked => NameTree::Leaf(Bound::Pending),
            Told::Tree(tree) => tree.map(&mut |leaf| match leaf {
                RemoteLeaf::Failed(message) => {
                    let (path, message) = (self.path.to_string(), message.clone());
                    Bound::Error(BindError::Namer { path, message })
                }
                RemoteLeaf::Name { id, residual } => {
                    Bound::Name { id: id.clone(), residual: residual.clone(), written: !self.made(id) }
                }
            }),
        }
    }

    /// Does a bound id count as made by the request.
    pub(crate) fn made(&self, id: &Path) -> bool {
        made_by(self.path, self.by_file, !self.layers.sent.is_empty(), id)
    }

    /// The only step that is known.
    pub(super) fn step(&self, tree: &NameTree<Bound>) -> ExplainedStep {
        let result = format!("namerd: {}", tree.map(&mut shown));
        ExplainedStep { depth: 0, path: self.path.to_string(), dentry: None, result }
    }
}
