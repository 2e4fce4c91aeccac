//! Hooks are asked beside everything else.

use super::*;

fn hooked(kind: HookKind) -> model::Rollout {
    file(Settings { hooks: vec![Hook { name: "gate".into(), kind }], ..settings() })
}

impl Stage {
    /// Answers the last ask.
    #[track_caller]
    fn say(&mut self, answer: Answer, why: &str) {
        let (index, round) = *self.asked.last().expect("nothing was asked");
        let mut acts = Vec::new();
        self.seat.hook_answered(round, index, answer, why, self.now, &mut acts);
        self.perform(acts);
    }
}

#[test]
fn a_closed_gate_holds_and_an_open_one_lets_go() {
    let mut stage = Stage::new(hooked(HookKind::ConfirmRollout));
    stage.turn();
    assert_eq!(stage.asked.len(), 1);
    stage.say(Answer::Refused, "403 not yet");
    stage.turn();
    assert_eq!(stage.phase(), Phase::Waiting);
    assert_eq!(stage.told.last().unwrap().text, "Halt world advancement waiting for approval (gate: 403 not yet)");
    stage.until("the next round", 3, |stage| stage.asked.len() == 2);
    stage.say(Answer::Passed, "");
    stage.until("start", 3, |stage| stage.share() > Ppm::ZERO);
}

#[test]
fn a_round_is_over_when_its_time_is() {
    let mut stage = Stage::new(hooked(HookKind::ConfirmRollout));
    stage.run(9_000);
    assert_eq!((stage.asked.len(), stage.phase()), (1, Phase::Initialized), "it is asked once, and waited for");
    stage.run(4_000);
    assert_eq!(stage.phase(), Phase::Waiting);
    assert_eq!(stage.asked.len(), 2, "and then asked again");
}

#[test]
fn an_answer_to_an_old_round_is_no_answer() {
    let mut stage = Stage::new(hooked(HookKind::ConfirmRollout));
    stage.turn();
    let old = stage.asked[0];
    stage.until("the next round", 20, |stage| stage.asked.len() == 2);
    let mut acts = Vec::new();
    stage.seat.hook_answered(old.1, old.0, Answer::Passed, "", stage.now, &mut acts);
    stage.run(100);
    assert_eq!(stage.phase(), Phase::Waiting);
}

#[test]
fn a_sink_that_never_answers_changes_nothing_about_a_rollback() {
    let rolled_back = |hooks: Vec<Hook>| {
        let mut stage = Stage::new(file(Settings { hooks, ..settings() }));
        stage.until("start", 5, |stage| stage.share() > Ppm::ZERO);
        stage.run(500);
        stage.fails[0] = 0.3;
        let took = stage.until("rollback", 10, |stage| stage.phase() == Phase::RolledBack);
        (took, stage.evidence.traffic().canary.failed)
    };
    let silent = [HookKind::Rollout, HookKind::Rollback, HookKind::PostRollout, HookKind::Event];
    let silent = silent.map(|kind| Hook { name: kind_name(kind).into(), kind });
    assert_eq!(rolled_back(silent.to_vec()), rolled_back(Vec::new()));
}

fn kind_name(kind: HookKind) -> &'static str {
    match kind {
        HookKind::Rollout => "rollout",
        HookKind::Rollback => "rollback",
        HookKind::PostRollout => "post",
        _ => "event",
    }
}

#[test]
fn the_end_is_told_after_it_is_in_force() {
    let mut stage = Stage::new(hooked(HookKind::PostRollout));
    stage.fails[0] = 0.5;
    stage.until("rollback", 60, |stage| stage.phase() == Phase::RolledBack);
    assert_eq!(stage.asked, [(0, 0)], "once, at the end");
    stage.say(Answer::Refused, "500");
    assert_eq!(stage.told.last().unwrap().code, "post-rollout-error");
}

#[test]
fn a_rollback_hook_that_passes_rolls_back() {
    let mut stage = Stage::new(hooked(HookKind::Rollback));
    stage.turn();
    stage.until("an ask", 5, |stage| !stage.asked.is_empty());
    stage.say(Answer::Refused, "404");
    stage.until("start", 5, |stage| stage.share() > Ppm::ZERO);
    let before = stage.asked.len();
    stage.until("an ask", 5, |stage| stage.asked.len() > before);
    stage.say(Answer::Passed, "200");
    stage.until("rollback", 3, |stage| stage.phase() == Phase::RolledBack);
    stage.check_told("rollback:hook");
}
