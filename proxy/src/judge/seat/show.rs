//! A rollout as it is shown.

use serin_config::model::{self, Judge as Mode};
use serin_metrics::RolloutSample;
use serin_rollout::{Arm, Kind, Pace, Reading};

use super::{Durability, Seat};
use crate::judge::story;
use crate::judge::view::{EvidenceView, View};

impl Seat {
    /// Everything that is shown, as of now. `memory`: nothing outlives the process.
    pub(crate) fn view(&self, now: u64, memory: bool) -> View {
        let (file, state) = (&self.file, self.rollout.state());
        let code = |event: serin_rollout::Event| event.code().split_once(':').map(|(_, word)| word.to_owned());
        let dry = file.judge == Mode::DryRun;
        View {
            name: self.name.clone(),
            router: file.router.clone(),
            path: file.path.to_string(),
            primary: self.published.arms.primary.to_string(),
            canary: file.canary.to_string(),
            revision: state.applied.as_ref().unwrap_or(&file.revision).to_string(),
            promoted: state.promoted.as_ref().map(ToString::to_string),
            strategy: strategy(file),
            pace: match &file.pace {
                Pace::Evidence(_) => "evidence",
                Pace::Interval(..) => "interval",
            },
            judge: match file.judge {
                Mode::DryRun => "dry-run",
                Mode::Here => "here",
                Mode::Off => "off",
            },
            phase: state.phase.to_string(),
            weight_ppm: self.published.share.get(),
            dry_weight_ppm: dry.then(|| state.weight.get()),
            mirrored: self.published.mirrored,
            paused: self.rollout.is_paused(),
            suspended: file.suspend,
            held: self.rollout.held().and_then(|hold| code(serin_rollout::Event::Hold(hold))),
            waiting: self.rollout.waiting().and_then(|gate| code(serin_rollout::Event::Waiting(gate))),
            steps_ppm: self.rollout.steps().into_iter().map(serin_rollout::Ppm::get).collect(),
            step_started_ms: self.step_started_ms,
            run_started_ms: self.run_started_ms,
            failed_checks: state.failed_checks,
            failed_checks_max: self.rollout.failed_checks_max(),
            iterations: state.iterations,
            evidence: self.evidence_view(),
            canary_arm: self.counts.arm(Arm::Canary, self.arms_up[0], now),
            primary_arm: self.counts.arm(Arm::Primary, self.arms_up[1], now),
            storage: match &self.durability {
                Durability::Failing(why) => why.clone(),
                Durability::Good if memory => "memory".into(),
                Durability::Good => "durable".into(),
            },
            last: self.last.clone(),
        }
    }

    /// The same for metrics.
    pub(crate) fn sample(&self, view: &View, now: u64) -> RolloutSample {
        let seconds = |since: u64| now.saturating_sub(since) as f64 / 1000.0;
        let readings = story::metrics(&self.file.pace).iter().zip(self.round.readings());
        RolloutSample {
            rollout: self.name.clone(),
            router: view.router.clone(),
            path: view.path.clone(),
            primary: view.primary.clone(),
            canary: view.canary.clone(),
            revision: view.revision.clone(),
            pace: view.pace,
            phase: view.phase.clone(),
            weight_ppm: view.weight_ppm,
            step_seconds: seconds(view.step_started_ms),
            failed_checks: view.failed_checks,
            paused: view.paused || view.suspended,
            held: view.held.clone(),
            waiting: view.waiting.clone().map(|gate| (gate, seconds(self.waiting_since.unwrap_or(now)))),
            score: view.evidence.score,
            score_max: view.evidence.rolls_back_at,
            by_kind: Kind::ALL
                .iter()
                .zip(self.rollout.standing().by_kind)
                .map(|(kind, score)| (kind.name(), score))
                .collect(),
            arms: self.counts.since_arms(),
            durable: self.durability == Durability::Good,
            readings: readings
                .filter_map(|(metric, reading)| match reading {
                    Reading::Value(value) if metric.source == serin_rollout::MetricSource::Duration => {
                        Some((metric.name.clone(), value / 1000.0))
                    }
                    Reading::Value(value) => Some((metric.name.clone(), *value)),
                    Reading::NoValues | Reading::ProviderError => None,
                })
                .collect(),
        }
    }

    fn evidence_view(&self) -> EvidenceView {
        let standing = self.rollout.standing();
        let guard = match &self.file.pace {
            Pace::Evidence(policy) => Some(&policy.settings().guard),
            Pace::Interval(_, guard) => guard.as_ref(),
        };
        let kinds = Kind::ALL.iter().zip(standing.by_kind);
        EvidenceView {
            score: standing.score,
            rolls_back_at: guard.map_or(0.0, serin_rollout::GuardPolicy::sure),
            shown: standing.shown,
            passes_at: guard.map_or(0.0, serin_rollout::GuardPolicy::shown),
            by_kind: kinds.map(|(kind, score)| (kind.name().to_owned(), score)).collect(),
            dropped: standing.dropped,
        }
    }

    /// How long the run lasted that ended now.
    pub(crate) fn run_ended_seconds(&self, at_ms: u64) -> f64 {
        at_ms.saturating_sub(self.run_started_ms.unwrap_or(at_ms)) as f64 / 1000.0
    }
}

fn strategy(file: &model::Rollout) -> &'static str {
    match (&file.strategy, &file.pace) {
        (model::Strategy::Match(_), _) => "a/b",
        (model::Strategy::Mirror(_), _) => "mirror",
        (model::Strategy::Weights, Pace::Interval(plan, _)) if plan.steps().is_empty() => "blue/green",
        (model::Strategy::Weights, _) => "canary",
    }
}
