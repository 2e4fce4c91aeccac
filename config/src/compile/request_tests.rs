//! `tests`: requests with what is expected of them. They are run by whoever can route; here they are only read.

use serin_rollout::Ppm;

use crate::diagnostic::Diagnostic;
use crate::dtab::Path;
use crate::model::{Expected, RequestTest, Router};
use crate::raw::{Cx, Fields, shown};
use crate::source::Span;
use crate::units::{self, Wrong, closest};
use crate::yaml::{Entry, Node, Value};

use super::rules;

/// Tests of one configuration.
pub const TESTS_MAX: usize = 1000;

const EXAMPLE: &str = "{request: {host: web}, expect: {to: /#/clusters/web}}";
const WHOLE: u32 = 1_000_000;

pub(super) fn tests(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, routers: &[Router]) -> Vec<RequestTest> {
    let Some(entry) = fields.take(cx, "tests") else { return Vec::new() };
    let items = cx.list("tests", &entry.value, "[{request: {host: web}, expect: {to: /#/clusters/web}}]");
    if items.len() > TESTS_MAX {
        let message = format!("there are {} tests, {TESTS_MAX} are allowed", items.len());
        let place = items.get(TESTS_MAX).map_or(entry.key_span, |item| item.span);
        cx.push(Diagnostic::error("config/too-many", place, message));
    }
    items.iter().take(TESTS_MAX).filter_map(|item| test(cx, item, routers)).collect()
}

fn test(cx: &Cx<'_>, item: &Node<'_>, routers: &[Router]) -> Option<RequestTest> {
    let mut fields = Fields::open(cx, "tests", item, EXAMPLE)?;
    let span = fields.span;
    let router = router(cx, &mut fields, routers);
    let request = fields.require(cx, "request", "a test", "write `request: {host: web}`");
    let request = request.and_then(|entry| Fields::open(cx, "request", &entry.value, "{host: web}"));
    let (method, target, headers) = request.map(|fields| self::request(cx, fields)).unwrap_or_default();
    let expect = fields.require(cx, "expect", "a test", "write `expect: {to: /#/clusters/web}`");
    let expect = expect.and_then(|entry| expected(cx, entry));
    fields.finish(cx);
    Some(RequestTest { span, router, method, target, headers, expect: expect? })
}

fn router(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, routers: &[Router]) -> Option<String> {
    let span = fields.span;
    let labels = || routers.iter().map(|router| router.label.as_str());
    let Some(entry) = fields.take(cx, "router") else {
        if routers.len() > 1 {
            let message = "a test needs `router` where there are several";
            let near = labels().next().unwrap_or_default();
            cx.push(Diagnostic::error("config/missing-key", span, message).help(format!("write `router: {near}`")));
        }
        return None;
    };
    let label = cx.scalar("router", &entry.value, |text| Ok(text.to_owned()))?;
    if !labels().any(|known| known == label) {
        let message = format!("no router is labelled `{}`", shown(&label));
        let near = closest(&label, labels()).map(|near| format!("did you mean `{near}`?"));
        cx.push(Diagnostic::error("config/unknown-router", entry.value.span, message).maybe_help(near));
    }
    Some(label)
}

/// Method, target and fields.
fn request(cx: &Cx<'_>, mut fields: Fields<'_, '_>) -> (String, String, Vec<(String, String)>) {
    let method = fields.scalar(cx, "method", rules::method).unwrap_or_else(|| "GET".to_owned());
    let host = fields.scalar(cx, "host", rules::header_value);
    let path = fields.scalar(cx, "path", |text| target(text, "/a", text.starts_with('/') && !text.contains('?')));
    let query = fields.scalar(cx, "query", |text| target(text, "a=1&b=2", !text.starts_with('?')));
    let mut headers: Vec<(String, String)> = host.into_iter().map(|host| ("host".to_owned(), host)).collect();
    if let Some(entry) = fields.take(cx, "headers") {
        let pairs = rules::pairs(cx, "headers", entry, "{x-user: ann}", units::header_name, rules::header_value);
        rules::check_headers(cx, entry, &pairs);
        headers.extend(pairs);
    }
    fields.finish(cx);
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    (method, format!("{}{query}", path.unwrap_or_else(|| "/".to_owned())), headers)
}

/// A part of a target, as it is sent.
fn target(text: &str, example: &'static str, fits: bool) -> Result<String, Wrong> {
    let legal =
        text.len() <= rules::VALUE_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('#');
    if fits && legal {
        return Ok(text.to_owned());
    }
    Err(Wrong::new("a part of the target as it is sent, escaped; path and query each by itself", example))
}

fn expected(cx: &Cx<'_>, entry: &Entry<'_>) -> Option<Expected> {
    let mut fields = Fields::open(cx, "expect", &entry.value, "{to: /#/clusters/web}")?;
    let written = ["name", "to", "status"].into_iter().any(|key| fields.has(key));
    let name = fields.take(cx, "name").and_then(|entry| {
        let read =
            |text: &str| Path::parse(text).map_err(|wrong| Wrong::new("a name", "/svc/web").help(wrong.in_text(text)));
        Some((cx.scalar("name", &entry.value, read)?, entry.value.span))
    });
    let to = fields.take(cx, "to").and_then(|entry| Some((ends(cx, &entry.value)?, entry.value.span)));
    let status = fields.take(cx, "status").and_then(|entry| {
        let status = cx.scalar("status", &entry.value, |text| units::whole(text, 300..=599, "404"))?;
        Some((u16::try_from(status).ok()?, entry.value.span))
    });
    fields.finish(cx);
    if !written {
        let message = "`expect` needs at least one of `name`, `to` and `status`";
        let nothing = Diagnostic::error("config/missing-key", entry.key_span, message);
        cx.push(nothing.help("write `expect: {to: /#/clusters/web}`"));
    }
    Some(Expected { name, to, status })
}

/// One end, or several with their shares.
fn ends(cx: &Cx<'_>, node: &Node<'_>) -> Option<Vec<(String, Ppm)>> {
    if !matches!(node.value, Value::Map(_)) {
        return Some(vec![(cx.scalar("to", node, end)?, Ppm::new(WHOLE)?)]);
    }
    let errors_before = cx.errors();
    let mut ends = Vec::new();
    for entry in cx.entries("to", node, "{/#/clusters/web-v1: 90%, /#/clusters/web-v2: 10%}") {
        match end(&entry.key) {
            Ok(name) => ends.extend(
                cx.scalar(&entry.key, &entry.value, |text| units::share(text, "10%")).map(|share| (name, share)),
            ),
            Err(wrong) => not_an_end(cx, &entry.key, entry.key_span, wrong),
        }
    }
    let sum: u32 = ends.iter().map(|(_, share)| share.get()).sum();
    // Thirds cannot be written exactly: each share may be off by its last digit.
    if cx.errors() == errors_before && sum.abs_diff(WHOLE) as usize > ends.len() {
        let message = format!("the shares of `to` add up to {} %, not to 100 %", f64::from(sum) / 10_000.0);
        cx.push(Diagnostic::error("config/wrong-value", node.span, message).help("name every end, `~` too"));
    }
    Some(ends)
}

fn not_an_end(cx: &Cx<'_>, key: &str, span: Span, wrong: Wrong) {
    let message = format!("`{}` is not {}", shown(key), wrong.allowed);
    cx.push(Diagnostic::error("config/wrong-value", span, message).maybe_help(wrong.help));
}

/// A bound name as `serin explain` prints it.
fn end(text: &str) -> Result<String, Wrong> {
    if matches!(text, "$" | "!" | "~") {
        return Ok(text.to_owned());
    }
    let wrong = || Wrong::new("a bound name as `serin explain` prints it, or `$`, `!` or `~`", "/#/clusters/web");
    Path::parse(text).map(|path| path.to_string()).map_err(|errors| wrong().help(errors.in_text(text)))
}
