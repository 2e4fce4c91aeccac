//! PURE: the picture of a rollout, as lines of a terminal.

use std::collections::VecDeque;

use console::{measure_text_width, truncate_str};

use super::super::show;
use super::super::words::{Paint, count, failures, figure, millis, share, span, table};
use crate::judge::{ArmView, Told, View};

/// Rows of the curve of weights.
const CURVE_ROWS: usize = 4;
/// Changes of the weight that are kept.
const CHANGES_MAX: usize = 1_000;
/// The least time the curve shows.
const CURVE_MS_MIN: u64 = 60_000;
/// Characters in front of bars and curves.
const MARGIN: usize = 20;
/// The smallest score that has a place on the scale.
const SCORE_MIN: f64 = 0.1;
/// The score from which a weight stays.
const SCORE_HOLDS: f64 = 5.0;
/// A curve ends at one of these, in parts per million: a small share shall be seen too.
const SCALES_PPM: [u32; 6] = [10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

/// What is to be seen.
pub(super) struct Scene<'a> {
    pub(super) view: &'a View,
    pub(super) weights: &'a Weights,
    pub(super) events: &'a VecDeque<Told>,
    /// Why nothing new comes.
    pub(super) lost: Option<&'a str>,
    pub(super) now_ms: u64,
}

/// The share of the canary over time, by its changes.
#[derive(Debug, Default)]
pub(super) struct Weights(VecDeque<(u64, u32)>);

impl Weights {
    /// What is older than what is known already says nothing new.
    pub(super) fn push(&mut self, at_ms: u64, weight_ppm: u32) {
        let changes = self.0.back().is_none_or(|(last_ms, last)| at_ms >= *last_ms && weight_ppm != *last);
        if changes {
            self.0.push_back((at_ms, weight_ppm));
        }
        if self.0.len() > CHANGES_MAX {
            self.0.pop_front();
        }
    }

    fn at(&self, ms: u64) -> u32 {
        let behind = self.0.partition_point(|(at_ms, _)| *at_ms <= ms);
        behind.checked_sub(1).and_then(|index| self.0.get(index)).map_or(0, |(_, weight)| *weight)
    }

    /// When the curve begins: with the run, or with the first that is known of it.
    fn begin_ms(&self, run_started_ms: Option<u64>, now_ms: u64) -> u64 {
        let first = run_started_ms.or_else(|| self.0.front().map(|(at_ms, _)| *at_ms)).unwrap_or(now_ms);
        first.min(now_ms.saturating_sub(CURVE_MS_MIN))
    }
}

/// At most `height` lines, none wider than `width`.
pub(super) fn draw(scene: &Scene<'_>, width: usize, height: usize, paint: Paint) -> Vec<String> {
    let mut lines = head(scene, width, paint);
    if height >= 16 {
        lines.push(String::new());
        lines.extend(curve(scene, width, paint));
    }
    lines.push(String::new());
    lines.extend(arms(scene.view, paint));
    lines.push(String::new());
    lines.extend(evidence(scene.view, width, paint));
    lines.extend(notes(scene, paint));
    let room = height.saturating_sub(lines.len() + 1);
    if room > 0 && !scene.events.is_empty() {
        lines.push(String::new());
        let newest = scene.events.iter().skip(scene.events.len().saturating_sub(room));
        lines.extend(newest.map(|told| format!(" {}", show::event(told, paint))));
    }
    lines.truncate(height.max(1));
    lines.iter().map(|line| truncate_str(line, width, "…").into_owned()).collect()
}

fn head(scene: &Scene<'_>, width: usize, paint: Paint) -> Vec<String> {
    let view = scene.view;
    let title = format!(" {}  {}", paint.bold(&view.name), paint.phase(&view.phase));
    let step = view.steps_ppm.iter().position(|step| *step == view.weight_ppm);
    let step = step.map_or_else(String::new, |at| format!("step {} of {}, ", at + 1, view.steps_ppm.len()));
    let since = span(scene.now_ms.saturating_sub(view.step_started_ms));
    let weight = share(view.weight_ppm);
    let told = format!(" {} {}", paint.bold(&weight), paint.dim(&format!("{step}for {since}")));
    let rest = measure_text_width(&told) + MARGIN.max(measure_text_width(&title) + 1);
    let full = width.saturating_sub(rest).clamp(5, 60);
    let gap = " ".repeat(MARGIN.saturating_sub(measure_text_width(&title)).max(1));
    let bar = bar(f64::from(view.weight_ppm) / 1e6, full);
    let names = format!(" {} → {}  ({}, {})", view.primary, view.revision, view.router, view.path);
    vec![format!("{title}{gap}{}{told}", paint.cyan(&bar)), paint.dim(&names)]
}

/// A part of a whole, to an eighth of a character.
fn bar(part: f64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (part.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    // what is not nothing is seen
    let eighths = if part > 0.0 { eighths.max(1) } else { eighths };
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(EIGHTHS[eighths % 8]);
    }
    let rest = width.saturating_sub(text.chars().count());
    text.push_str(&"·".repeat(rest));
    text
}

/// The weight from the beginning of the run until now.
fn curve(scene: &Scene<'_>, width: usize, paint: Paint) -> Vec<String> {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = width.saturating_sub(MARGIN + 1).clamp(10, 200);
    let begin_ms = scene.weights.begin_ms(scene.view.run_started_ms, scene.now_ms);
    let time = scene.now_ms - begin_ms;
    let at = |column: usize| begin_ms + time * (column as u64 + 1) / columns as u64;
    let shares: Vec<u32> = (0..columns).map(|column| scene.weights.at(at(column))).collect();
    let most = shares.iter().copied().max().unwrap_or(0);
    let scale = SCALES_PPM.into_iter().find(|scale| *scale >= most).unwrap_or(1_000_000);
    let level = |share: u32| {
        let eighths = (u64::from(share) * (CURVE_ROWS as u64 * 8)).div_ceil(u64::from(scale));
        usize::try_from(eighths).unwrap_or(CURVE_ROWS * 8)
    };
    let mut lines = Vec::new();
    for row in (0..CURVE_ROWS).rev() {
        let text: String = shares.iter().map(|share| LEVELS[level(*share).saturating_sub(row * 8).min(8)]).collect();
        let label = if row + 1 == CURVE_ROWS { format!("{} ", share(scale)) } else { String::new() };
        lines.push(format!("{}{}", paint.dim(&format!("{label:>MARGIN$}│")), paint.cyan(&text)));
    }
    let ago = format!("{} ago", span(time));
    let gap = columns.saturating_sub(ago.len() + 3);
    lines.push(paint.dim(&format!("{:MARGIN$}└{ago}{}now", "canary's share ", "─".repeat(gap))));
    lines
}

fn arms(view: &View, paint: Paint) -> Vec<String> {
    let mut rows =
        vec![["", "requests", "failed", "open", "now", "failing", "p50", "p99"].map(|n| paint.dim(n)).to_vec()];
    rows.push(arm("canary", &view.canary_arm, paint));
    rows.push(arm("primary", &view.primary_arm, paint));
    table(&rows, " ").lines().map(str::to_owned).collect()
}

fn arm(name: &str, arm: &ArmView, paint: Paint) -> Vec<String> {
    let failing = format!("{}/s", figure(arm.failure_rate));
    vec![
        if arm.up { name.to_owned() } else { paint.red(&format!("{name} (down)")) },
        count(arm.requests),
        failures(arm.failed, arm.requests),
        count(arm.open),
        format!("{}/s", figure(arm.rate)),
        if arm.failure_rate > 0.0 { paint.red(&failing) } else { failing },
        millis(arm.p50_ms),
        millis(arm.p99_ms),
    ]
}

fn evidence(view: &View, width: usize, paint: Paint) -> Vec<String> {
    let evidence = &view.evidence;
    if evidence.rolls_back_at <= 0.0 {
        return vec![paint.dim(" nothing is counted against the canary: `guard: off`")];
    }
    let full = width.saturating_sub(MARGIN + 30).clamp(10, 60);
    let against = log_bar(evidence.score, evidence.rolls_back_at, full);
    let against = if evidence.score >= SCORE_HOLDS { paint.red(&against) } else { paint.yellow(&against) };
    let line = |name: &str, bar: &str, text: String| format!(" {name:<width$}{bar} {text}", width = MARGIN - 1);
    let figures = format!("{} of {} roll back", figure(evidence.score), figure(evidence.rolls_back_at));
    let mut lines = vec![line("against the canary", &against, figures)];
    if view.pace == "evidence" && evidence.passes_at > 0.0 {
        let shown = paint.green(&log_bar(evidence.shown, evidence.passes_at, full));
        let figures = format!("{} of {}", figure(evidence.shown), figure(evidence.passes_at));
        lines.push(line("for the next step", &shown, figures));
    }
    lines
}

/// A score on the way to its limit: as often ten times as much, so many characters more.
fn log_bar(score: f64, limit: f64, width: usize) -> String {
    let place = |score: f64| (score.max(SCORE_MIN) / SCORE_MIN).ln();
    let whole = place(limit);
    let part = if whole > 0.0 { place(score) / whole } else { 1.0 };
    bar(if score > 0.0 { part } else { 0.0 }, width)
}

/// What stands in the way, and that nothing comes.
fn notes(scene: &Scene<'_>, paint: Paint) -> Vec<String> {
    let view = scene.view;
    let mut notes = Vec::new();
    if let Some(why) = scene.lost {
        let first = why.lines().next().unwrap_or_default();
        notes.push(paint.red(&format!(" {first}; this is how it was last seen")));
    }
    if view.paused {
        notes.push(paint.yellow(&format!(" paused: serin rollout resume {}", view.name)));
    }
    if view.suspended {
        notes.push(paint.yellow(" suspended by the file"));
    }
    if let Some(gate) = &view.waiting {
        notes.push(paint.yellow(&format!(" waits for the gate confirm-{gate}")));
    }
    if let Some(why) = &view.held {
        notes.push(paint.yellow(&format!(" held: {why}")));
    }
    if view.failed_checks > 0 {
        notes.push(paint.yellow(&format!(" {} of {} checks failed", view.failed_checks, view.failed_checks_max)));
    }
    if let Some(dry) = view.dry_weight_ppm {
        notes.push(format!(" dry run: the canary would have {}", share(dry)));
    }
    if !matches!(&*view.storage, "durable" | "memory") {
        notes.push(paint.red(&format!(" the journal cannot be written: {}", view.storage)));
    }
    notes
}

#[cfg(test)]
mod tests;
