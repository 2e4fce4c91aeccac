//! What `client` and `service` have in common: fields for all names, or entries for names under a prefix.

use std::time::Duration;

use crate::dtab::Pattern;
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};

/// Entries of `configs` in one `client` or `service`.
pub const CONFIGS_MAX: usize = 1000;

/// How the block is written.
pub(super) enum Parts<'n, 's> {
    /// `kind: io.l5d.global`, or no kind: fields that hold for every name.
    Global(Fields<'n, 's>),
    /// `kind: io.l5d.static`: each entry of `configs`, without its prefix, and where that stands.
    Static(Vec<(Pattern, Span, Fields<'n, 's>)>),
    /// Another kind.
    Refused,
}

pub(super) fn parts<'n, 's>(cx: &Cx<'_>, mut fields: Fields<'n, 's>, what: &'static str) -> Parts<'n, 's> {
    if !fields.has("kind") {
        return Parts::Global(fields);
    }
    let kinds = ["io.l5d.global", "io.l5d.static"];
    match super::kind(cx, &mut fields, what, &kinds, &[], "") {
        Some("io.l5d.global") => Parts::Global(fields),
        Some(_) => {
            let entries = entries(cx, &mut fields, what);
            fields.finish(cx);
            Parts::Static(entries)
        }
        None => {
            fields.abandon();
            Parts::Refused
        }
    }
}

fn entries<'n, 's>(
    cx: &Cx<'_>,
    fields: &mut Fields<'n, 's>,
    what: &'static str,
) -> Vec<(Pattern, Span, Fields<'n, 's>)> {
    const EXAMPLE: &str = "{prefix: /svc/web}";
    let help = "write `configs: [{prefix: /svc/web}]`";
    let Some(entry) = fields.require(cx, "configs", &format!("`{what}` of kind `io.l5d.static`"), help) else {
        return Vec::new();
    };
    let items = cx.list("configs", &entry.value, "[{prefix: /svc/web}]");
    if items.len() > CONFIGS_MAX {
        let wrong = Wrong::new(format!("at most {CONFIGS_MAX} entries"), "[{prefix: /svc/web}]");
        cx.wrong("configs", &entry.value, wrong);
        return Vec::new();
    }
    let entry = |item| {
        let mut fields = Fields::open(cx, "configs", item, EXAMPLE)?;
        let prefix = required(cx, &mut fields, "prefix", "write `prefix: /`, or a longer one", pattern)?;
        let span = fields.get("prefix").map_or(fields.span, |entry| entry.value.span);
        Some((prefix, span, fields))
    };
    items.iter().filter_map(entry).collect()
}

fn pattern(text: &str) -> Result<Pattern, Wrong> {
    Pattern::parse(text).map_err(|error| Wrong::new("a path", "/svc/web").help(error.to_string()))
}

/// The scalar of a key that must be there.
pub(super) fn required<T>(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    help: &str,
    read: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Option<T> {
    let entry = fields.require(cx, key, "this block", help)?;
    cx.scalar(key, &entry.value, read)
}

/// A `backoff`.
pub(super) enum Pause {
    Constant(Duration),
    Jittered(Duration, Duration),
}

pub(super) fn pause(cx: &Cx<'_>, mut fields: Fields<'_, '_>, example: &str) -> Option<Pause> {
    let Some(kind) = super::kind(cx, &mut fields, "backoff", &["jittered", "constant"], &[], "") else {
        fields.abandon();
        return None;
    };
    let pause = if kind == "constant" {
        Some(Pause::Constant(fields.scalar(cx, "ms", |text| units::millis(text, 0)).unwrap_or_default()))
    } else {
        let help = format!("write `backoff: {{kind: jittered, {example}}}`");
        let mut bound = |key| {
            let entry = fields.require(cx, key, "a jittered backoff", &help)?;
            cx.scalar(key, &entry.value, |text| units::millis(text, 1))
        };
        let (min, max) = (bound("minMs"), bound("maxMs"));
        min.zip(max).map(|(min, max)| Pause::Jittered(min, max))
    };
    fields.finish(cx);
    pause
}
