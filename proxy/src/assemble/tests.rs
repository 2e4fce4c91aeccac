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
) -> Parts<'a> {
    let admin = std::net::SocketAddr::from(([127, 0, 0, 1], 9990));
    Parts { config, listeners: &[], admin, names, workers: 4, previous, routings }
}

fn snapshot(config: &Arc<Config>, previous: Option<&Snapshot>) -> Snapshot {
    let (names, routings) = (Arc::default(), Routings::default());
    let (structure, weights) = assemble(&parts(config, &names, previous, &routings));
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
    assert_eq!(requests_max(NonZeroU32::new(10), 4), 10);
    assert_eq!(requests_max(NonZeroU32::new(1), 4), 1);
    assert_eq!(requests_max(None, 4), REQUESTS_MAX / 4);
}

#[test]
fn the_admin_address_is_our_own() {
    let config = routers(SPLIT, "");
    assert_eq!(snapshot(&config, None).structure.own, ["127.0.0.1:9990".parse().unwrap()]);
}
