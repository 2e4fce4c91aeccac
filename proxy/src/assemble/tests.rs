use super::*;
use serin_config::model::{OnUnhealthy, StickyKey};
use serin_config::source::Source;

fn config(text: &str) -> Arc<Config> {
    Arc::new(Config::parse(&Source::new("t", text)).unwrap().0)
}

fn routers(dtab: &str, rest: &str) -> Arc<Config> {
    config(&format!(
        "clusters: {{a: {{endpoints: []}}, b: {{endpoints: []}}}}\nrouters:\n- protocol: http\n  label: out\n{rest}  \
         servers: [{{port: 0}}]\n  dtab: |\n    {dtab}\n"
    ))
}

fn parts<'a>(
    config: &'a Arc<Config>,
    names: &'a Arc<NameTable>,
    previous: Option<&'a Snapshot>,
    routings: &'a Routings,
    stored: &'a Namespaces,
) -> Parts<'a> {
    let admin = std::net::SocketAddr::from(([127, 0, 0, 1], 9990));
    Parts { config, listeners: &[], admin, names, workers: 4, previous, routings, stored, interfaces: &[] }
}

fn snapshot(config: &Arc<Config>, previous: Option<&Snapshot>) -> Snapshot {
    with_stored(config, previous, &Namespaces::default())
}

fn with_stored(config: &Arc<Config>, previous: Option<&Snapshot>, stored: &Namespaces) -> Snapshot {
    let (names, routings) = (Arc::default(), Routings::default());
    let (structure, weights) = assemble(&parts(config, &names, previous, &routings, stored));
    Snapshot { version: previous.map_or(1, |previous| previous.version + 1), structure, weights }
}

const SPLIT: &str = "/svc/x => 3 * /#/clusters/a & 1 * /#/clusters/b ;";

#[track_caller]
fn check_names(dtab: &str, expected: &[&str]) {
    let snapshot = snapshot(&routers(dtab, ""), None);
    let names: Vec<_> = snapshot.structure.splits.iter().map(|split| &*split.name).collect();
    assert_eq!(names, expected);
    assert_eq!(snapshot.weights.weights.len(), expected.len());
}

#[test]
fn a_split_is_called_after_its_prefix_and_numbered_from_the_second() {
    check_names(SPLIT, &["/svc/x"]);
    check_names(&format!("{SPLIT} /svc/y => /#/clusters/a ; {SPLIT}"), &["/svc/x", "/svc/x#2"]);
    let two = "/svc/x => 1 * /#/clusters/a & 1 * /#/clusters/b | 2 * /#/clusters/a & 1 * /#/clusters/b ;";
    check_names(two, &["/svc/x", "/svc/x#2"]);
}

#[test]
fn split_rules_win_over_the_router() {
    let rest = "  onUnhealthy: fail\n  splits: [{path: /svc/x, stickiness: {cookie: who}}]\n";
    let split = snapshot(&routers(SPLIT, rest), None).structure.splits[0].clone();
    assert_eq!((split.sticky, split.on_unhealthy), (Some(StickyKey::Cookie("who".into())), OnUnhealthy::Fail));
}

#[test]
fn other_names_keep_weights_and_another_file_brings_its_own() {
    let config = routers(SPLIT, "");
    let first = snapshot(&config, None);
    let changed =
        SplitWeights { epoch: 7, weights: vec![[Weight::ONE, Weight::ONE].into()], ..SplitWeights::default() };
    let changed = Snapshot { weights: Arc::new(changed), ..first };
    let renamed = snapshot(&config, Some(&changed));
    assert_eq!((renamed.weights.epoch, &*renamed.weights.weights[0]), (7, &[Weight::ONE, Weight::ONE][..]));
    let reloaded = snapshot(&routers(SPLIT, ""), Some(&renamed));
    assert_eq!((reloaded.weights.epoch, shares(&reloaded.weights.weights[0])), (8, vec![0.75, 0.25]));
}

#[test]
fn shares_of_nothing_are_nothing() {
    assert_eq!(shares(&[Weight::ZERO, Weight::ZERO]), [0.0, 0.0]);
}

#[test]
fn a_written_limit_is_whole_and_the_other_is_divided() {
    assert_eq!(requests_max(NonZeroU32::new(10), 8000, 4), 10);
    assert_eq!(requests_max(NonZeroU32::new(1), 8000, 4), 1);
    assert_eq!(requests_max(None, 8000, 4), 2000);
}

#[test]
fn the_admin_address_is_our_own() {
    let config = routers(SPLIT, "");
    assert_eq!(snapshot(&config, None).structure.own, ["127.0.0.1:9990".parse().unwrap()]);
}

/// The namespace `web` with this dtab.
fn web(text: &str) -> Namespaces {
    let mut stored = Namespaces::default();
    let draft = crate::dtabs::text::read(text.as_bytes()).unwrap();
    let effect = stored.plan("web", &crate::dtabs::Change::Put(draft)).unwrap();
    stored.commit("web", &effect);
    stored
}

const STORED: &str = "  interpreter: {kind: default, namespace: web}\n";

fn dtab_of(snapshot: &Snapshot) -> String {
    snapshot.structure.routers[0].table.dtab().to_string()
}

#[test]
fn a_stored_dtab_stands_before_that_of_the_file() {
    let config = with_storage("/svc/x => /#/clusters/a", STORED, "");
    let snapshot = with_stored(&config, None, &web("/svc/x => /#/clusters/b ; /svc/y => 1 * /a & 3 * /b"));
    assert_eq!(dtab_of(&snapshot), "/svc/x=>/#/clusters/b;/svc/y=>/a & 3.00*/b;/svc/x=>/#/clusters/a");
    assert_eq!(
        (&*snapshot.structure.splits[0].name, shares(&snapshot.weights.weights[0])),
        ("/svc/y", vec![0.25, 0.75])
    );
    let part = snapshot.structure.routers[0].stored.clone().unwrap();
    assert_eq!((&*part.namespace, part.len(), part.is_empty()), ("web", 2, false));
}

#[test]
fn a_namespace_that_is_not_there_is_an_empty_dtab() {
    let config = with_storage("/svc/x => /#/clusters/a", STORED, "");
    let snapshot = with_stored(&config, None, &Namespaces::default());
    assert_eq!(dtab_of(&snapshot), "/svc/x=>/#/clusters/a");
    assert!(snapshot.structure.routers[0].stored.clone().unwrap().is_empty());
}

#[test]
fn a_router_without_a_namespace_has_none() {
    let snapshot = with_stored(&routers("/svc/x => /#/clusters/a", ""), None, &web("/svc/x => /#/clusters/b"));
    assert_eq!(dtab_of(&snapshot), "/svc/x=>/#/clusters/a");
    assert!(snapshot.structure.routers[0].stored.is_none());
}

#[test]
fn another_stored_dtab_brings_its_own_weights_and_the_same_keeps_them() {
    let config = with_storage("/svc/x => 1 * /#/clusters/a & 1 * /#/clusters/b", STORED, "");
    let (one, two) = (web("/svc/y => 1 * /a & 1 * /b"), web("/svc/y => 1 * /a & 3 * /b"));
    let first = with_stored(&config, None, &one);
    let set = |weights: &mut SplitWeights| weights.weights[0] = [Weight::ZERO, Weight::ONE].into();
    let mut weights = SplitWeights::clone(&first.weights);
    set(&mut weights);
    let changed = Snapshot { weights: Arc::new(weights), ..first };
    let same = with_stored(&config, Some(&changed), &one);
    assert_eq!(shares(&same.weights.weights[0]), [0.0, 1.0]);
    let other = with_stored(&config, Some(&changed), &two);
    assert_eq!(shares(&other.weights.weights[0]), [0.25, 0.75]);
    assert!(!other.structure.is_of(&same.structure) && same.structure.is_of(&changed.structure));
}

fn with_storage(dtab: &str, rest: &str, more: &str) -> Arc<Config> {
    config(&format!(
        "clusters: {{a: {{endpoints: []}}, b: {{endpoints: []}}}}\nstorage: {{kind: memory}}\n{more}routers:\n- protocol: http\n  \
         label: out\n{rest}  servers: [{{port: 0}}]\n  dtab: |\n    {dtab}\n"
    ))
}

const ROLLOUT: &str =
    "rollouts: [{name: x, router: out, path: /svc/x, primary: /#/clusters/a, canary: /#/clusters/b}]\n";

#[test]
fn a_rollout_stands_behind_the_stored_dtab_and_behind_the_files_dentry_of_its_prefix() {
    let config = with_storage("/svc/x => /old ; /svc/x/y => /longer", STORED, ROLLOUT);
    let snapshot = with_stored(&config, None, &web("/svc/x => /stored ; /svc => /other"));
    let expected =
        "/svc/x=>/stored;/svc=>/other;/svc/x=>/old;/svc/x=>0.00*/#/clusters/b & /#/clusters/a | !;/svc/x/y=>/longer";
    assert_eq!(dtab_of(&snapshot), expected);
    let (split, rollout) = snapshot.structure.rollout("x").expect("its split");
    assert_eq!((&*rollout.name, &*snapshot.structure.splits[split.0 as usize].name), ("x", "/svc/x"));
}

#[test]
fn a_rollout_of_a_prefix_that_only_the_stored_dtab_has_stands_at_the_end() {
    let config = with_storage("/svc => /host", STORED, ROLLOUT);
    let snapshot = with_stored(&config, None, &web("/svc/x => 1 * /p & 1 * /q"));
    let expected = "/svc/x=>/p & /q;/svc=>/host;/svc/x=>0.00*/#/clusters/b & /#/clusters/a | !";
    assert_eq!(dtab_of(&snapshot), expected);
    let (split, _) = snapshot.structure.rollout("x").expect("its split");
    assert_eq!(&*snapshot.structure.splits[split.0 as usize].name, "/svc/x#2");
}
