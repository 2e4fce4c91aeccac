//! Where a rollout stands: the part that both paces share, and that a journal brings back.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::Ppm;

/// The name of one revision: what "the same canary" means. 1 to 253 printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(Box<str>);

impl Revision {
    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Revision {
    type Err = RevisionError;

    fn from_str(text: &str) -> Result<Revision, RevisionError> {
        let legal = (1..=REVISION_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if legal && text != "-" { Ok(Revision(text.into())) } else { Err(RevisionError) }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a revision is 1 to {REVISION_BYTES_MAX} printable ASCII characters without spaces, and not a lone dash")]
pub struct RevisionError;

/// Where a rollout stands. Not every pace knows every phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Promoted; what remains is to tidy up.
    Finalising,
    /// The primary serves, nothing is judged.
    Initialized,
    /// The primary is being set up.
    #[default]
    Initializing,
    /// The canary is judged.
    Progressing,
    /// The canary is the new version. An end.
    Promoted,
    /// The last step passed; traffic moves to where it stays.
    Promoting,
    /// All traffic went back to the primary. An end.
    RolledBack,
    /// The gate before the first traffic is closed.
    Waiting,
    /// The gate before the promotion is closed.
    WaitingPromotion,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 9] = [
        Phase::Finalising,
        Phase::Initialized,
        Phase::Initializing,
        Phase::Progressing,
        Phase::Promoted,
        Phase::Promoting,
        Phase::RolledBack,
        Phase::Waiting,
        Phase::WaitingPromotion,
    ];

    /// Whether a canary is under way.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Phase::Finalising | Phase::Progressing | Phase::Promoting | Phase::WaitingPromotion)
    }

    /// Whether this is an end: only a new revision, or a person, leads out of it.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Phase::Promoted | Phase::RolledBack)
    }

    /// The name Flagger has for it.
    #[must_use]
    pub const fn flagger_name(self) -> &'static str {
        match self {
            Phase::Finalising => "Finalising",
            Phase::Initialized => "Initialized",
            Phase::Initializing => "Initializing",
            Phase::Progressing => "Progressing",
            Phase::Promoted => "Succeeded",
            Phase::Promoting => "Promoting",
            Phase::RolledBack => "Failed",
            Phase::Waiting => "Waiting",
            Phase::WaitingPromotion => "WaitingPromotion",
        }
    }

    /// The phase of that name; an empty one is [`Phase::Initializing`].
    #[must_use]
    pub fn from_flagger_name(name: &str) -> Option<Phase> {
        if name.is_empty() {
            return Some(Phase::Initializing);
        }
        Phase::ALL.into_iter().find(|phase| phase.flagger_name() == name)
    }
}

/// Our own names, for journals and labels.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Finalising => "finalising",
            Phase::Initialized => "initialized",
            Phase::Initializing => "initializing",
            Phase::Progressing => "progressing",
            Phase::Promoted => "promoted",
            Phase::Promoting => "promoting",
            Phase::RolledBack => "rolled-back",
            Phase::Waiting => "waiting",
            Phase::WaitingPromotion => "waiting-promotion",
        })
    }
}

impl FromStr for Phase {
    type Err = ();

    fn from_str(text: &str) -> Result<Phase, ()> {
        Phase::ALL.into_iter().find(|phase| phase.to_string() == text).ok_or(())
    }
}

/// Where a rollout stands, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The phase.
    pub phase: Phase,
    /// The canary's share in force: always the truth, whatever [`State::shown_weight`] says.
    pub weight: Ppm,
    /// Whether copies go to the canary.
    pub mirrored: bool,
    /// The weight Flagger's status shows, which is 0 while a promotion waits. Pace `interval` only.
    pub shown_weight: Ppm,
    /// Failed checks of this run.
    pub failed_checks: u32,
    /// Rounds of A/B and blue/green. −1 while a canary's promotion waits, as Flagger has it.
    pub iterations: i32,
    /// The revision this run judges, or judged last.
    pub applied: Option<Revision>,
    /// The revision promoted last.
    pub promoted: Option<Revision>,
    /// The revision the primary runs.
    pub serving: Option<Revision>,
    /// What the file called primary when this state was made. `None`: not known yet, the next tick says it.
    pub origin: Option<Revision>,
    /// In a dry run: what is really routed to the canary, which only a person sets; the weight is what it would be.
    pub dry: Option<Ppm>,
}

impl State {
    /// The share of the traffic that goes to the name of [`State::applied`]; the rest goes to [`State::proven`].
    ///
    /// It is the weight, but for what follows the last step. Flagger's promotion rolls the new version out to the
    /// primary and gives the traffic back to it; here nobody rolls anything out, so the instances that were proven keep
    /// the traffic, and take the rest of it from the moment on at which the primary would run the new version. No share
    /// of the old version comes back, whatever `stepWeightPromotion` says and however the weight falls.
    ///
    /// | phase | share |
    /// |---|---|
    /// | Promoting and Finalising, `serving` is `applied` (pace `interval`) | the whole |
    /// | Promoted | the whole |
    /// | any, in a dry run | what a person set |
    /// | every other; RolledBack after a promotion that failed has weight 100 % | the weight |
    #[must_use]
    pub fn canary_share(&self) -> Ppm {
        if let Some(real) = self.dry {
            return real;
        }
        match self.phase {
            Phase::Promoted => Ppm::WHOLE,
            Phase::Finalising | Phase::Promoting if self.is_taken_over() => Ppm::WHOLE,
            _ => self.weight,
        }
    }

    /// The share of the traffic that goes to `canary`: nothing, unless this is what was taken up. So a changed file
    /// brings no request to a revision that no tick has seen yet.
    #[must_use]
    pub fn share_of(&self, canary: &Revision) -> Ppm {
        let holder = if self.is_stranded() { &self.serving } else { &self.applied };
        if holder.as_ref() == Some(canary) { self.canary_share() } else { Ppm::ZERO }
    }

    /// What all traffic goes to when the canary has none: the revision promoted last, else what the file calls primary;
    /// after a promotion that failed what was to be promoted, since the primary was gone.
    /// `None`: nothing is known, as after a journal that could not be read; then it is what the file says now.
    #[must_use]
    pub fn proven(&self) -> Option<&Revision> {
        let stranded = self.serving.as_ref().filter(|_| self.is_stranded());
        stranded.or(self.promoted.as_ref()).or(self.origin.as_ref())
    }

    /// Whether a promotion failed and its canary kept the traffic: pace `interval` forgets the canary's name then.
    fn is_stranded(&self) -> bool {
        matches!(self.phase, Phase::RolledBack | Phase::Waiting) && self.weight > Ppm::ZERO && self.dry.is_none()
    }

    /// Whether the primary runs what is judged: only between the last step of pace `interval` and its end.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.applied.is_some() && self.serving == self.applied
    }

    /// What is judged is the proven version from now on; a dry run proves nothing.
    pub(crate) fn promote(&mut self) {
        if self.dry.is_none() {
            self.promoted.clone_from(&self.applied);
            self.serving.clone_from(&self.applied);
        }
    }

    /// Whether what was judged last is what was promoted last.
    pub(crate) fn is_promoted(&self) -> bool {
        self.applied.is_some() && self.promoted == self.applied
    }

    /// A run from its beginning, with the same canary: nothing routed, nothing counted.
    pub(crate) fn start_over(&mut self) {
        self.route(Ppm::ZERO, false);
        self.phase = Phase::Progressing;
        self.iterations = 0;
        self.shown_weight = Ppm::ZERO;
        self.serving.clone_from(&self.promoted);
    }

    /// Whether `target` asks for a new run: it is neither what runs nor what was promoted.
    pub(crate) fn is_change(&self, target: &Revision) -> bool {
        match &self.applied {
            None => true,
            Some(applied) => self.promoted.as_ref() != Some(target) && applied != target,
        }
    }

    pub(crate) fn route(&mut self, weight: Ppm, mirrored: bool) {
        self.weight = weight;
        self.mirrored = mirrored;
    }

    /// The counters of a new run.
    pub(crate) fn begin(&mut self, target: &Revision) {
        self.applied = Some(target.clone());
        self.phase = Phase::Progressing;
        self.failed_checks = 0;
        self.iterations = 0;
    }

    /// The counters at the end of a run.
    pub(crate) fn end(&mut self, phase: Phase) {
        debug_assert!(phase.is_end());
        self.phase = phase;
        self.failed_checks = 0;
        self.iterations = 0;
        self.shown_weight = Ppm::ZERO;
    }
}

const REVISION_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_one_printable_word() {
        let longest = "r".repeat(REVISION_BYTES_MAX);
        assert_eq!(longest.parse::<Revision>().unwrap().as_str(), longest);
        for text in ["", "-", "a b", "a\n", "é", &"r".repeat(REVISION_BYTES_MAX + 1)] {
            assert_eq!(text.parse::<Revision>(), Err(RevisionError), "{text:?}");
        }
    }

    #[test]
    fn every_phase_reads_back() {
        for phase in Phase::ALL {
            assert_eq!(phase.to_string().parse(), Ok(phase));
            assert_eq!(Phase::from_flagger_name(phase.flagger_name()), Some(phase));
        }
        assert_eq!(Phase::from_flagger_name("Terminated"), None);
    }
}
