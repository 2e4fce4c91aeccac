//! `guard`: how sure it must be to blame, and whom it measures by.

use serin_rollout::{GuardPolicy, GuardSettings, Kind, PolicyError, Ppm};

use crate::diagnostic::Diagnostic;
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::{Entry, Value};

use super::pace::{Clock, advice};

/// What the file says of the guard.
pub(super) struct Written {
    /// `None`: off.
    pub(super) settings: Option<GuardSettings>,
    pub(super) places: Vec<(PolicyError, Span)>,
    /// Where it says `off`.
    pub(super) off: Option<Span>,
}

impl Written {
    /// The place of the key that a mistake is about.
    pub(super) fn place(&self, error: PolicyError) -> Option<Span> {
        self.places.iter().find(|(about, _)| *about == error).map(|(_, span)| *span)
    }

    /// The policy for pace `interval`.
    pub(super) fn policy(&self, cx: &Cx<'_>, rollout: Span) -> Option<GuardPolicy> {
        let settings = self.settings.clone()?;
        let refuse = |errors: Vec<PolicyError>| {
            for error in errors {
                let span = self.place(error).unwrap_or(rollout);
                cx.push(Diagnostic::error("rollout/policy", span, error.to_string()).maybe_help(advice(error)));
            }
        };
        GuardPolicy::new(settings).map_err(refuse).ok()
    }
}

pub(super) fn guard(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, clock: Clock) -> Written {
    let mut written = Written { settings: Some(GuardSettings::default()), places: Vec::new(), off: None };
    let Some(entry) = fields.take(cx, "guard") else { return written };
    if let Value::Scalar(_) = &entry.value.value {
        let off = cx.scalar("guard", &entry.value, |text| {
            let wrong = || Wrong::new("`off` or a map", "{alpha: 1%, errorBudget: 0.5%}");
            if text == "off" { Ok(()) } else { Err(wrong()) }
        });
        if off.is_some() {
            written = Written { settings: None, off: Some(entry.value.span), ..written };
        }
        return written;
    }
    let Some(mut fields) = Fields::open(cx, "guard", &entry.value, "{alpha: 1%, errorBudget: 0.5%}") else {
        return written;
    };
    let mut settings = GuardSettings::default();
    let mut share = |key: &'static str, error: PolicyError, example: &'static str| {
        written.places.extend(fields.get(key).map(|entry| (error, entry.value.span)));
        fields.scalar(cx, key, |text| units::percent(text, example))
    };
    settings.alpha = share("alpha", PolicyError::Alpha, "1%").unwrap_or(settings.alpha);
    settings.beta = share("beta", PolicyError::Beta, "5%").unwrap_or(settings.beta);
    settings.error_budget = share("errorBudget", PolicyError::Budget, "0.5%");
    if let (Clock::Interval, Some(beta)) = (clock, fields.get("beta")) {
        let message = "`beta` has no effect beside `pace: interval`: its steps last as long as the clock says";
        cx.push(Diagnostic::error("rollout/no-effect", beta.key_span, message).help("write `pace: evidence`"));
    }
    if let Some(entry) = fields.take(cx, "tolerances") {
        written.places.push((PolicyError::Tolerance, entry.value.span));
        by_kind(cx, "tolerances", entry, "{failure: 1.5}", tolerance, |kind, tolerance| {
            settings.tolerance_milli[kind.index()] = tolerance;
        });
    }
    if let Some(entry) = fields.take(cx, "stakes") {
        written.places.push((PolicyError::Stakes, entry.value.span));
        // Nobody can write its stake, so it is free for those that are written.
        settings.stakes[Kind::Custom.index()] = Ppm::ZERO;
        by_kind(
            cx,
            "stakes",
            entry,
            "{failure: 60%}",
            |text| units::percent(text, "60%"),
            |kind, stake: Ppm| {
                settings.stakes[kind.index()] = stake;
            },
        );
    }
    fields.finish(cx);
    Written { settings: Some(settings), ..written }
}

/// One value for each kind of event that is written.
fn by_kind<T>(
    cx: &Cx<'_>,
    key: &'static str,
    entry: &Entry<'_>,
    example: &'static str,
    read: impl Fn(&str) -> Result<T, Wrong>,
    mut set: impl FnMut(Kind, T),
) {
    let Some(mut fields) = Fields::open(cx, key, &entry.value, example) else { return };
    for (name, kind) in KINDS {
        if let Some(value) = fields.scalar(cx, name, &read) {
            set(kind, value);
        }
    }
    fields.finish(cx);
}

const KINDS: [(&str, Kind); 5] = [
    ("clientError", Kind::ClientError),
    ("failure", Kind::Failure),
    ("slow50", Kind::Slow50),
    ("slow90", Kind::Slow90),
    ("slow99", Kind::Slow99),
];

/// How many times as often as the primary, in thousandths.
fn tolerance(text: &str) -> Result<u32, Wrong> {
    let wrong = || Wrong::new("a number from 1 to 10 with at most three decimals", "1.5");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, max| (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole, 2) || !digits(decimals, 3) {
        return Err(wrong());
    }
    let milli = format!("{whole}{decimals:0<3}").parse::<u32>().map_err(|_| wrong())?;
    if (1_000..=10_000).contains(&milli) { Ok(milli) } else { Err(wrong()) }
}
