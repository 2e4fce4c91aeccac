//! Names that somebody else binds: the question goes out with the router's dtab, and the answer is a tree.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use serin_config::dtab::{self, Dtab, NameTree, Path};
use serin_config::model::{Namerd, Router};

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
    /// The name comes from the file, not from the request.
    pub(super) by_file: bool,
    pub(super) written: &'a [&'a Dtab],
    pub(super) sent: &'a [&'a Dtab],
    pub(super) peer: SocketAddr,
}

/// The binding as it is known now; a name that is new is pending.
///
/// # Errors
/// The question is longer than one may be, or there are too many.
pub(super) fn bind(worker: &Worker, asking: &Asking<'_>) -> Result<Binding, ProxyError> {
    let Asking { remote, table, model, path, by_file, written, sent, peer } = asking;
    let added = dtab::travelling(written, sent);
    let whole = table.table.dtab().concat(&added);
    let too_long = || {
        ProxyError::BindingFailed(format!(
            "{path} and the dtab with it are longer than the {} octets of a question to a namerd",
            Namerd::QUESTION_OCTETS_MAX
        ))
    };
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
            let made = |id: &Path| made_by(path, *by_file, !sent.is_empty(), id);
            NameTree::clone(&tree).map(&mut |leaf| target(worker, remote, &caller, &service, (leaf, &made)))
        }
        (Addresses::Bound(_) | Addresses::Neg | Addresses::Pending, _) => {
            NameTree::Leaf(Target::Asked(Arc::clone(&question)))
        }
    };
    let context = (!added.is_empty()).then(|| HeaderValue::try_from(dtab::context_text(&added)).ok()).flatten();
    let service = LocalService::new(model.service_of(path), worker.workers);
    Ok(Binding { path: path.clone(), tree, context, service, remote: Some((question, set.version)) })
}

fn target(
    worker: &Worker,
    remote: &Remote,
    caller: &Caller<'_>,
    service: &Arc<str>,
    (leaf, made): (&RemoteLeaf, &dyn Fn(&Path) -> bool),
) -> Target {
    match leaf {
        RemoteLeaf::Failed(why) => Target::Failed(ProxyError::BindingFailed(why.clone())),
        RemoteLeaf::Name { id, residual } => match remote.addr(id, made(id)) {
            Some(at) => named(worker, caller, service, (id, &at), residual, true),
            None => Target::Failed(ProxyError::BindingFailed("a bound name is longer than a path may be".into())),
        },
    }
}

/// Does a bound id count as made by the request, for a name that is not `by_file`, or one with a dtab that was sent?
pub(crate) fn made_by(name: &Path, by_file: bool, with_dtab: bool, id: &Path) -> bool {
    place(id).is_some() && (with_dtab || (!by_file && may_spell(name, id)))
}

/// What stands behind `/$/inet` or its like: host and port. `None`: the id names none, but something that its namer knows.
fn place(id: &Path) -> Option<impl Iterator<Item = &[u8]>> {
    let system = id.labels().position(|label| label == b"$")?;
    // the label behind it is the kind
    Some(id.labels().skip(system + 2))
}

/// May host or port of a bound id come from the request's own name? A namerd does not say which dentry led where, but it
/// can only move, split and join what it was asked for: a label of which some piece stands nowhere in the name was
/// written by its operator. What cannot be decided counts as made by the request.
fn may_spell(name: &Path, id: &Path) -> bool {
    let stands_there = |piece: &[u8]| name.labels().any(|label| contains(label, piece));
    let spelled = |label: &[u8]| label.split(|octet| !octet.is_ascii_alphanumeric()).all(stands_there);
    place(id).is_some_and(|mut labels| labels.any(spelled))
}

/// Without regard to case: names of hosts have none.
fn contains(label: &[u8], piece: &[u8]) -> bool {
    piece.is_empty() || label.windows(piece.len()).any(|part| part.eq_ignore_ascii_case(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, id: &str, made: bool) {
        let (name, id) = (Path::parse(name).unwrap(), Path::parse(id).unwrap());
        assert_eq!(may_spell(&name, &id), made, "{name} to {id}");
    }

    #[test]
    fn what_no_request_named_is_its_operators() {
        check("/svc/web", "/$/inet/127.0.0.1/8080", false);
        check("/svc/web-1", "/$/inet/127.0.0.1/8080", false);
        check("/svc/1.1/GET/web", "/$/inet/127.0.0.1/8080", false);
        check("/svc/db", "/$/inet/db.internal/5432", false);
        check("/svc/web", "/$/io.buoyant.rinet/8080/localhost", false);
        check("/svc/web", "/%/io.l5d.port/4140/$/inet/127.0.0.1/8080", false);
        check("/svc/127.0.0.1", "/#/io.l5d.fs/web", false);
    }

    #[test]
    fn what_a_request_may_have_spelled_is_its_own() {
        check("/svc/127.0.0.1", "/$/inet/127.0.0.1/8080", true);
        check("/svc/127.0.0.1:8080", "/$/inet/127.0.0.1/8080", true);
        check("/http/1.1/GET/LocalHost", "/$/inet/localhost/8080", true);
        check("/svc/x127/0/0/y1", "/$/inet/127.0.0.1/8080", true);
        check("/svc/8080", "/$/inet/127.0.0.1/8080", true);
        check("/svc/p8080x", "/$/inet/127.0.0.1/8080", true);
        check("/svc/0x7f.1", "/$/io.buoyant.rinet/80/0x7f.1", true);
        check("/svc/rebound.test", "/$/inet/rebound.test/80", true);
        check("/svc/web", "/$/inet/-/80", true);
        check("/svc/127.0.0.1", "/%/io.l5d.port/4140/$/inet/127.0.0.1/8080", true);
    }
}
