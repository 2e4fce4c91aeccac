//! The evidence of one kind of event against the canary.
//!
//! A *start* is a bet placed at one moment; a *block* is a stretch of one weight. In a block the bet is on the lesser
//! of two scores: worse than the primary, and over budget. Over blocks it multiplies, over starts it adds up. So a
//! canary is blamed only if, in one and the same stretch, both were true, and a fault that begins late does not have to
//! make up for hours of good behaviour.

use crate::docket::Counted;
use crate::record::Arm;
use crate::statistics::{Absolute, Attribution, RATIOS_MAX, ln_mean_exp};
use crate::{Ppm, TimestampMs};

/// Starts kept after a clearing: the best ones.
pub(crate) const STARTS_KEPT: usize = 64;
/// Starts at which a clearing comes. Clearing at every start would cost more than it saves.
pub(crate) const STARTS_MAX: usize = 96;
/// Shares whose attribution terms are at hand.
const SHARES_CACHED_MAX: usize = 8;
/// Below this share of the whole stake (as a logarithm) a start is counted as nothing, which is cautious.
const LN_NEGLIGIBLE: f64 = -4.0;

/// How one kind is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// What share of requests may be such events; `None` where only the comparison counts.
    pub(crate) absolute: Option<Absolute>,
    /// How many times as often as the primary's the canary's may be.
    pub(crate) tolerance: f64,
    /// Alternatives, as multiples of the tolerance.
    pub(crate) ratios: &'static [f64],
    /// How fast it may become sure. `None`: as fast as events come.
    pub(crate) gain: Option<Gain>,
}

/// At most so much is won in so long. What is lost has no limit, so a score that is held back is still a fair one.
///
/// One pause of one process makes slow all the requests that it had, which is not as much evidence as they are many. Only
/// an arm that is slow again and again is to blame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gain {
    /// Milliseconds of a stretch.
    pub(crate) stretch_ms: u64,
    /// Of one stretch, as a logarithm.
    pub(crate) ln_max: f64,
}

/// The evidence of one kind.
#[derive(Clone, Debug)]
pub(crate) struct KindEvidence {
    rule: Rule,
    starts: Vec<Start>,
    block: Block,
    stretch_at: TimestampMs,
    /// How far the primary was over its budget when that was last known; beyond all numbers: it never was.
    primary_over_newest: f64,
    /// What tells that next.
    recovery: Option<Recovery>,
    /// Attribution terms by share: a rollout uses few shares at a time.
    terms: Vec<(Ppm, Attribution)>,
}

/// A bet placed at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    number: u32,
    opened_at: TimestampMs,
    ln_stake: f64,
    /// The score of the finished blocks.
    ln_closed: f64,
    sums: Sums,
    stretch: Stretch,
}

/// Where the score of the running block stood when the running stretch began: as it would be, and as it is held.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Stretch {
    ln_free: f64,
    ln_held: f64,
}

/// What happened in the running block since a start.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sums {
    relative: [f64; RATIOS_MAX],
    canary_events: u64,
    primary_events: u64,
    /// Requests routed when counting began, by arm.
    canary_from: u64,
    primary_from: u64,
}

/// The running stretch of one weight.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    opened_at: TimestampMs,
    /// Whether there is a primary to compare with.
    paired: bool,
}

/// The primary from one start on, until a later one finds that there were enough requests of it to tell how it is. No block
/// ends this: a primary with little traffic would never be seen well again.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    start: u32,
    opened_at: TimestampMs,
    /// Requests of the primary routed when counting began.
    from: u64,
    events: u64,
    /// There were enough.
    told: bool,
}

/// Requests routed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(crate) canary: u64,
    pub(crate) primary: u64,
}

/// Scores of one kind: sums over its starts, stakes included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Scores {
    /// Worse than the primary and over budget.
    pub(crate) blamed: f64,
    /// The canary over budget in this block, whoever is to blame.
    pub(crate) canary_over: f64,
    /// The primary over budget in this block.
    pub(crate) primary_over: f64,
    /// The primary over budget since a start of late, without its stake. It stays what it was until there are enough requests
    /// of it to tell, so that a new start or a new block is not taken for a recovery.
    pub(crate) primary_over_newest: f64,
}

impl KindEvidence {
    pub(crate) fn new(rule: Rule) -> KindEvidence {
        KindEvidence {
            rule,
            starts: Vec::new(),
            block: Block::default(),
            stretch_at: TimestampMs(0),
            primary_over_newest: f64::INFINITY,
            recovery: None,
            terms: Vec::new(),
        }
    }

    /// Changes what is tolerated. Only between blocks: what was counted so far was judged by the old rule.
    pub(crate) fn set_rule(&mut self, rule: Rule) {
        self.rule = rule;
        self.terms.clear();
    }

    /// Ends the running block and begins one at `share`. What of the primary is overdue excuses the canary in the block
    /// that ends, as it did until now: else a change of weight alone would be evidence.
    pub(crate) fn next_block(&mut self, now: TimestampMs, share: Ppm, routed: Routed, overdue: &[(Ppm, u32)]) {
        let extra = self.overdue_terms(overdue);
        for at in 0..self.starts.len() {
            let ln_block = self.ln_block(&self.starts[at], routed, &extra);
            let start = &mut self.starts[at];
            start.ln_closed += ln_block;
            start.stretch = Stretch::default();
            start.sums = Sums { canary_from: routed.canary, primary_from: routed.primary, ..Sums::default() };
        }
        self.block = Block { opened_at: now, paired: share < Ppm::WHOLE };
    }

    /// Places a bet of `stake` (a share of the whole) from now on.
    pub(crate) fn open_start(&mut self, number: u32, stake: f64, ln_closed: f64, now: TimestampMs, routed: Routed) {
        if self.starts.len() >= STARTS_MAX {
            self.clear_weakest(routed);
        }
        if self.recovery.is_none_or(|recovery| recovery.told) {
            self.recovery =
                Some(Recovery { start: number, opened_at: now, from: routed.primary, events: 0, told: false });
        }
        let sums = Sums { canary_from: routed.canary, primary_from: routed.primary, ..Sums::default() };
        let stretch = Stretch::default();
        self.starts.push(Start { number, opened_at: now, ln_stake: stake.ln(), ln_closed, sums, stretch });
    }

    /// Counts an event, several times where several of one share came together.
    pub(crate) fn count(&mut self, counted: Counted, times: u64) {
        let record = counted.record;
        // The canary's events of an earlier weight belong to a block that is over; the primary's count all the same,
        // which can only excuse the canary.
        if record.arm == Arm::Canary && record.routed_at < self.block.opened_at {
            return;
        }
        let terms = record.randomised.then(|| self.terms_of(record.share));
        if let Some(recovery) = &mut self.recovery
            && record.arm == Arm::Primary
            && recovery.start > counted.since
            && record.routed_at >= recovery.opened_at
        {
            recovery.events += times;
        }
        for start in &mut self.starts {
            if start.number <= counted.since || record.routed_at < start.opened_at {
                continue;
            }
            let (events, term) = match record.arm {
                Arm::Canary => (&mut start.sums.canary_events, terms.map(|t| t.accused)),
                Arm::Primary => (&mut start.sums.primary_events, terms.map(|t| t.other)),
            };
            *events += times;
            for (sum, term) in start.sums.relative.iter_mut().zip(term.unwrap_or_default()) {
                *sum += term * times as f64;
            }
        }
    }

    /// Time goes on: where wins are limited a new stretch may begin.
    pub(crate) fn pass(&mut self, now: TimestampMs, routed: Routed, overdue: &[(Ppm, u32)]) {
        let Some(gain) = self.rule.gain else { return };
        if now.since(self.stretch_at) < gain.stretch_ms {
            return;
        }
        self.stretch_at = now;
        let extra = self.overdue_terms(overdue);
        for at in 0..self.starts.len() {
            let start = &self.starts[at];
            let ln_free = self.ln_free(start, routed, &extra);
            self.starts[at].stretch = Stretch { ln_free, ln_held: self.held(start, ln_free) };
        }
    }

    /// The scores, with the primary's overdue requests counted as events of its own.
    pub(crate) fn scores(&mut self, routed: Routed, overdue: &[(Ppm, u32)]) -> Scores {
        let extra = self.overdue_terms(overdue);
        let mut scores = Scores::default();
        for start in &self.starts {
            if self.most(start, routed, &extra) > LN_NEGLIGIBLE {
                let ln_score = start.ln_closed + self.ln_block(start, routed, &extra);
                scores.blamed += (start.ln_stake + ln_score).min(LN_SCORE_MAX).exp();
            }
            let Some(absolute) = &self.rule.absolute else { continue };
            let over = |events, requests| over(absolute, events, requests);
            let (sums, stake) = (&start.sums, start.ln_stake.exp());
            scores.canary_over += stake * over(sums.canary_events, routed.canary.saturating_sub(sums.canary_from));
            scores.primary_over += stake * over(sums.primary_events, routed.primary.saturating_sub(sums.primary_from));
        }
        self.look_for_recovery(routed, overdue);
        // alone, the canary waits for nobody's recovery
        scores.primary_over_newest = if self.block.paired { self.primary_over_newest } else { 0.0 };
        scores
    }

    /// How the primary is of late, with what hangs as failed, if there are enough requests to tell.
    fn look_for_recovery(&mut self, routed: Routed, overdue: &[(Ppm, u32)]) {
        let (Some(absolute), Some(recovery)) = (&self.rule.absolute, &mut self.recovery) else { return };
        let requests = routed.primary.saturating_sub(recovery.from);
        if requests >= absolute.requests_to_tell() {
            recovery.told = true;
            let hanging: u64 = overdue.iter().map(|(_, count)| u64::from(*count)).sum();
            self.primary_over_newest = over(absolute, recovery.events + hanging, requests);
        }
    }

    /// The score of the running block since one start, no faster than wins may be.
    fn ln_block(&self, start: &Start, routed: Routed, extra: &[f64; RATIOS_MAX]) -> f64 {
        self.held(start, self.ln_free(start, routed, extra))
    }

    fn held(&self, start: &Start, ln_free: f64) -> f64 {
        let Stretch { ln_free: before, ln_held } = start.stretch;
        self.rule.gain.map_or(ln_free, |gain| ln_held + (ln_free - before).min(gain.ln_max))
    }

    /// The lesser of "worse than the primary" and "over budget", in the running block, since one start.
    fn ln_free(&self, start: &Start, routed: Routed, extra: &[f64; RATIOS_MAX]) -> f64 {
        let requests = routed.canary.saturating_sub(start.sums.canary_from);
        let absolute = self.rule.absolute.map(|a| a.ln_score(start.sums.canary_events, requests));
        if !self.block.paired {
            return absolute.unwrap_or(0.0);
        }
        let mut terms = [0.0; RATIOS_MAX];
        for (term, (sum, extra)) in terms.iter_mut().zip(start.sums.relative.iter().zip(extra)) {
            *term = sum + extra;
        }
        let relative = ln_mean_exp(&terms[..self.rule.ratios.len().min(RATIOS_MAX)]);
        absolute.map_or(relative, |absolute| absolute.min(relative))
    }

    /// No score of this start is above this.
    fn most(&self, start: &Start, routed: Routed, extra: &[f64; RATIOS_MAX]) -> f64 {
        let requests = routed.canary.saturating_sub(start.sums.canary_from);
        let allowed = self.rule.absolute.is_some_and(|a| a.allows(start.sums.canary_events, requests));
        let absolute = if allowed { 0.0 } else { f64::INFINITY };
        let best = start.sums.relative.iter().zip(extra).map(|(sum, extra)| sum + extra).take(self.rule.ratios.len());
        let relative = if self.block.paired { best.fold(f64::NEG_INFINITY, f64::max) } else { f64::INFINITY };
        start.ln_stake + start.ln_closed + absolute.min(relative)
    }

    fn overdue_terms(&mut self, overdue: &[(Ppm, u32)]) -> [f64; RATIOS_MAX] {
        let mut extra = [0.0; RATIOS_MAX];
        for (share, count) in overdue.iter().take(crate::record::OVERDUE_SHARES_MAX) {
            for (sum, term) in extra.iter_mut().zip(self.terms_of(*share).other) {
                *sum += term * f64::from(*count);
            }
        }
        extra
    }

    fn terms_of(&mut self, share: Ppm) -> Attribution {
        if let Some((_, terms)) = self.terms.iter().find(|(of, _)| *of == share) {
            return *terms;
        }
        let terms = Attribution::new(share.fraction(), self.rule.tolerance, self.rule.ratios);
        if self.terms.len() >= SHARES_CACHED_MAX {
            self.terms.remove(0);
        }
        self.terms.push((share, terms));
        terms
    }

    fn clear_weakest(&mut self, routed: Routed) {
        let none = [0.0; RATIOS_MAX];
        let mut ranked: Vec<(f64, u32)> = self
            .starts
            .iter()
            .map(|start| (start.ln_stake + start.ln_closed + self.ln_block(start, routed, &none), start.number))
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let kept: Vec<u32> = ranked.iter().take(STARTS_KEPT).map(|(_, number)| *number).collect();
        self.starts.retain(|start| kept.contains(&start.number));
        debug_assert!(self.starts.len() <= STARTS_KEPT);
    }
}

/// The score of an arm that may be over its budget.
fn over(absolute: &Absolute, events: u64, requests: u64) -> f64 {
    if absolute.allows(events, requests) {
        return 0.0; // at most 1, and nobody asks for less than 2
    }
    absolute.ln_score(events, requests).min(LN_SCORE_MAX).exp()
}

/// Scores above e^200 are all the same: sure.
pub(crate) const LN_SCORE_MAX: f64 = 200.0;

#[cfg(test)]
mod tests;
