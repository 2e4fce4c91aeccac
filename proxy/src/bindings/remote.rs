//! Names that somebody else binds: the question goes out with the router's dtab, and the answer is a tree.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use serin_config::dtab::{Dtab, NameTree, Path};
use serin_config::model::Router;

use super::{Binding, Caller, LocalService, Target, named};
use crate::clock;
use crate::endpoints::Addresses;
use crate::error::ProxyError;
use crate::local::UNBOUND;
use crate::resolve::{Remote, RemoteLeaf};
use crate::snapshot::RouterStructure;
use crate::worker::Worker;

/// What is asked, and for whom.
pub(super) struct Asking<'a> {
    pub(super) remote: &'a Remote,
    pub(super) table: &'a RouterStructure,
    pub(super) model: &'a Router,
    pub(super) path: Path,
    pub(super) written: &'a [&'a Dtab],
    pub(super) sent: &'a [&'a Dtab],
    pub(super) peer: SocketAddr,
}

/// The binding as it is known now; a name that is new is pending.
///
/// # Errors
/// The question is longer than one may be, or there are too many.
pub(super) fn bind(worker: &Worker, asking: &Asking<'_>) -> Result<Binding, ProxyError> {
    let Asking { remote, table, model, path, written, sent, peer } = asking;
    let added = written.iter().chain(*sent).fold(Dtab::default(), |all, one| all.concat(one));
    let whole = table.table.dtab().concat(&added);
    let too_long =
        || ProxyError::BindingFailed(format!("{path} and the dtab with it are longer than a question may be"));
    let question = remote.bind(path, &whole.to_string()).ok_or_else(too_long)?;
    let found = worker.endpoints.get(&question, true, Some(peer.ip()), clock::now_ms());
    let question = found.map_err(|_| ProxyError::TooManyNames)?;
    // before the tree: one that comes meanwhile makes this binding stale
    let set = question.addresses().load_full();
    let caller = Caller { label: &table.label, router: model, peer: *peer, overridden: !added.is_empty() };
    let tree = match (&set.addresses, question.tree()) {
        (Addresses::Absent(why) | Addresses::Failed(why), _) => {
            NameTree::Leaf(Target::Failed(ProxyError::BindingFailed(format!("{path}: {why}"))))
        }
        (Addresses::Bound(_), Some(tree)) => {
            let service: Arc<str> =
                if matches!(*tree, NameTree::Neg) { UNBOUND.into() } else { path.to_string().into() };
            NameTree::clone(&tree).map(&mut |leaf| target(worker, remote, &caller, &service, leaf))
        }
        (Addresses::Bound(_) | Addresses::Neg | Addresses::Pending, _) => {
            NameTree::Leaf(Target::Asked(Arc::clone(&question)))
        }
    };
    let context = (!added.is_empty()).then(|| HeaderValue::try_from(added.to_string()).ok()).flatten();
    let service = LocalService::new(model.service_of(path), worker.workers);
    Ok(Binding { path: path.clone(), tree, context, service, remote: Some((question, set.version)) })
}

fn target(worker: &Worker, remote: &Remote, caller: &Caller<'_>, service: &Arc<str>, leaf: &RemoteLeaf) -> Target {
    match leaf {
        RemoteLeaf::Failed(why) => Target::Failed(ProxyError::BindingFailed(why.clone())),
        RemoteLeaf::Name { id, residual } => match remote.addr(id) {
            Some(at) => named(worker, caller, service, (id, &at), residual, true),
            None => Target::Failed(ProxyError::BindingFailed("a bound name is longer than a path may be".into())),
        },
    }
}
