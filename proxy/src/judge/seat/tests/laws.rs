//! What holds whatever comes, in whatever order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Run(u16),
    Fail(u8, u8),
    Disk(u8),
    Heal,
    Command(u8, u8),
    File(u8),
    Presence(bool, bool),
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    use proptest::strategy::Strategy as _;
    prop_oneof![
        6 => (1_u16..3_000).prop_map(Step::Run),
        1 => (0_u8..2, 0_u8..100).prop_map(|(arm, fails)| Step::Fail(arm, fails)),
        2 => (0_u8..3).prop_map(Step::Disk),
        1 => Just(Step::Heal),
        4 => (0_u8..7, 0_u8..=100).prop_map(|(which, weight)| Step::Command(which, weight)),
        1 => (0_u8..7).prop_map(Step::File),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(canary, primary)| Step::Presence(canary, primary)),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

use proptest::strategy::Strategy;

fn command(which: u8, weight: u8, file: &model::Rollout) -> Command {
    match which {
        0 => Command::Abort,
        1 => Command::Pause,
        2 => Command::Promote,
        3 => Command::Resume,
        4 => Command::SetWeight(percent(u32::from(weight))),
        5 => Command::Start(file.revision.clone()),
        _ => Command::Undo,
    }
}

fn other_file(which: u8) -> model::Rollout {
    match which {
        0 => file(settings()),
        1 => file(Settings { steps: [3, 30].map(percent).to_vec(), ..settings() }),
        2 => model::Rollout { canary: path(V3), revision: V3.parse().unwrap(), ..file(settings()) },
        3 => model::Rollout { primary: path(V3), ..file(settings()) },
        4 => model::Rollout { path: path("/host/other"), ..file(settings()) },
        5 => model::Rollout { judge: Mode::DryRun, ..file(settings()) },
        _ => model::Rollout { revision: format!("{V2}@next").parse().unwrap(), ..file(settings()) },
    }
}

impl Stage {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Run(ms) => self.run(u64::from(*ms)),
            Step::Fail(arm, fails) => self.fails[usize::from(*arm)] = f64::from(*fails) / 100.0,
            Step::Disk(which) => self.disk = [Disk::Good, Disk::Full, Disk::Hung][usize::from(*which)],
            Step::Heal => self.heal(),
            Step::Command(which, weight) => {
                let _nobody_waits = self.command(&command(*which, *weight, &self.seat.file.clone()));
            }
            Step::File(which) => {
                self.take_file(other_file(*which));
                self.relink();
            }
            Step::Presence(canary, primary) => {
                self.presence = [*canary, *primary].map(|there| if there { Presence::Some } else { Presence::None });
            }
            Step::Restart(clean) => self.restart(*clean),
        }
        if self.assembled > 0 {
            self.relink();
        }
        self.check_whole();
    }

    fn relink(&mut self) {
        self.assembled = 0;
        if self.seat.linked.as_ref() != Some(&self.seat.published.arms) {
            self.evidence = Arc::new(SplitEvidence::new(1));
            self.link();
        }
    }

    /// Another process comes up with what is on the disk.
    fn restart(&mut self, clean: bool) {
        let file = (*self.seat.file).clone();
        let share = |state: &State| durable_share(state, &file.canary);
        let before = self.durable.last().map(share);
        let mut last = self.seat.newest.clone();
        if clean && self.disk == Disk::Good {
            last = self.seat.last_words(TimestampMs(self.now)).or(last);
        } else if let (Some(entry), Some(state)) = (&mut last, self.durable.last()) {
            entry.state = state.clone();
        } else {
            last = None;
        }
        let recovered = Recovered {
            existed: last.is_some(),
            last,
            clean: clean && self.disk == Disk::Good,
            ..Recovered::default()
        };
        let mut again = Stage::recovered(file.clone(), &recovered);
        if let Some(before) = before {
            let durable = recovered.last.as_ref().map_or(before, |last| share(&last.state));
            assert!(again.share() <= durable, "a restart raised the share");
        }
        (again.fails, again.presence, again.disk) = (self.fails, self.presence, Disk::Good);
        again.now = self.now.max(again.now);
        *self = again;
    }

    /// What is shown is what is published; a pending raise is one.
    fn check_whole(&self) {
        assert_eq!(self.seat.state, *self.seat.rollout.state());
        if let Some((_, newest)) = self.published.last() {
            assert_eq!(*newest, self.seat.published);
        }
        if let Some(pending) = &self.seat.pending {
            assert!(is_raise(&self.seat.published, &pending.routing));
        }
        let state = self.seat.rollout.state();
        let moves = state.dry.is_none() && self.seat.published.proven != self.seat.file.canary;
        if state.phase == Phase::RolledBack && moves {
            assert_eq!(self.share(), Ppm::ZERO);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Each publication is checked against what is durable, on the way: see `check_published`.
    #[test]
    fn nothing_is_published_that_a_stop_would_forget(steps in proptest::collection::vec(step(), 1..60)) {
        let mut stage = Stage::new(file(settings()));
        for step in &steps {
            stage.step(step);
        }
    }
}

#[test]
fn every_command_in_every_phase_is_done_or_refused() {
    for which in 0..7_u8 {
        for turns in [0, 1, 30, 200, 3_000, 40_000] {
            for (fails, weight) in [(0.0, 0), (0.0, 100), (0.5, 7)] {
                let mut stage = Stage::new(file(settings()));
                stage.fails[0] = fails;
                for _ in 0..turns {
                    stage.turn();
                }
                let phase = stage.phase();
                let asked = stage.command(&command(which, weight, &stage.seat.file.clone()));
                let answer = answered(asked);
                assert!(
                    matches!(answer, Ok(_) | Err(CommandFailure::Refused(_))),
                    "command {which} in {phase}: {answer:?}"
                );
                stage.check_whole();
                stage.run(2_000);
            }
        }
    }
}
