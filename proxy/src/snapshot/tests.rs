use super::*;
use serin_config::dtab::NameTree;
use serin_config::model::{Judge, Rollout, Storage};
use serin_config::source::Source;
use serin_rollout::{Pace, Policy};

use crate::assemble::{Parts, assemble};

/// A router with one dentry for the rollout's prefix and one behind it that is more specific.
fn config(primary: &str, canary: &str) -> Arc<Config> {
    config_of(primary, canary, Strategy::Weights)
}

fn config_of(primary: &str, canary: &str, strategy: Strategy) -> Arc<Config> {
    let text = "clusters: {v1: {endpoints: []}, v2: {endpoints: []}, v3: {endpoints: []}}\nrouters:\n- protocol: http\n  \
                label: out\n  servers: [{port: 0}]\n  dtab: |\n    /host/x => /#/clusters/v1 ;\n    /host/x/y => /#/clusters/v3 ;\n";
    let mut config = Config::parse(&Source::new("t", text)).unwrap().0;
    config.storage = Some(Storage::Memory);
    config.rollouts.push(Rollout {
        name: "x".into(),
        router: "out".into(),
        path: Path::parse("/host/x").unwrap(),
        primary: Path::parse(primary).unwrap(),
        canary: Path::parse(canary).unwrap(),
        revision: canary.parse().unwrap(),
        fallback: NameTree::Fail,
        pace: Pace::Evidence(Policy::default()),
        strategy,
        stickiness: None,
        affinity: None,
        on_unhealthy: None,
        judge: Judge::Here,
        suspend: false,
        skip_analysis: false,
        progress_deadline: std::time::Duration::from_secs(600),
        metrics: Vec::new(),
        hooks: Vec::new(),
        alerts: Vec::new(),
    });
    Arc::new(config)
}

fn snapshot(config: &Arc<Config>, previous: Option<&Snapshot>, routings: &Routings) -> Snapshot {
    snapshot_with(config, &[], previous, routings)
}

fn snapshot_with(
    config: &Arc<Config>,
    listeners: &[Arc<Listener>],
    previous: Option<&Snapshot>,
    routings: &Routings,
) -> Snapshot {
    let names = Arc::default();
    let admin = ([127, 0, 0, 1], 1).into();
    let parts = Parts {
        config,
        listeners,
        admin,
        names: &names,
        workers: 1,
        previous,
        routings,
        stored: &Default::default(),
        interfaces: &[],
    };
    let (structure, weights) = assemble(&parts);
    Snapshot { version: previous.map_or(1, |previous| previous.version + 1), structure, weights }
}

fn world(primary: &str, canary: &str) -> Arc<World> {
    World::new(snapshot(&config(primary, canary), None, &Routings::default()), Routings::default())
}

fn routing(proven: &str, primary: &str, canary: &str, percent: u32) -> Routing {
    let path = |text: &str| Path::parse(text).unwrap();
    let arms = Arms { primary: path(primary), canary: path(canary) };
    let share = Ppm::from_percent(percent).unwrap();
    Routing { origin: path("/#/clusters/v1"), proven: path(proven), arms, share, mirrored: false }
}

fn reload(world: &World, primary: &str, canary: &str) {
    let before = world.load();
    let next = snapshot(&config(primary, canary), Some(&before), &world.routings());
    world.publish(&next.structure, &next.weights);
}

const V1: &str = "/#/clusters/v1";
const V2: &str = "/#/clusters/v2";
const V3: &str = "/#/clusters/v3";

/// The rollout's arms in force, and their weights.
#[track_caller]
fn check(world: &World, canary: &str, primary: &str, weights: [f64; 2]) {
    let snapshot = world.load();
    let (split, rollout) = snapshot.structure.rollout("x").unwrap();
    assert_eq!((rollout.arms.canary.to_string(), rollout.arms.primary.to_string()), (canary.into(), primary.into()));
    let found: Vec<f64> = snapshot.weights.weights[split.0 as usize].iter().map(|weight| weight.get()).collect();
    assert_eq!(found, weights);
}

#[test]
fn a_rollout_stands_behind_the_last_dentry_of_its_prefix() {
    let world = world(V1, V2);
    let table = world.load().structure.routers[0].table.dtab().to_string();
    assert_eq!(
        table,
        "/host/x=>/#/clusters/v1;/host/x=>0.00*/#/clusters/v2 & /#/clusters/v1 | !;/host/x/y=>/#/clusters/v3"
    );
    check(&world, V2, V1, [0.0, 1e6]);
}

#[test]
fn shares_move_without_the_structure() {
    let world = world(V1, V2);
    let before = world.load();
    assert!(world.publish_routing(&"x".into(), Some(&routing(V1, V1, V2, 10))));
    let after = world.load();
    assert!(Arc::ptr_eq(&before.structure, &after.structure));
    assert!(after.weights.epoch > before.weights.epoch && world.version() == after.version);
    check(&world, V2, V1, [1e5, 9e5]);
}

#[test]
fn a_new_canary_starts_from_nothing_and_from_what_is_proven() {
    let world = world(V1, V2);
    world.publish_routing(&"x".into(), Some(&routing(V1, V1, V2, 10)));
    reload(&world, V1, V3);
    check(&world, V3, V1, [0.0, 1e6]);
    reload(&world, V1, V2);
    check(&world, V2, V1, [1e5, 9e5]);
    world.publish_routing(&"x".into(), Some(&routing(V2, V1, V2, 100)));
    reload(&world, V1, V3);
    check(&world, V3, V2, [0.0, 1e6]);
}

#[test]
fn a_file_that_changes_its_primary_wins() {
    let world = world(V1, V2);
    world.publish_routing(&"x".into(), Some(&routing(V2, V1, V2, 100)));
    reload(&world, V3, V2);
    check(&world, V2, V3, [0.0, 1e6]);
}

#[test]
fn shares_for_other_arms_are_refused_until_the_structure_has_them() {
    let world = world(V1, V2);
    assert!(!world.publish_routing(&"x".into(), Some(&routing(V1, V1, V3, 10))));
    check(&world, V2, V1, [0.0, 1e6]);
    reload(&world, V1, V3);
    check(&world, V3, V1, [1e5, 9e5]);
}

#[test]
fn in_ab_both_arms_have_a_part_until_the_canary_is_promoted() {
    let first = snapshot(&config_of(V1, V2, Strategy::Match(Vec::new())), None, &Routings::default());
    let world = World::new(first, Routings::default());
    check(&world, V2, V1, [0.0, 1e6]);
    world.publish_routing(&"x".into(), Some(&routing(V1, V1, V2, 100)));
    check(&world, V2, V1, [1.0, 1.0]);
    world.publish_routing(&"x".into(), Some(&routing(V2, V1, V2, 100)));
    check(&world, V2, V1, [1e6, 0.0]);
    world.publish_routing(&"x".into(), Some(&routing(V1, V1, V2, 0)));
    check(&world, V2, V1, [0.0, 1e6]);
}

#[test]
fn evidence_lives_as_long_as_the_arms() {
    let world = world(V1, V2);
    let id = || world.load().structure.rollout("x").unwrap().1.evidence.id();
    let first = id();
    reload(&world, V1, V2);
    assert_eq!(id(), first);
    reload(&world, V1, V3);
    assert_ne!(id(), first);
}

#[test]
fn a_judge_that_breaks_leaves_nothing_to_canaries() {
    let first = config("/#/clusters/v1", "/#/clusters/v2");
    let routings: Routings =
        [("other".into(), routing("/#/clusters/v1", "/#/clusters/v1", "/#/clusters/v2", 30))].into();
    let world = World::new(snapshot(&first, None, &routings), routings);
    let seed = crate::judge::JudgeSeed {
        world: Arc::clone(&world),
        endpoints: Arc::default(),
        records: Arc::new(crate::evidence::Records::new(1, Box::new(|| {}))),
        metrics: serin_metrics::Metrics::new(1, 100),
        assemble: Box::new(|| panic!("it breaks here")),
    };
    let judge = crate::judge::start(seed, &crate::judge::Waker::default()).unwrap();
    // the structure in force has another canary, so the judge asks for another structure
    let adoption = crate::judge::Adoption {
        config: config("/#/clusters/v1", "/#/clusters/v3"),
        openings: HashMap::new(),
        scribe: None,
        reader: None,
        outside: None,
        memory: true,
    };
    judge.adopt(adoption);
    let deadline_ms = crate::clock::now_ms() + 5_000;
    while world.routings()["other"].share > Ppm::ZERO {
        assert!(crate::clock::now_ms() < deadline_ms, "{:?}", world.routings());
        std::thread::yield_now();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let command = judge.command("x", serin_rollout::Command::Abort, "ann", "");
    assert_eq!(runtime.block_on(command).unwrap_err(), crate::judge::CommandFailure::Gone);
}

#[test]
fn canaries_that_nobody_judges_get_nothing_and_what_is_proven_keeps_serving() {
    let world = world("/#/clusters/v1", "/#/clusters/v2");
    for (proven, percent, expected) in [("/#/clusters/v1", 30, 0), ("/#/clusters/v2", 100, 100)] {
        let routing = routing(proven, "/#/clusters/v1", "/#/clusters/v2", percent);
        world.publish_routing(&"x".into(), Some(&routing));
        world.abandon_canaries();
        assert_eq!(world.routings()["x"].share, Ppm::from_percent(expected).unwrap());
    }
}

#[test]
fn sockets_of_listeners_that_come_and_go_unseen_are_given_to_their_workers_once() {
    let config = config("/#/clusters/v1", "/#/clusters/v2");
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
    let first = snapshot_with(&config, std::slice::from_ref(&listener), None, &Routings::new());
    let world = World::new(first, Routings::new());
    let listened = world.version();
    let missed = |worker| {
        let taken = world.take_missed(worker).into_iter();
        taken.map(|(missed, _)| (missed.listener.id, missed.snapshot.version)).collect::<Vec<_>>()
    };
    world.remove_all_but(std::slice::from_ref(&listener));
    assert_eq!((missed(0), missed(1)), (vec![], vec![]), "it stays");
    drop(listener.take(2));
    world.remove_all_but(&[]);
    let gone = snapshot(&config, Some(&world.load()), &Routings::new());
    world.publish(&gone.structure, &gone.weights);
    assert_eq!(missed(2), [], "it has had its socket");
    assert_eq!((missed(1), missed(1)), (vec![(listener.id, listened)], vec![]));
    assert_eq!(world.missed.load().len(), 1, "one socket is left");
    assert_eq!(missed(0), [(listener.id, listened)]);
    assert!(world.missed.load().is_empty(), "nothing is kept of it");
}
