//! Canary analysis without a clock, a socket or a random number: what the proxy does with what it has seen.
//!
//! A [`Rollout`] moves the weight of one split from an old version, the *primary*, to a new one, the *canary*. It is
//! told of single [`EventRecord`]s, shown totals and open requests ([`Rollout::look`]) and, once an interval, what only
//! the outside knows ([`Rollout::tick`]). It answers with a [`Decision`]: nothing happens until the caller acts on it,
//! and the same inputs give the same decisions. Shares are [`Ppm`], time is an argument.
//!
//! # Phases
//!
//! ```text
//!  Initialized ──new revision──▶ Waiting ──gate open──▶ Progressing ──last step passed──▶ Promoting ──judged──▶ Promoted
//!      ▲                                                │ steps      ▲                      │ the whole
//!      │ back at the promoted revision: cancelled       │            │ gate open            │
//!      └────────────────────────────────────────────────┤     WaitingPromotion              │
//!                                                       ▼                                   ▼
//!                RolledBack ◀── guard, failed checks, rollback hook, deadline, a person ── (any of them)
//! ```
//!
//! Pace `evidence` stays at a step until it is sure ([`Policy`]). Pace `interval` keeps Flagger's clock and counters
//! tick for tick ([`Plan`]), with the guard beside it unless that is off.
//!
//! # From the first step to the promotion
//!
//! ```
//! use serin_rollout::*;
//!
//! let policy = Policy::new(Settings { steps: vec![Ppm::from_percent(10).unwrap()], ..Settings::default() })?;
//! let old: Option<Revision> = "v1".parse().ok();
//! let phase = Phase::Initialized;
//! let state = State { phase, applied: old.clone(), promoted: old.clone(), serving: old, ..State::default() };
//! let mut rollout = Rollout::new(Pace::Evidence(policy), state, TimestampMs(0));
//!
//! let target: Revision = "v2".parse().unwrap();
//! let (canary, primary) = (Readiness::Ready, Readiness::Ready);
//! let origin: Revision = "v1".parse().unwrap();
//! let tick = Tick {
//!     target: &target, origin: &origin, canary, primary, answers: &[], readings: &[],
//!     skip_analysis: false, suspended: false,
//! };
//! let mut traffic = Traffic::default();
//! let mut story = Vec::new();
//! for minute in 0..4 {
//!     let now = TimestampMs(minute * 60_000);
//!     story.extend(rollout.tick(&tick, now).events);
//!     story.extend(rollout.look(&Look { traffic: &traffic, canary_up: true, primary_up: true, slow: None }, now).events);
//!     // a minute of traffic in which nothing failed
//!     traffic.canary.routed += 1_000;
//!     traffic.canary.completed += 1_000;
//! }
//! let story: Vec<&str> = story.iter().map(|event| event.code()).collect();
//! assert_eq!(story, ["new-revision", "start", "advance", "promoting", "promotion-step", "succeeded"]);
//! assert_eq!((rollout.state().phase, rollout.state().weight), (Phase::Promoted, Ppm::WHOLE));
//! # Ok::<(), Vec<PolicyError>>(())
//! ```
//!
//! # What is routed
//!
//! [`State::share_of`] the canary's revision goes to its name, everything else to [`State::proven`]. The share is the
//! weight, but for the end of pace `interval`: there Flagger's weight falls back to 0, since its primary runs the new
//! version by then; here the proven instances keep the traffic, so the share is the whole from that moment on.
//!
//! A raise is written down before it is published. While the journal cannot be written nothing rises
//! ([`Rollout::set_storage`]), and a raise whose entry was lost is taken back ([`Rollout::withdraw`]). After a clean stop
//! a run goes on at its weight, after any other at its first step ([`Rollout::recover`]).
//!
//! # Dry runs
//!
//! In a dry run ([`Rollout::set_dry`]) the judge only tells. The machine runs as ever, its events are told as `Dry run: …`
//! and [`State::weight`] is what the weight would be, but [`State::dry`] is what is routed: nothing, until a person sets
//! it, and then it is left alone. Not even a rollback moves it, since who asks for a dry run wants no hand on the
//! traffic; nothing is promoted either, so what is proven stays. With no share of its own the canary gets no requests
//! that were drawn at random, and the guard has nothing to bet on: then metrics and hooks judge what others send to it.
//! Whoever wants the guard's verdict sets a small weight by hand.
//!
//! # The guard
//!
//! If in every block (one step, at most [`BLOCK_MS_MAX`]) the canary is within its budget, or no worse than its
//! tolerance times the primary, and users are independent of each other, it is rolled back with probability at most
//! alpha over the whole rollout, whatever the looks, steps and weights. This needs draws that are random with the share
//! that each record names, one key for what fails together, and a primary to compare with. A fresh revision has fresh
//! evidence.
//!
//! Each kind of event has a score: it bets at *starts* (each weight change, each minute; the n-th of them
//! 1/(n(n+1)) of its stake; the best are kept) that the canary is both worse than the primary and over budget, and no
//! harmless canary is expected to let it win. Blame is the sum; 1/alpha of it rolls back, 5 holds until it is below 2.
//! A step is passed at 1/beta against "over the limit", or against "fails at least twice as often as the primary".
//!
//! What a simulation of it showed and so was settled:
//!
//! * **With all traffic on the canary there is no primary beside it.** The budget alone would roll back a canary that
//!   fails as its primary always did: at 0.8 % of failures and a budget of 0.5 %, 29 of 30 promotions at 1000 requests
//!   a second. There the budget is at least twice the primary's rate in this rollout; so is a fault that begins in that
//!   last interval found, and the guarantee holds for as long as both arms get traffic.
//! * **An event of a block that is over can excuse and not blame.** A canary failure routed before the running block
//!   began is left out, a primary failure counts wherever it is told: so a late report cannot join two blocks.
//! * **What nobody drew at random has keys of its own.** Else a tester's session would use up the event of a user.
//! * **Advancing looks at both sides with the same care.** A canary failure known early is no advantage, so the test
//!   "fails at least twice as often" has the arms the other way round: failures of the primary wait for older open
//!   requests of the canary, and overdue requests of the canary count as failed.
//! * **A canary of many endpoints that refuses everything is down at the first ejection**, not at the last: see
//!   [`Look::canary_up`]. Evidence alone needs the tenth failure at half the traffic, and more if one request of the
//!   primary failed by chance.
//! * **Slow kinds ask for smaller differences**: half of all requests are slower than the p50, so nothing can be slow
//!   twice as often. Their alternatives are multiples of the odds, from 1.15 for the p50 to 60 for the p99.
//! * **One pause is one piece of evidence.** A process that stood still made slow every request it had, in one arm only,
//!   and events that come together are not as many proofs: good canaries were rolled back on a busy machine. So of one
//!   stretch (a quarter of a second for the p99, one and two seconds for the p90 and p50) a slow kind wins ten to one at
//!   most, and loses without limit, which keeps the guarantee. A canary that hangs is slow in every stretch: it is out
//!   about a second later.
//! * **With all traffic on the canary nothing is slow but what hangs.** Nobody can say then whether the canary is slower
//!   or everything is: a machine that got busy in that minute had a good canary rolled back. There only an arm that
//!   leaves more than a fifth of its requests waiting is to blame, and the proxy counts there only who waits several
//!   times as long as the primary ever took: past the primary's p99 is the median of a machine with twice the load.
//! * **Who went away is no proof.** A request whose caller gave up is neither a failure nor an answer: otherwise a canary
//!   that hangs would pass its step by the patience of its users.
//! * **Overdue requests must stay few.** Each one open past the primary's p99 counts as a failure of the primary until
//!   it ends. Where more than a few usually are (some ten thousand requests a second), the caller counts from a longer
//!   age on; the canary's events wait so much longer.
//!
//! The figures: `cargo run --release -p serin-rollout --example figures`. The simulator, [`simulate`], is here as well
//! so that a policy can be tried before it is used.

mod analysis;
mod command;
mod docket;
pub mod event;
mod evidence;
mod guard;
mod interval;
pub mod journal;
mod machine;
mod pace;
mod plan;
mod policy;
mod ppm;
mod record;
pub mod simulate;
mod state;
mod statistics;

pub use analysis::{Gap, Situation, Verdict, judge};
pub use command::{Command, CommandError};
pub use event::Event;
pub use guard::{BLOCK_MS_MAX, Capital, Guard, START_MS, SlowShares, Standing, Traffic};
pub use interval::{Readiness, Reading, Tick};
pub use journal::Entry;
pub use machine::{Decision, Look, Pace, PaceKind, Rollout, WORDS_MAX};
pub use plan::{
    Analysis, Answer, Hazard, Hook, HookKind, Metric, MetricSource, PLAN_ENTRIES_MAX, Plan, PlanError, Router,
};
pub use policy::{GuardPolicy, GuardSettings, OnInsufficient, Policy, PolicyError, Settings};
pub use ppm::{Ppm, PpmError, TimestampMs};
pub use record::{Arm, ArmTotals, EventRecord, Key, Kind, OVERDUE_SHARES_MAX, Open};
pub use state::{Phase, Revision, RevisionError, State};
