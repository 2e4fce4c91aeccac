//! PURE: rollouts as text.

use std::fmt::Write;

use super::words::{Paint, clock, count, failures, figure, millis, moment, part, share, span, table};
use crate::admin::desk::Past;
use crate::admin::file_is_behind;
use crate::judge::{ArmView, Told, View};

/// All of them, one a line.
pub(super) fn list(views: &[View], now_ms: u64, paint: Paint) -> String {
    if views.is_empty() {
        return "no rollout is configured: `rollouts:` in the file\n".to_owned();
    }
    let names = ["NAME", "PHASE", "WEIGHT", "REVISION", "REQUESTS", "FAILED", "P99", "EVIDENCE", "SINCE", "NOTE"];
    let mut rows = vec![names.iter().map(|name| paint.bold(name)).collect::<Vec<_>>()];
    rows.extend(views.iter().map(|view| {
        let arm = &view.canary_arm;
        vec![
            view.name.to_string(),
            paint.phase(&view.phase),
            share(view.weight_ppm),
            view.revision.clone(),
            count(arm.requests),
            failures(arm.failed, arm.requests),
            millis(arm.p99_ms),
            evidence(view),
            span(now_ms.saturating_sub(view.step_started_ms)),
            paint.yellow(&note(view)),
        ]
    }));
    table(&rows, "")
}

fn evidence(view: &View) -> String {
    match view.evidence.rolls_back_at {
        limit if limit > 0.0 => format!("{}/{}", figure(view.evidence.score), figure(limit)),
        _ => "off".to_owned(),
    }
}

fn note(view: &View) -> String {
    let mut notes = Vec::new();
    if view.paused {
        notes.push("paused".to_owned());
    }
    if view.suspended {
        notes.push("suspended".to_owned());
    }
    if view.judge != "here" {
        notes.push(format!("judge: {}", view.judge));
    }
    notes.extend(view.waiting.as_ref().map(|gate| format!("waits for {gate}")));
    notes.extend(view.held.as_ref().map(|why| format!("held: {why}")));
    if !is_stored(view) {
        notes.push("journal not writable".to_owned());
    }
    notes.join(", ")
}

fn is_stored(view: &View) -> bool {
    matches!(&*view.storage, "durable" | "memory")
}

/// Everything about one.
pub(super) fn status(view: &View, now_ms: u64, paint: Paint) -> String {
    let mut text = format!("{}  {} at {}", paint.bold(&view.name), paint.phase(&view.phase), share(view.weight_ppm));
    // writing to a string cannot fail
    let _ = writeln!(text, "   {}", paint.dim(&format!("router {}, {}", view.router, view.path)));
    let _ = writeln!(text, "  {} → {}   {}\n", view.primary, view.revision, paint.dim(&manner(view)));
    let mut rows =
        vec![["", "requests", "failed", "open", "now", "p50", "p99", ""].map(|name| paint.dim(name)).to_vec()];
    rows.push(arm("canary", &view.canary_arm, paint));
    rows.push(arm("primary", &view.primary_arm, paint));
    text.push_str(&table(&rows, "  "));
    text.push('\n');
    let facts = facts(view, now_ms, paint);
    text.push_str(&table(&facts, "  "));
    let _ = writeln!(text, "\n{} {}", paint.bold("next:"), next(view));
    text
}

fn manner(view: &View) -> String {
    let mut words = vec![view.strategy.to_owned(), format!("pace {}", view.pace)];
    if view.judge != "here" {
        words.push(format!("judge: {}", view.judge));
    }
    if view.mirrored {
        words.push("copies go to the canary".to_owned());
    }
    words.join(", ")
}

fn arm(name: &str, arm: &ArmView, paint: Paint) -> Vec<String> {
    let failed = failures(arm.failed, arm.requests);
    vec![
        name.to_owned(),
        count(arm.requests),
        if arm.failure_rate > 0.0 { paint.red(&failed) } else { failed },
        count(arm.open),
        format!("{}/s", figure(arm.rate)),
        millis(arm.p50_ms),
        millis(arm.p99_ms),
        if arm.up { String::new() } else { paint.red("no endpoint can serve") },
    ]
}

fn facts(view: &View, now_ms: u64, paint: Paint) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![paint.dim(name), value]);
    let evidence = &view.evidence;
    if evidence.rolls_back_at > 0.0 {
        let (score, limit) = (figure(evidence.score), figure(evidence.rolls_back_at));
        let score = if evidence.score >= 5.0 { paint.red(&score) } else { score };
        row("against the canary", format!("{score} of {limit} that roll back{}", kinds(view)));
        if view.pace == "evidence" {
            row("for the next step", format!("{} of {}", figure(evidence.shown), figure(evidence.passes_at)));
        }
    } else {
        row("against the canary", "nothing is counted: `guard: off`".to_owned());
    }
    if evidence.dropped > 0 {
        row(
            "not counted",
            format!("{} events, something was full: this makes it only slower", count(evidence.dropped)),
        );
    }
    row("step", step(view, now_ms));
    if let Some(dry) = view.dry_weight_ppm {
        row("dry run", format!("the canary would have {}", share(dry)));
    }
    if view.run_started_ms.is_some() {
        row("checks", format!("{} of {} failed", view.failed_checks, view.failed_checks_max));
    }
    if view.iterations > 0 {
        row("rounds", view.iterations.to_string());
    }
    if let Some(why) = &view.held {
        row("held", paint.yellow(&format!("{why}: {}", held_means(why))));
    }
    if let Some(gate) = &view.waiting {
        row("waits for", paint.yellow(&format!("the gate confirm-{gate}")));
    }
    if view.suspended {
        row("suspended", paint.yellow("the file says `suspend: true`: nothing is judged, the guard stays on"));
    }
    match &*view.storage {
        "durable" => row("journal", "durable".to_owned()),
        "memory" => row("journal", "in memory: a restart forgets it".to_owned()),
        why => row("journal", paint.red(&format!("cannot be written: {why}"))),
    }
    if let Some(last) = &view.last {
        row("last", event(last, paint));
    }
    rows
}

/// A score that says something: 1 is what no evidence has.
const LOUD: f64 = 2.0;

/// Which kinds of events the score comes from.
fn kinds(view: &View) -> String {
    let loud = view.evidence.by_kind.iter().filter(|(_, score)| *score >= LOUD);
    let loud: Vec<String> = loud.map(|(kind, score)| format!("{kind} {}", figure(*score))).collect();
    if loud.is_empty() { String::new() } else { format!(" ({})", loud.join(", ")) }
}

fn step(view: &View, now_ms: u64) -> String {
    let time = span(now_ms.saturating_sub(view.step_started_ms));
    let steps: Vec<String> = view.steps_ppm.iter().map(|step| share(*step)).collect();
    let at = view.steps_ppm.iter().position(|step| *step == view.weight_ppm);
    match at {
        Some(at) => format!("{} of {} ({}), for {time}", at + 1, steps.len(), steps.join(" ")),
        None if steps.is_empty() => format!("for {time}"),
        None => format!("none of {}, for {time}", steps.join(" ")),
    }
}

/// What follows `hold:` in words.
fn held_means(why: &str) -> &'static str {
    match why {
        "both-failing" => "the primary fails as much: whatever it is, both have it",
        "evidence" => "something speaks against the canary; more of it rolls back, less of it lets go",
        "failed-check" => "a check failed; enough of them roll back",
        "insufficient" => "the time for this step is over, and too little was seen to be sure",
        "no-data" => {
            "the canary has no endpoint yet, or a metric provider or a hook has nothing to say: the last event says which"
        }
        "primary-down" => "the primary has no endpoint, traffic stays where it is",
        _ => "the weight stays for now",
    }
}

/// What a person can do now.
fn next(view: &View) -> String {
    let name = &view.name;
    if let Some(behind) = file_is_behind(view).filter(|_| view.phase == "promoted") {
        return format!("{behind}; `serin rollout undo {name}` goes back");
    }
    if view.paused {
        return format!("a person paused it: `serin rollout resume {name}` lets it go on");
    }
    match (&*view.phase, &view.waiting, view.held.as_deref()) {
        ("promoted", ..) => format!("nothing; `serin rollout undo {name}` goes back to the old version"),
        ("rolled-back", ..) => format!(
            "a new revision starts by itself, this one only by `serin rollout start {name}`; see `serin rollout history {name}`"
        ),
        ("initialized" | "initializing", ..) => {
            "nothing; another canary or revision in the file starts it, within an interval".to_owned()
        }
        (_, Some(gate), _) => {
            format!("open the gate confirm-{gate}, it is asked again; or `serin rollout promote {name}`")
        }
        (.., Some("insufficient")) => format!("`serin rollout promote {name}` if you are sure, or abort it"),
        (.., Some("failed-check")) => format!("look at the metrics and hooks: `serin rollout history {name}`"),
        _ => format!("it goes on by itself; `serin rollout watch {name}`, or pause, promote, abort it"),
    }
}

/// One event as one line.
pub(super) fn event(told: &Told, paint: Paint) -> String {
    let text = if told.kind == "Warning" { paint.yellow(&told.text) } else { told.text.clone() };
    format!("{}  {text}{}", paint.dim(&clock(told.at_ms)), by(told.who.as_ref(), told.why.as_ref()))
}

fn by(who: Option<&String>, why: Option<&String>) -> String {
    let one_line = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    match (who, why.filter(|why| !why.is_empty())) {
        (Some(who), Some(why)) => format!("  ({}: {})", one_line(who), one_line(why)),
        (Some(who), None) => format!("  ({})", one_line(who)),
        (None, _) => String::new(),
    }
}

/// A journal, newest last.
pub(super) fn history(entries: &[Past], paint: Paint) -> String {
    if entries.is_empty() {
        return "nothing is written down yet\n".to_owned();
    }
    let names = ["#", "TIME (UTC)", "WHAT", "PHASE", "WEIGHT", "EVIDENCE", "REQUESTS", "FAILED", "BY"];
    let mut rows = vec![names.iter().map(|name| paint.bold(name)).collect::<Vec<_>>()];
    rows.extend(entries.iter().map(|entry| {
        let what = if entry.events.is_empty() { "-".to_owned() } else { entry.events.join(" ") };
        vec![
            entry.sequence.to_string(),
            moment(entry.at_ms),
            what,
            paint.phase(&entry.phase),
            share(entry.weight_ppm),
            figure(entry.score),
            count(entry.requests),
            match entry.requests {
                0 => count(entry.failures),
                requests => format!("{} ({})", count(entry.failures), part(entry.failures as f64 / requests as f64)),
            },
            by(entry.who.as_ref(), entry.why.as_ref()).trim().trim_matches(['(', ')']).to_owned(),
        ]
    }));
    table(&rows, "")
}

#[cfg(test)]
mod tests;
