//! How requests come to the canary: match rules, copies, the cookie Serin issues.

use crate::diagnostic::Diagnostic;
use crate::model::{Affinity, MatchRule, Mirror, Strategy, When};
use crate::raw::{Cx, Fields, not_built};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::Node;

use super::super::conditions::conditions;
use super::super::rules;
use super::limited;
use super::values::PAIRS_MAX;

/// Rules of one `match`: every request is compared with each.
pub const MATCH_RULES_MAX: usize = 64;

/// `match`: the rules, if it is written.
pub(super) fn matches(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Option<Vec<MatchRule>> {
    const EXAMPLE: &str = "[{headers: {cookie: {regex: \".*canary=always.*\"}}}]";
    let entry = fields.take(cx, "match")?;
    let errors_before = cx.errors();
    let items = limited(cx, "match", entry, MATCH_RULES_MAX, EXAMPLE);
    let rules: Vec<MatchRule> = items.iter().filter_map(|item| match_rule(cx, item)).collect();
    if items.is_empty() && cx.errors() == errors_before {
        let none = Diagnostic::error("config/no-condition", entry.key_span, "`match` has no rule: nobody would match");
        cx.push(none.help(format!("write `match: {EXAMPLE}`, or remove it")));
    }
    Some(rules)
}

fn match_rule(cx: &Cx<'_>, item: &Node<'_>) -> Option<MatchRule> {
    let mut fields = Fields::open(cx, "match", item, "{headers: {x-canary: {exact: insider}}}")?;
    let errors_before = cx.errors();
    let span = fields.span;
    let headers = fields.take(cx, "headers").map_or_else(Vec::new, |entry| {
        let conditions = conditions(cx, ("headers", false), entry, units::header_name);
        let mut names: Vec<&str> = conditions.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("the header `{}` is written twice: case does not matter", pair[0]);
            cx.push(Diagnostic::error("config/duplicate-key", entry.value.span, message).help("keep one of them"));
        }
        conditions
    });
    let parameter = |text: &str| units::visible(text, 256, "the name of a query parameter", "beta");
    let query = fields.take(cx, "queryParams");
    let query = query.map_or_else(Vec::new, |entry| conditions(cx, ("queryParams", false), entry, parameter));
    let when = fields.take(cx, "when").and_then(|entry| rules::when(cx, entry)).unwrap_or_default();
    if let Some(entry) = fields.get("sourceLabels") {
        let instead =
            "match a header, or `when: {source: 10.0.0.0/8}`: a request does not say the labels of its sender";
        cx.push(not_built(entry.key_span, "`sourceLabels`", instead));
        fields.abandon();
        return None;
    }
    let instead = "match `headers`, `queryParams` or `when`";
    fields.not_built(cx, &[("authority", instead), ("method", instead), ("scheme", instead), ("uri", instead)]);
    fields.finish(cx);
    let none = headers.is_empty() && query.is_empty() && when == When::default();
    if none && cx.errors() == errors_before {
        let none = Diagnostic::error("config/no-condition", span, "this rule has no condition: everybody would match");
        cx.push(none.help("write `{headers: {x-canary: {exact: insider}}}`"));
    }
    Some(MatchRule { headers, query, when })
}

/// `mirror`, `mirrorWeight`, `mirrorMethods`, `mirrorUnsafe`.
pub(super) fn mirror(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Option<(Mirror, Span)> {
    let span = fields.get("mirror").map(|entry| entry.key_span);
    let on = fields.scalar(cx, "mirror", units::boolean).unwrap_or(false);
    let others: Vec<Span> = ["mirrorWeight", "mirrorMethods", "mirrorUnsafe"]
        .iter()
        .filter_map(|key| fields.get(key).map(|entry| entry.key_span))
        .collect();
    let share = fields.scalar(cx, "mirrorWeight", |text| {
        let share = units::share(text, "100")?;
        if share.get() > 0 { Ok(share) } else { Err(Wrong::new("a percentage above 0", "100")) }
    });
    let opted_in = fields.scalar(cx, "mirrorUnsafe", units::boolean).unwrap_or(false);
    let mut methods: Vec<String> = MIRRORED.iter().map(|method| (*method).to_owned()).collect();
    if let Some(entry) = fields.take(cx, "mirrorMethods") {
        let items = limited(cx, "mirrorMethods", entry, PAIRS_MAX, "[GET, HEAD]");
        methods = items.iter().filter_map(|item| mirrored(cx, item, opted_in)).collect();
        methods.sort();
        methods.dedup();
    }
    if !on {
        for span in others {
            let message = "this has no effect without `mirror: true`";
            cx.push(Diagnostic::error("rollout/no-effect", span, message).help("add `mirror: true`, or remove this"));
        }
        return None;
    }
    let share = share.unwrap_or(serin_rollout::Ppm::WHOLE);
    Some((Mirror { share, methods }, span.unwrap_or_default()))
}

const MIRRORED: [&str; 2] = ["GET", "HEAD"];
/// RFC 9110 section 9.2.1, without TRACE, which no canary should answer.
const SAFE: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

fn mirrored(cx: &Cx<'_>, item: &Node<'_>, opted_in: bool) -> Option<String> {
    let method = cx.item("mirrorMethods", item, rules::method)?;
    if matches!(method.as_str(), "CONNECT" | "TRACE") {
        let message = format!("`{method}` cannot be mirrored");
        cx.push(Diagnostic::error("rollout/mirror", item.span, message).help("remove it"));
        return None;
    }
    if !opted_in && !SAFE.contains(&method.as_str()) {
        let message = format!("a copy of a `{method}` request does its work a second time");
        let unsafe_method = Diagnostic::error("rollout/mirror", item.span, message);
        cx.push(unsafe_method.help("remove it, or add `mirrorUnsafe: true` if the canary's work goes nowhere"));
    }
    Some(method)
}

/// `sessionAffinity`: the cookie as it is sent, and the names as a plan wants them.
pub(super) struct Cookies {
    pub(super) affinity: Affinity,
    pub(super) primary: Option<String>,
    pub(super) span: Span,
}

pub(super) fn affinity(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Option<Cookies> {
    let span = fields.get("sessionAffinity")?.key_span;
    let mut fields = fields.map(cx, "sessionAffinity", "{cookieName: serin-world, maxAge: 86400}")?;
    let name = |text: &str| units::token(text, "the name of a cookie", "serin-world");
    let help = "write `cookieName: serin-world`";
    let entry = fields.require(cx, "cookieName", "`sessionAffinity`", help);
    let cookie = entry.and_then(|entry| cx.scalar("cookieName", &entry.value, name));
    let primary = fields.get("primaryCookieName");
    let primary_name = fields.scalar(cx, "primaryCookieName", name);
    if let (Some(entry), Some(primary_name)) = (primary, &primary_name) {
        if cookie.as_ref() == Some(primary_name) {
            let message = "`cookieName` and `primaryCookieName` are equal";
            let equal = Diagnostic::error("rollout/cookies", entry.value.span, message);
            cx.push(equal.help("remove `primaryCookieName`: one cookie keeps users on both sides"));
        } else {
            let message = "`primaryCookieName` has no effect: one cookie keeps users on both sides";
            cx.push(Diagnostic::warning("config/no-effect", entry.key_span, message).help("remove the line"));
        }
    }
    let attributes = attributes(cx, &mut fields);
    fields.finish(cx);
    Some(Cookies { affinity: Affinity { cookie: cookie?, attributes }, primary: primary_name, span })
}

/// The attributes in Flagger's order: `; Max-Age=…[; Domain][; HttpOnly][; Partitioned]; Path[; SameSite][; Secure]`.
///
/// Without a path a browser keeps one cookie for each folder (RFC 6265 section 5.1.4), so a user would be many. The whole
/// site is meant unless the file says otherwise.
fn attributes(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> String {
    let age = fields.scalar(cx, "maxAge", |text| units::whole(text, 1..=COOKIE_AGE_S_MAX, "86400"));
    let domain = fields.scalar(cx, "domain", |text| {
        let name = text.strip_prefix('.').unwrap_or(text);
        let legal = units::endpoint(&format!("{name}:80")).is_ok();
        if legal { Ok(text.to_owned()) } else { Err(Wrong::new("a domain", "example.com")) }
    });
    let path = fields.scalar(cx, "path", |text| {
        let legal = text.starts_with('/') && text.len() <= 1024;
        let legal = legal && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
        if legal { Ok(text.to_owned()) } else { Err(Wrong::new("a path without `;`", "/")) }
    });
    let http_only = fields.scalar(cx, "httpOnly", units::boolean).unwrap_or(false);
    let secure = fields.scalar(cx, "secure", units::boolean).unwrap_or(false);
    let sites = [("Strict", "Strict"), ("Lax", "Lax"), ("None", "None")];
    for key in ["partitioned", "sameSite"] {
        let Some(entry) = fields.get(key).filter(|_| !secure) else { continue };
        let needs = matches!(&entry.value.value, crate::yaml::Value::Scalar(s) if matches!(&*s.text, "true" | "None"));
        if needs {
            let message = format!("browsers drop a cookie with this `{key}` that is not `secure`");
            cx.push(Diagnostic::error("rollout/cookies", entry.value.span, message).help("add `secure: true`"));
        }
    }
    let partitioned = fields.scalar(cx, "partitioned", units::boolean).unwrap_or(false);
    let same_site = fields.scalar(cx, "sameSite", |text| units::choice(text, &sites));
    let mut text = format!("; Max-Age={}", age.unwrap_or(COOKIE_AGE_S));
    let flag = |on: bool, name: &str| if on { format!("; {name}") } else { String::new() };
    let value = |name: &str, value: Option<&str>| value.map_or_else(String::new, |value| format!("; {name}={value}"));
    text += &value("Domain", domain.as_deref());
    text += &flag(http_only, "HttpOnly");
    text += &flag(partitioned, "Partitioned");
    text += &value("Path", Some(path.as_deref().unwrap_or("/")));
    text += &value("SameSite", same_site);
    text += &flag(secure, "Secure");
    text
}

const COOKIE_AGE_S: u64 = 86_400;
/// 400 days: browsers keep no cookie longer (RFC 6265bis section 5.5).
const COOKIE_AGE_S_MAX: u64 = 34_560_000;

/// What is written of `match` and `mirror`, as one strategy. Steps or rounds are checked where they are read.
pub(super) fn strategy(
    cx: &Cx<'_>,
    matches: Option<Vec<MatchRule>>,
    match_span: Option<Span>,
    mirror: Option<(Mirror, Span)>,
) -> Strategy {
    match (matches, mirror) {
        (Some(_), Some((_, span))) => {
            let message = "`mirror` and `match` contradict: those who match reach the canary itself";
            let both = Diagnostic::error("rollout/contradiction", span, message);
            cx.push(both.related(match_span.unwrap_or(span), "the rules").help("keep one of the two"));
            Strategy::Weights
        }
        (Some(rules), None) => Strategy::Match(rules),
        (None, Some((mirror, _))) => Strategy::Mirror(mirror),
        (None, None) => Strategy::Weights,
    }
}
