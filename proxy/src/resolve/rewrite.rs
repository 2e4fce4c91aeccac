//! `io.l5d.rewrite`: names that are other names.

use std::sync::Arc;

use serin_config::dtab::{Answer, Path, Pattern};

use super::names::{Content, NameSet, Namer};

/// Serves nothing itself: what its pattern matches is looked up again under another name.
pub(super) struct RewriteNamer {
    prefix: Path,
    rule: Arc<Rule>,
}

struct Rule {
    pattern: Pattern,
    name: String,
}

impl RewriteNamer {
    pub(super) fn new(prefix: Path, pattern: Pattern, name: String) -> Self {
        Self { prefix, rule: Arc::new(Rule { pattern, name }) }
    }
}

impl Namer for RewriteNamer {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn refresh(&mut self) -> bool {
        false // another configuration makes another one
    }

    fn names(&self) -> Arc<dyn NameSet> {
        Arc::clone(&self.rule) as Arc<dyn NameSet>
    }

    fn each(&self, _tell: &mut dyn FnMut(&Path, &Content)) {}
}

impl NameSet for Rule {
    /// A capture may take nothing, so the new name may be no path: an error that says which.
    fn lookup(&self, rest: &Path) -> Answer {
        let Some(found) = self.pattern.captures(rest) else { return Answer::Neg };
        let name = found.substitute(&self.name);
        match Path::parse(&name) {
            Ok(path) => Answer::Rewrite(path),
            Err(_) => Answer::Error(format!("`{name}` is no path")),
        }
    }
}
