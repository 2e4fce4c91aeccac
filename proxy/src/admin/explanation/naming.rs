//! What names a request, by the code that routes.

use serin_config::dtab::Path;
use serin_config::identify::{self, identify};
use serin_config::model::{Identifier, Router};

use super::{Ask, AskError, NamedBy};
use crate::snapshot::RouterStructure;

/// A name, and how it came about.
pub(super) struct Named {
    pub(super) path: Path,
    /// It comes from the file, nothing of it from the request.
    pub(super) written: bool,
    pub(super) by: Option<NamedBy>,
}

pub(super) enum Naming {
    Named(Named),
    Redirect(NamedBy),
}

/// The name that is asked for, or the one the request has.
pub(super) fn named(model: &Router, router: &RouterStructure, ask: &Ask) -> Result<Naming, AskError> {
    if let Some(path) = &ask.path {
        return Ok(Naming::Named(Named { path: path.clone(), written: false, by: None }));
    }
    let parts = ask.parts();
    let found = router.rules.find(&parts);
    let action = found.and_then(|found| Some((router.rules.action(found.rule)?, found.prefix)));
    let mut by = NamedBy { rule: found.map(|found| found.rule + 1), ..NamedBy::default() };
    if let Some((action, prefix)) = action {
        let redirect = action.redirect(&parts, prefix).map_err(|error| AskError::new(error.to_string()))?;
        if let Some((status, place)) = redirect {
            by.redirects = Some(format!("{} to {place}", status.as_u16()));
            return Ok(Naming::Redirect(by));
        }
        let target = action.target(&parts, prefix).map_err(|error| AskError::new(error.to_string()))?;
        by.sends_path = target.map(|target| target.path().to_owned());
        by.sends_host = action.host().map(ToString::to_string);
        if let Some(path) = action.path() {
            return Ok(Naming::Named(Named { path, written: true, by: Some(by) }));
        }
    }
    let mut key = Vec::new();
    let found = identify(&model.identifiers, &model.dst_prefix, &parts, &mut key).ok_or_else(|| {
        AskError::new(
            "the request names no service: give --path /svc/name or the header that names it, such as 'Host: name'",
        )
    })?;
    let path = identify::path(&key).ok_or_else(|| AskError::new("the name is longer than a path may be"))?;
    if by.sends_path.is_none() && found.consumed > 0 {
        by.sends_path = Some(identify::rest(&ask.uri_path, found.consumed).to_owned());
    }
    by.identifier = Some(found.by + 1);
    by.kind = model.identifiers.get(found.by).map(Identifier::kind);
    Ok(Naming::Named(Named { path, written: identify::is_written(&key), by: Some(by) }))
}
