//! The seam between binding and the sources of names.
//!
//! Binding is pure: it asks a [`NameTable`], an immutable picture of which names exist. Where those names are served is
//! filled in behind it, by the [`super::Resolver`]. A source of names is a [`Namer`]: it draws the picture and tells the
//! targets. A source that must be asked for each name (a registry over the network) has every name of its shape in its
//! picture; whether it exists is part of what is learned behind it, as [`Content`], and the pick passes over names that
//! do not. So a name that comes or goes rebuilds no snapshot and empties no cache.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serin_config::dtab::{Answer, Names, Path};
use serin_config::model;

use super::targets::Target;
use super::watches::Source;

/// A source of names under `/#/<prefix>`, owned by the control thread.
pub(super) trait Namer: Send {
    /// The prefix, without `/#`.
    fn prefix(&self) -> &Path;

    /// Looks at the source again; says whether names came or went.
    fn refresh(&mut self) -> bool;

    /// Which names exist as of the last refresh.
    fn names(&self) -> Arc<dyn NameSet>;

    /// Who is asked for each name, if the names cannot be listed.
    fn source(&self) -> Option<Arc<dyn Source>> {
        None
    }

    /// Every name (without the prefix) and where it is served, as of the last refresh.
    fn each(&self, tell: &mut dyn FnMut(&Path, &Content));
}

/// Which names of one namer exist; never changes.
pub(super) trait NameSet: Send + Sync {
    /// Answers for the path behind the namer's prefix; `id_len` of an [`Answer::Bound`] counts from there.
    fn lookup(&self, rest: &Path) -> Answer;
}

/// What a namer says of one name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Its namer was asked and does not have it.
    Absent(Arc<str>),
    /// It exists, but where it is served was never legible.
    Failed(Arc<str>),
    /// Where it is served.
    Targets(Arc<[Target]>),
}

/// All names that exist, for binding. Immutable: a snapshot holds one by [`Arc`].
#[derive(Clone, Default)]
pub struct NameTable {
    /// In the order of the file; asked last to first.
    namers: Vec<(Path, Arc<dyn NameSet>)>,
}

impl NameTable {
    /// The picture that `namers` draw now.
    pub(super) fn of<'a>(namers: impl IntoIterator<Item = &'a Box<dyn Namer>>) -> Self {
        Self { namers: namers.into_iter().map(|namer| (namer.prefix().clone(), namer.names())).collect() }
    }
}

impl Names for NameTable {
    fn lookup(&self, path: &Path) -> Answer {
        if path.labels().next() != Some(b"#".as_slice()) {
            return Answer::Neg;
        }
        let path = path.skip(1);
        for (prefix, names) in self.namers.iter().rev().filter(|(prefix, _)| path.starts_with(prefix)) {
            match names.lookup(&path.skip(prefix.len())) {
                Answer::Neg => {}
                Answer::Bound { id_len } => return Answer::Bound { id_len: 1 + prefix.len() + id_len },
                other => return other,
            }
        }
        Answer::Neg
    }
}

impl fmt::Debug for NameTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.namers.iter().map(|(prefix, _)| prefix.to_string())).finish()
    }
}

/// The replica sets of the configuration: `/#/clusters/<name>`.
pub(super) struct StaticClusters {
    prefix: Path,
    names: Arc<HashSet<Path>>,
    clusters: Vec<(Path, Content)>,
}

impl StaticClusters {
    pub(super) fn new(clusters: &[model::Cluster]) -> Self {
        let content = |cluster: &model::Cluster| Content::Targets(cluster.endpoints.iter().map(Target::from).collect());
        let named = clusters.iter().filter_map(|cluster| Some((Path::from_labels([&cluster.name])?, content(cluster))));
        let clusters: Vec<_> = named.collect();
        Self {
            prefix: Path::from_labels(["clusters"]).unwrap_or_else(Path::root),
            names: Arc::new(clusters.iter().map(|(name, _)| name.clone()).collect()),
            clusters,
        }
    }
}

impl Namer for StaticClusters {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn refresh(&mut self) -> bool {
        false // another configuration makes another one
    }

    fn names(&self) -> Arc<dyn NameSet> {
        Arc::clone(&self.names) as Arc<dyn NameSet>
    }

    fn each(&self, tell: &mut dyn FnMut(&Path, &Content)) {
        self.clusters.iter().for_each(|(name, content)| tell(name, content));
    }
}

/// A namer whose names cannot be listed.
pub(super) struct AskedNamer {
    prefix: Path,
    shape: Arc<Shape>,
    source: Arc<dyn Source>,
}

/// Every name with so many labels.
struct Shape(usize);

impl AskedNamer {
    pub(super) fn new(prefix: Path, labels: usize, source: Arc<dyn Source>) -> Self {
        Self { prefix, shape: Arc::new(Shape(labels)), source }
    }
}

impl Namer for AskedNamer {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn refresh(&mut self) -> bool {
        false // its names are watched one by one
    }

    fn names(&self) -> Arc<dyn NameSet> {
        Arc::clone(&self.shape) as Arc<dyn NameSet>
    }

    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::clone(&self.source))
    }

    fn each(&self, _tell: &mut dyn FnMut(&Path, &Content)) {}
}

impl NameSet for Shape {
    fn lookup(&self, rest: &Path) -> Answer {
        // in a URL these are other places, and no name of DNS: nobody is asked
        let is_dots = |label: &[u8]| matches!(label, b"." | b"..");
        if rest.len() < self.0 || rest.labels().take(self.0).any(is_dots) {
            return Answer::Neg;
        }
        Answer::Bound { id_len: self.0 }
    }
}

/// A name is its first labels that are in the set; what follows is the residual.
impl NameSet for HashSet<Path> {
    fn lookup(&self, rest: &Path) -> Answer {
        let found = (1..=rest.len().min(NAME_LABELS_MAX)).find(|len| self.contains(&rest.take(*len)));
        found.map_or(Answer::Neg, |id_len| Answer::Bound { id_len })
    }
}

/// Labels in a name of a namer: folders and the file.
pub(super) const NAME_LABELS_MAX: usize = 9;
