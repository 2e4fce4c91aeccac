use super::*;
use serin_config::Config;
use serin_config::source::Source;

const DELAYED: &str = "drain: {delayMs: 5}\n";

fn config(head: &str) -> Arc<Config> {
    let text = format!(
        "{head}clusters: {{a: {{endpoints: []}}}}\n\
         routers: [{{protocol: http, servers: [{{port: 1}}], dtab: /svc => /#/clusters}}]\n"
    );
    Arc::new(Config::parse(&Source::new("t", text)).unwrap().0)
}

fn control(head: &str) -> Control {
    Control::new(config(head), "first".into())
}

/// Effects in short: one word each.
fn words(effects: &[Effect]) -> String {
    let word = |effect: &Effect| match effect {
        Effect::AssembleDtabs => "assemble-dtabs".to_owned(),
        Effect::Assemble => "assemble".to_owned(),
        Effect::Apply { .. } => "apply".to_owned(),
        Effect::Enter(phase) => format!("enter:{phase:?}"),
        Effect::Exit(code) => format!("exit:{code}"),
        Effect::Note(Note::Entered(stage)) => stage.as_str().to_owned(),
        Effect::Note(note) => format!("note:{note:?}"),
        Effect::PublishNames(_) => "names".to_owned(),
        Effect::PublishWeights { .. } => "weights".to_owned(),
        Effect::RetireNames => "retire".to_owned(),
        Effect::Read { forced } => format!("read:{forced}"),
        Effect::Show(status) => format!("show(ready={},rejected={})", status.is_ready(), status.rejected.is_some()),
        Effect::Wait(timer, _) => format!("wait:{timer:?}"),
    };
    effects.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(control: &mut Control, event: Event, expected: &str) {
    assert_eq!(words(&control.apply(event)), expected);
}

const STOP: Event = Event::Signal(Signal::Stop);
const DRAIN: &str = "show(ready=false,rejected=false) draining enter:Draining wait:DeadlineOver";
const CUT: &str = "show(ready=false,rejected=false) cutting enter:Cut wait:GraceOver";
const END: &str = "show(ready=false,rejected=false) over exit:0";

#[test]
fn a_touched_folder_is_read_and_a_hangup_forces() {
    let mut control = control("");
    check(&mut control, Event::Touched, "read:false");
    check(&mut control, Event::Signal(Signal::Reload), "read:true");
}

#[test]
fn other_arms_are_assembled_in_every_stage() {
    let mut control = control("");
    check(&mut control, Event::ArmsWanted, "assemble");
    check(&mut control, STOP, DRAIN);
    check(&mut control, Event::ArmsWanted, "assemble");
}

#[test]
fn an_accepted_file_counts_only_when_it_is_in_force() {
    let mut control = control("");
    let (config, revision): (_, Arc<str>) = (config("workers: 2\n"), "second".into());
    check(&mut control, Event::Accepted { config: config.clone(), revision: revision.clone() }, "apply");
    assert_eq!(&*control.status().revision, "first");
    check(
        &mut control,
        Event::Applied { config, revision },
        "note:Applied show(ready=true,rejected=false) wait:NamesOver",
    );
    assert_eq!(&*control.status().revision, "second");
    check(&mut control, Event::Timer(Timer::NamesOver), "retire");
}

#[test]
fn a_rejected_file_changes_nothing_but_what_is_shown() {
    let mut control = control("");
    let before = Arc::clone(&control.status().config);
    let rejected = Event::Rejected("line 1".into());
    check(&mut control, rejected, "note:Rejected(\"line 1\") show(ready=true,rejected=true)");
    assert!(Arc::ptr_eq(&before, &control.status().config));
    check(&mut control, Event::Unchanged, "note:Unchanged show(ready=true,rejected=false)");
}

#[test]
fn a_stop_drains_and_ends_when_the_workers_are_gone() {
    let mut control = control("");
    check(&mut control, STOP, DRAIN);
    check(&mut control, Event::WorkersGone, END);
}

#[test]
fn a_delay_keeps_accepting_while_not_ready() {
    let mut control = control(DELAYED);
    check(&mut control, STOP, "show(ready=false,rejected=false) leaving wait:DelayOver");
    check(&mut control, Event::Timer(Timer::DelayOver), DRAIN);
}

#[test]
fn a_second_stop_or_the_deadline_cuts() {
    for (head, event) in [("", STOP), ("", Event::Timer(Timer::DeadlineOver)), (DELAYED, STOP)] {
        let mut control = control(head);
        control.apply(STOP);
        check(&mut control, event, CUT);
        check(&mut control, STOP, "");
        check(&mut control, Event::Timer(Timer::GraceOver), END);
    }
}

#[test]
fn who_leaves_takes_no_new_configuration() {
    let mut control = control("");
    control.apply(STOP);
    check(&mut control, Event::Touched, "");
    check(&mut control, Event::Rejected("x".into()), "");
    check(&mut control, Event::Signal(Signal::Reload), "");
}

#[test]
fn timers_of_stages_behind_us_mean_nothing() {
    let mut control = control("");
    check(&mut control, Event::Timer(Timer::GraceOver), "");
    control.apply(STOP);
    check(&mut control, Event::Timer(Timer::DelayOver), "");
}

#[test]
fn a_dead_worker_ends_the_process_with_a_failure() {
    let mut control = control("");
    check(&mut control, Event::WorkerDied, "show(ready=false,rejected=false) over exit:1");
    check(&mut control, STOP, "");
}
