//! Whose answers count: those that were asked of the step they let through.

use super::*;

fn gated(kind: HookKind) -> Settings {
    Settings { hooks: hook(kind), ..steps(&[10, 30, 50]) }
}

impl Rig {
    /// A minute of good traffic, looked at; nobody was asked anything.
    fn unasked_minute(&mut self) {
        self.now = self.now.plus(60_000);
        for totals in [&mut self.traffic.canary, &mut self.traffic.primary] {
            *totals = ArmTotals { routed: totals.routed + 1_000, completed: totals.completed + 1_000, ..*totals };
        }
        self.look();
    }
}

#[test]
fn an_open_gate_lets_one_step_through() {
    let mut rig = Rig::new(gated(HookKind::ConfirmTrafficIncrease));
    rig.answers = vec![Answer::Passed];
    rig.tick();
    rig.tick();
    rig.look();
    rig.check(Phase::Progressing, percent(10));
    rig.unasked_minute();
    rig.check(Phase::Progressing, percent(10)); // that answer was given for the first step
    assert_eq!(rig.rollout.waiting(), None, "nobody said no");
    rig.tick();
    rig.look();
    rig.check(Phase::Progressing, percent(30));
    rig.answers = vec![Answer::Refused];
    rig.minute(1_000, 1_000);
    rig.check(Phase::Progressing, percent(30));
    assert_eq!(rig.told.last(), Some(&Event::Waiting(Gate::TrafficIncrease)));
}

#[test]
fn a_promotion_is_confirmed_at_its_own_step() {
    let mut rig = Rig::begun(Settings { hooks: hook(HookKind::ConfirmPromotion), ..steps(&[10, 50]) });
    rig.answers = vec![Answer::Passed];
    rig.minute(1_000, 1_000);
    rig.check(Phase::Progressing, percent(50));
    rig.unasked_minute();
    assert_eq!(rig.weight(), percent(50));
    rig.tick();
    rig.look();
    rig.check(Phase::Promoting, Ppm::WHOLE);
}

#[test]
fn what_was_asked_before_a_run_opens_nothing_in_it() {
    let mut rig = Rig::new(gated(HookKind::PreRollout));
    rig.answers = vec![Answer::Passed];
    assert_eq!(rig.rollout.wanted_hooks(&rig.target), []);
    rig.tick();
    rig.look();
    rig.check(Phase::Progressing, Ppm::ZERO);
    assert_eq!(rig.rollout.wanted_hooks(&rig.target), [0]);
    rig.tick();
    rig.look();
    rig.check(Phase::Progressing, percent(10));
    assert_eq!(rig.rollout.wanted_hooks(&rig.target), []);
    let mut rig = Rig::new(gated(HookKind::Rollback));
    rig.answers = vec![Answer::Passed];
    rig.tick();
    rig.check(Phase::Progressing, Ppm::ZERO);
}

#[test]
fn hooks_that_are_told_of_the_end_are_told_at_every_end_and_asked_never() {
    let settings = || patient(gated(HookKind::PostRollout));
    let mut aborted = Rig::begun(settings());
    assert_eq!(aborted.rollout.wanted_hooks(&aborted.target), []);
    assert_eq!(aborted.order(Command::Abort).asked, [0]);
    let mut skipped = Rig::new(settings());
    let tick = Tick {
        target: &skipped.target,
        origin: &skipped.origin,
        canary: Readiness::Ready,
        primary: Readiness::Ready,
        answers: &[],
        readings: &[],
        skip_analysis: true,
        suspended: false,
    };
    let decision = skipped.rollout.tick(&tick, TimestampMs(0));
    assert_eq!((decision.asked.as_slice(), skipped.rollout.state().phase), (&[0][..], Phase::Promoted));
}

#[test]
fn readings_are_wanted_where_they_are_looked_at() {
    let mut rig = Rig::new(steps(&[10]));
    assert!(!rig.rollout.wants_readings());
    rig.tick();
    assert!(rig.rollout.wants_readings());
    rig.order(Command::Abort);
    assert!(!rig.rollout.wants_readings());
}
