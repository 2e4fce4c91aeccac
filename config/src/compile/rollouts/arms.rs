//! Whether the names of a rollout's arms lead to anything that this file knows.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::dtab::{Answer, Bound, Dentry, Elem, Layers, Limits, NameTree, Names, Path, Prefix, Table, bind};
use crate::model::Router;
use crate::raw::{Cx, shown};
use crate::source::Span;

use super::super::dtabs::Known;
use super::super::names::CLUSTERS;
use super::one::Written;

/// The dtab of one router with the dentries of its rollouts, and what it could still become.
pub(super) struct Arms<'a> {
    known: &'a Known<'a>,
    table: Table,
    /// Every beginning of a prefix: a name that is one may be answered for once the rest of a request follows it.
    begins: HashSet<Path>,
    /// What stands before the first `*` of a prefix: behind it any name may be the beginning of one.
    wild: HashSet<Path>,
}

impl<'a> Arms<'a> {
    pub(super) fn new(known: &'a Known<'a>, router: &Router, rollouts: &[&Written]) -> Arms<'a> {
        let mut dtab = router.dtab.clone();
        dtab.0.extend(rollouts.iter().filter_map(|one| own_dentry(one)));
        let (mut begins, mut wild) = (HashSet::new(), HashSet::new());
        for dentry in &dtab.0 {
            let plain = dentry.prefix.elems().map_while(|elem| match elem {
                Elem::Label(label) => Some(label),
                Elem::Any => None,
            });
            let Some(path) = Path::from_labels(plain) else { continue };
            begins.extend((0..=path.len()).map(|n| path.take(n)));
            if dentry.prefix.is_wild() {
                wild.insert(path);
            }
        }
        Arms { known, table: Table::new(Arc::new(dtab)), begins, wild }
    }

    /// Refuses an arm that nothing answers for, whatever follows it.
    pub(super) fn check(&self, cx: &Cx<'_>, key: &str, arm: &Path, span: Span) {
        let asked = Asked { arms: self, nobody: RefCell::new(None) };
        let layers = Layers { base: &self.table, written: &[], sent: &[] };
        let tree: NameTree<Bound> = bind(&layers, &asked, arm, &Limits::default());
        if tree.simplified() != NameTree::Neg {
            return;
        }
        let Some(name) = asked.nobody.into_inner() else { return };
        let under = name.skip(1);
        let cluster =
            under.label(1).filter(|_| is_cluster(&under)).map(|name| String::from_utf8_lossy(name).into_owned());
        let (message, help) = match cluster {
            Some(cluster) => {
                let message = format!(
                    "`{key}` leads to `{}`, and there is no cluster `{}`",
                    shown(&name.to_string()),
                    shown(&cluster)
                );
                (message, self.known.cluster_advice(&cluster))
            }
            None => {
                let message = format!("`{key}` leads to `{}`, and nothing answers for it", shown(&name.to_string()));
                (
                    message,
                    "add a dentry for it to the router's `dtab`, or name a cluster: `/#/clusters/world-v2`".to_owned(),
                )
            }
        };
        cx.push(Diagnostic::error("rollout/unbound-arm", span, message).help(help));
    }
}

/// What the rollout will add, as far as names go.
fn own_dentry(one: &Written) -> Option<Dentry> {
    let prefix = Prefix::from_elems(one.rollout.path.labels().map(Elem::Label))?;
    Some(Dentry { prefix, destination: NameTree::Leaf(one.rollout.primary.clone()) })
}

fn is_cluster(under: &Path) -> bool {
    under.label(0) == Some(CLUSTERS.as_bytes())
}

/// The namers as this file tells of them: who does not surely say no says perhaps.
struct Asked<'a> {
    arms: &'a Arms<'a>,
    /// The first name that nobody knows.
    nobody: RefCell<Option<Path>>,
}

impl Names for Asked<'_> {
    fn lookup(&self, path: &Path) -> Answer {
        let known = self.arms.known;
        let perhaps = match path.label(0) {
            Some(b"#") => {
                let under = path.skip(1);
                match under.label(1) {
                    Some(name) if is_cluster(&under) => known.has_cluster(&String::from_utf8_lossy(name)),
                    None if is_cluster(&under) => true,
                    _ => known.may_name(&under),
                }
            }
            _ => false,
        };
        let more = self.arms.begins.contains(path)
            || !self.arms.wild.is_empty() && (0..=path.len()).any(|n| self.arms.wild.contains(&path.take(n)));
        if perhaps || more {
            return Answer::Pending;
        }
        self.nobody.borrow_mut().get_or_insert_with(|| path.clone());
        Answer::Neg
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Source};

    #[track_caller]
    fn check_canary(dtab: &str, canary: &str, code: Option<&str>) {
        let text = format!(
            "clusters: {{v1: {{endpoints: []}}, v2: {{endpoints: []}}}}\nstorage: {{kind: memory}}\n\
             namers: [{{kind: io.l5d.fs, rootDir: disco}}]\nrouters: [{{label: out, servers: [{{port: 1}}], dtab: '{dtab}'}}]\n\
             rollouts: [{{name: a, router: out, path: /host/a, primary: /#/clusters/v1, canary: {canary}, pace: evidence}}]\n"
        );
        let found = Config::parse(&Source::new("t", text)).err().map(|mistakes| mistakes[0].code);
        assert_eq!(found, code, "{dtab} {canary}");
    }

    const DTAB: &str = "/srv => /#/clusters ; /files => /#/io.l5d.fs ; /in/*/x => /srv ; /host => /srv ; /svc => /host";

    #[test]
    fn an_arm_that_nobody_can_answer_for_is_refused() {
        check_canary(DTAB, "/srv/v3", Some("rollout/unbound-arm"));
        check_canary(DTAB, "/elsewhere/v2", Some("rollout/unbound-arm"));
        check_canary(DTAB, "/host/b", Some("rollout/unbound-arm"));
    }

    #[test]
    fn an_arm_that_may_be_there_is_taken() {
        for canary in
            ["/srv/v2", "/host/v2", "/files/anything", "/srv", "/in", "/in/y", "/in/y/x/v2", "/$/inet/x.test/80"]
        {
            check_canary(DTAB, canary, None);
        }
        check_canary("/svc => /host ; /host/b => /$/inet/b.test/80 | !", "/host/b", None);
        check_canary("/svc => /host ; /x => !", "/x", None);
    }
}
