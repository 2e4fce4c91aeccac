//! `limits`: what is borne of a peer. The keys are those of the tables of the model.

use crate::diagnostic::Diagnostic;
use crate::model::{CLIENT_KEYS, ClientLimits, H2Limits, LimitKey, Limits, SERVER_KEYS, Unit};
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};

/// `servers[].limits`, over the defaults of its exposure.
pub(super) fn server(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, mut limits: Limits) -> Limits {
    let example = "{headTimeoutMs: 5000, bodyBytes: 1048576}";
    let Some(written) = read(cx, fields, example, SERVER_KEYS, &mut limits) else { return limits };
    let head = limits.head_bytes_max;
    written.part(cx, ("targetBytes", &mut limits.target_bytes_max), ("headBytes", head));
    written.part(cx, ("fieldBytes", &mut limits.field_bytes_max), ("headBytes", head));
    h2(cx, &written, &mut limits.h2, head);
    limits
}

/// `client.limits`, and which of its keys are written.
pub(super) fn client(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    mut limits: ClientLimits,
) -> (ClientLimits, Vec<&'static str>) {
    let Some(written) = read(cx, fields, "{idleTimeoutMs: 10000}", CLIENT_KEYS, &mut limits) else {
        return (limits, Vec::new());
    };
    h2(cx, &written, &mut limits.h2, limits.head_bytes_max);
    (limits, written.keys)
}

/// Keys of Linkerd, each with the limit that it is: read as that, and which of them are written.
pub(super) fn aliases<T>(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    keys: &[LimitKey<T>],
    aliases: &[(&'static str, &str)],
    limits: &mut T,
) -> Vec<&'static str> {
    let mut written = Vec::new();
    for (alias, name) in aliases {
        let Some(key) = keys.iter().find(|key| key.key == *name) else { continue };
        if let Some(value) = fields.scalar(cx, alias, |text| number(text, key)) {
            (key.set)(limits, value);
            written.push(key.key);
        }
    }
    written
}

fn h2(cx: &Cx<'_>, written: &Written, h2: &mut H2Limits, head_bytes: u32) {
    // a stream cannot use more than its connection has
    let whole = ("connectionWindowBytes", h2.connection_window_bytes);
    written.part(cx, ("streamWindowBytes", &mut h2.stream_window_bytes), whole);
    if !written.has("headerFrames") {
        h2.header_frames_max = H2Limits::header_frames(head_bytes);
    }
}

/// A block that is there.
struct Written {
    span: Span,
    keys: Vec<&'static str>,
}

impl Written {
    fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// A part that is larger than its whole: the smaller one would decide, and nobody would see why. A default gives way.
    fn part(&self, cx: &Cx<'_>, (part, less): (&str, &mut u32), (whole, more): (&str, u32)) {
        if *less <= more {
            return;
        }
        if !self.has(part) {
            *less = more;
            return;
        }
        let message = format!("`{part}` is {less} and `{whole}` is {more}: a part is larger than the whole");
        let help = format!("write `{whole}: {less}`, or a smaller `{part}`");
        cx.push(Diagnostic::error("config/conflict", self.span, message).help(help));
    }
}

fn read<T>(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    example: &'static str,
    keys: &[LimitKey<T>],
    limits: &mut T,
) -> Option<Written> {
    let mut block = fields.map(cx, "limits", example)?;
    let mut written = Written { span: block.span, keys: Vec::new() };
    for key in keys {
        if let Some(value) = block.scalar(cx, key.key, |text| number(text, key)) {
            (key.set)(limits, value);
            written.keys.push(key.key);
        }
    }
    block.finish(cx);
    Some(written)
}

fn number<T>(text: &str, key: &LimitKey<T>) -> Result<u64, Wrong> {
    let (min, max) = key.range;
    match key.unit {
        Unit::Bytes => units::bytes(text, min..=max),
        Unit::Count => units::whole(text, min..=max, "100"),
        Unit::Ms => {
            let time = units::millis(text, min)?;
            u64::try_from(time.as_millis()).map_err(|_| Wrong::new("milliseconds", "2000"))
        }
    }
}
