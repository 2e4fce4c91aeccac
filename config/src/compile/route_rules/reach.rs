//! Rules that no request can reach, and places where too many rules stand.

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::model::{HostMatch, PathMatch, RouteMatch, RouteRule};
use crate::raw::Cx;
use crate::source::Span;

/// Matches for one host and one path: they are told apart one by one.
pub const SAME_PLACE_MAX: usize = 256;

/// A host and a path as texts. Absent: any.
type Place = (Option<HostMatch>, Option<(u8, String)>);

/// Where matches stand that were read so far.
#[derive(Default)]
pub(super) struct Reach {
    places: HashMap<Place, At>,
}

struct At {
    count: usize,
    first: Span,
    /// The first that has no other condition: who stands behind it is as specific as it, or less, and never matches.
    open: Option<Span>,
}

impl Reach {
    pub(super) fn check(&mut self, cx: &Cx<'_>, rule: &RouteRule, spans: &[Span]) {
        for (one, span) in rule.matches.iter().zip(spans) {
            let hosts: Vec<Option<HostMatch>> =
                if one.hosts.is_empty() { vec![None] } else { one.hosts.iter().cloned().map(Some).collect() };
            for host in hosts {
                if !self.place(cx, (host, path(one)), one, *span) {
                    break;
                }
            }
        }
    }

    fn place(&mut self, cx: &Cx<'_>, place: Place, one: &RouteMatch, span: Span) -> bool {
        let bare = one.methods.is_empty() && one.headers.is_empty() && one.query.is_empty();
        let at = self.places.entry(place).or_insert(At { count: 0, first: span, open: None });
        at.count += 1;
        if let (true, Some(earlier)) = (bare, at.open) {
            let message = "no request reaches this: an earlier match has the same conditions";
            let never = Diagnostic::error("config/unreachable", span, message);
            cx.push(never.related(earlier, "the earlier one").help("remove one of them, or add a condition"));
            return false;
        }
        if at.count == SAME_PLACE_MAX + 1 {
            let message = format!("more than {SAME_PLACE_MAX} matches have the same host and path");
            let many = Diagnostic::error("config/too-many", span, message);
            let help = "let `identifier: {kind: io.l5d.header.token, header: …}` make names of the values of a header";
            cx.push(many.related(at.first, "the first of them").help(help));
            return false;
        }
        if bare {
            at.open = Some(span);
        }
        true
    }
}

fn path(one: &RouteMatch) -> Option<(u8, String)> {
    one.path.as_ref().map(|path| match path {
        PathMatch::Exact(text) => (0, text.clone()),
        PathMatch::Prefix(text) => (1, text.clone()),
        PathMatch::Regex(regex) => (2, regex.written().to_owned()),
    })
}
