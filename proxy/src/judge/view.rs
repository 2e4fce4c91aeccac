//! What is shown of rollouts: to the console, the command line and metrics.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// One of a few words that the program knows.
type Word = &'static str;

/// One rollout at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its name.
    pub name: Arc<str>,
    /// Label of its router.
    pub router: String,
    /// The dentry prefix it owns.
    pub path: String,
    /// The old version.
    pub primary: String,
    /// The new version.
    pub canary: String,
    /// The revision that is judged, or was judged last.
    pub revision: String,
    /// The revision that is proven.
    pub promoted: Option<String>,
    /// `canary`, `a/b`, `blue/green` or `mirror`.
    #[serde(deserialize_with = "word")]
    pub strategy: Word,
    /// `evidence` or `interval`.
    #[serde(deserialize_with = "word")]
    pub pace: Word,
    /// `here`, `dry-run` or `off`.
    #[serde(deserialize_with = "word")]
    pub judge: Word,
    /// See [`serin_rollout::Phase`]; its printed form.
    pub phase: String,
    /// The canary's share in force, parts per million.
    pub weight_ppm: u32,
    /// In a dry run: what the share would be.
    pub dry_weight_ppm: Option<u32>,
    /// Copies go to the canary.
    pub mirrored: bool,
    /// A person froze the weight.
    pub paused: bool,
    /// The file did.
    pub suspended: bool,
    /// Why the weight stays, if it does: what follows `hold:` in the code of the event.
    pub held: Option<String>,
    /// The gate it waits for: `rollout`, `traffic-increase` or `promotion`.
    pub waiting: Option<String>,
    /// The shares it goes through, parts per million. Empty where there are none.
    pub steps_ppm: Vec<u32>,
    /// When the weight became what it is, ms since 1970.
    pub step_started_ms: u64,
    /// When this run began; `None`: nothing runs.
    pub run_started_ms: Option<u64>,
    /// Failed checks of this run.
    pub failed_checks: u32,
    /// How many roll back.
    pub failed_checks_max: u32,
    /// Rounds of A/B and blue/green.
    pub iterations: i32,
    /// How sure the guard is.
    pub evidence: EvidenceView,
    /// The canary's requests in this run.
    pub canary_arm: ArmView,
    /// The primary's.
    pub primary_arm: ArmView,
    /// `durable`, `memory`, or why the journal cannot be written.
    pub storage: String,
    /// What happened last.
    pub last: Option<Arc<Told>>,
}

/// How sure the guard is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvidenceView {
    /// Against the canary.
    #[serde(deserialize_with = "number")]
    pub score: f64,
    /// The score that rolls back: 1/alpha. 0: the guard is off.
    #[serde(deserialize_with = "number")]
    pub rolls_back_at: f64,
    /// For the canary: it is within its limit, or no worse than the primary.
    #[serde(deserialize_with = "number")]
    pub shown: f64,
    /// What lets a step pass: 1/beta.
    #[serde(deserialize_with = "number")]
    pub passes_at: f64,
    /// The score of each kind of event, by its name, before its stake.
    #[serde(deserialize_with = "numbers")]
    pub by_kind: Vec<(String, f64)>,
    /// Events that did not count because something was full.
    pub dropped: u64,
}

/// One arm since the run began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmView {
    /// Sent to it.
    pub requests: u64,
    /// Of those: failed.
    pub failed: u64,
    /// Of those: not over.
    pub open: u64,
    /// Requests a second, over the last ten seconds.
    pub rate: f64,
    /// Failures a second, over the last ten seconds.
    pub failure_rate: f64,
    /// Half of the last five minutes' answers began within so many milliseconds.
    pub p50_ms: Option<f64>,
    /// 99 of 100 did.
    pub p99_ms: Option<f64>,
    /// Is there an endpoint that can serve.
    pub up: bool,
}

/// Something happened to a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Counts all that this process told, from 1.
    pub sequence: u64,
    /// When, ms since 1970.
    pub at_ms: u64,
    /// Whom.
    pub rollout: Arc<str>,
    /// The code of [`serin_rollout::Event`].
    pub code: String,
    /// The sentence people read: `Advance world canary weight 10`.
    pub text: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// The canary's share after it, parts per million.
    pub weight_ppm: u32,
    /// The score then.
    #[serde(deserialize_with = "number")]
    pub score: f64,
    /// Who asked for it, if a person did.
    pub who: Option<String>,
    /// And why.
    pub why: Option<String>,
}

/// Of a newer program's words those that this one does not know are all the same to it.
fn word<'de, D: Deserializer<'de>>(from: D) -> Result<Word, D::Error> {
    const KNOWN: [Word; 9] =
        ["a/b", "blue/green", "canary", "mirror", "evidence", "interval", "dry-run", "here", "off"];
    let text = String::deserialize(from)?;
    Ok(KNOWN.into_iter().find(|known| *known == text).unwrap_or("unknown"))
}

/// JSON has no infinity: a score beyond all bounds comes as `null`.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::MAX))
}

fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, f64)>, D::Error> {
    let pairs: Vec<(String, Option<f64>)> = Vec::deserialize(from)?;
    Ok(pairs.into_iter().map(|(kind, score)| (kind, score.unwrap_or(f64::MAX))).collect())
}

/// A rollout on its way, for tests.
#[cfg(test)]
pub(crate) fn sample(name: &str) -> View {
    let arm = |requests, failed| ArmView {
        requests,
        failed,
        open: 2,
        rate: 5.0,
        failure_rate: 0.05,
        p50_ms: Some(20.0),
        p99_ms: Some(130.0),
        up: true,
    };
    View {
        name: name.into(),
        router: "outgoing".into(),
        path: format!("/host/{name}"),
        primary: "/srv/v1".into(),
        canary: "/srv/v2".into(),
        revision: "/srv/v2@r7".into(),
        promoted: Some("/srv/v1".into()),
        strategy: "canary",
        pace: "evidence",
        judge: "here",
        phase: "progressing".into(),
        weight_ppm: 50_000,
        dry_weight_ppm: None,
        mirrored: false,
        paused: false,
        suspended: false,
        held: None,
        waiting: None,
        steps_ppm: vec![10_000, 50_000, 250_000],
        step_started_ms: 1_763_704_800_000,
        run_started_ms: Some(1_763_704_740_000),
        failed_checks: 1,
        failed_checks_max: 5,
        iterations: 0,
        evidence: EvidenceView {
            score: 0.35,
            rolls_back_at: 100.0,
            shown: 3.2,
            passes_at: 20.0,
            by_kind: vec![("failure".into(), 0.4)],
            dropped: 0,
        },
        canary_arm: arm(1_234, 3),
        primary_arm: arm(23_456, 21),
        storage: "durable".into(),
        last: None,
    }
}
