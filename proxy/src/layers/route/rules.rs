//! The rule that a request meets, and what it changes.

use http::Response;
use http::uri::PathAndQuery;
use serin_config::identify::{self, identify};
use serin_config::model::Router;

use crate::body::Body;
use crate::error::ProxyError;
use crate::exchange::{Exchange, Sends};
use crate::router::{self, Action, Found, Parts};
use crate::snapshot::RouterStructure;

/// What the rules say of a request.
pub(super) enum Met {
    Nothing,
    Rule(Found),
    Redirect(Box<Response<Body>>),
}

/// The most specific rule. One that redirects has its answer.
pub(super) fn meet(exchange: &Exchange) -> Result<Met, ProxyError> {
    let table = &exchange.local.snapshot.structure.routers[exchange.server().router].rules;
    if table.is_empty() {
        return Ok(Met::Nothing);
    }
    let parts = parts(exchange);
    let Some(found) = table.find(&parts) else { return Ok(Met::Nothing) };
    let Some(action) = table.action(found.rule) else { return Ok(Met::Nothing) };
    let Some((status, place)) = action.redirect(&parts, found.prefix)? else { return Ok(Met::Rule(found)) };
    let (name, value) = router::location(&place).ok_or(ProxyError::BadRequest("the target is malformed"))?;
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response.headers_mut().insert(name, value);
    action.change_response(response.headers_mut());
    Ok(Met::Redirect(Box::new(response)))
}

/// Leaves the key of the name in `out`: the rule's, or what the identifiers find. Returns how many octets of the path are
/// consumed by that; `None`: nobody names the request.
pub(super) fn name(
    structure: &RouterStructure,
    model: &Router,
    parts: &Parts<'_>,
    ruled: Option<Found>,
    out: &mut Vec<u8>,
) -> Option<usize> {
    if let Some(key) = ruled.and_then(|found| structure.rules.action(found.rule)).and_then(Action::name) {
        out.extend_from_slice(key);
        return Some(0);
    }
    identify(&model.identifiers, &model.dst_prefix, parts, out).map(|named| named.consumed)
}

/// Sets what is sent on in place of what came: the rule's path, or what is left where segments were consumed.
pub(super) fn rewrite(exchange: &mut Exchange, ruled: Option<Found>, consumed: usize) -> Result<(), ProxyError> {
    if ruled.is_none() && consumed == 0 {
        return Ok(());
    }
    let parts = parts(exchange);
    let rules = &exchange.local.snapshot.structure.routers[exchange.server().router].rules;
    let mut target = None;
    if let Some(found) = ruled
        && let Some(action) = rules.action(found.rule)
    {
        target = action.target(&parts, found.prefix)?;
    }
    if target.is_none() && consumed > 0 {
        target = Some(rest(&parts, consumed)?);
    }
    let rule = ruled.map(|found| found.rule).filter(|rule| rules.action(*rule).is_some_and(Action::changes));
    if target.is_some() || rule.is_some() {
        exchange.sends = Some(Box::new(Sends { target, rule }));
    }
    Ok(())
}

/// The segments that named the request are not sent on.
fn rest(parts: &Parts<'_>, consumed: usize) -> Result<PathAndQuery, ProxyError> {
    let rest = identify::rest(parts.path, consumed);
    let target = match parts.query {
        Some(query) => PathAndQuery::try_from(format!("{rest}?{query}")),
        None => PathAndQuery::try_from(rest),
    };
    target.map_err(|_| ProxyError::BadRequest("the target is malformed"))
}

/// The rule's changes of the headers, once, when the request is on its way.
pub(super) fn change(exchange: &mut Exchange) {
    let Some(rule) = exchange.sends.as_ref().and_then(|sends| sends.rule) else { return };
    let router = exchange.server().router;
    if let Some(action) = exchange.local.snapshot.structure.routers[router].rules.action(rule) {
        action.change_request(&mut exchange.parts.headers);
    }
}

/// What rules and identifiers look at.
pub(super) fn parts(exchange: &Exchange) -> Parts<'_> {
    Parts {
        method: &exchange.parts.method,
        version: exchange.parts.version,
        host: exchange.host(),
        path: exchange.parts.uri.path(),
        query: exchange.parts.uri.query(),
        headers: &exchange.parts.headers,
        peer: exchange.peer(),
    }
}
