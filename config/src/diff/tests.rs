use super::*;
use crate::source::Source;

const BEFORE: &str = "
clusters: {a: {endpoints: []}, b: {endpoints: []}}
routers:
- label: one
  servers: [{port: 1}]
  dtab: /x => /y ; /z => /w ; /x => /y
- label: two
  servers: [{port: 2}]
";

fn config(text: &str) -> Config {
    Config::parse(&Source::new("t", text)).unwrap().0
}

fn check_diff(before: &str, after: &str, expected: &[&str]) {
    let changes = diff(&config(before), &config(after));
    let printed: Vec<String> = changes.list.iter().map(ToString::to_string).collect();
    assert_eq!(printed, expected);
    assert_eq!(changes.omitted, 0);
}

#[test]
fn equal_meaning_is_no_change() {
    check_diff(BEFORE, &format!("# a comment\n{BEFORE}"), &[]);
}

#[test]
fn clusters_are_told_apart_by_name() {
    let after = BEFORE
        .replace("a: {endpoints: []}", "c: {endpoints: []}")
        .replace("b: {endpoints: []}", "b: {endpoints: [\"h:1\"]}");
    check_diff(BEFORE, &after, &["added clusters c", "changed clusters b", "removed clusters a"]);
}

#[test]
fn dentries_are_counted_and_a_mere_order_is_one_change() {
    let swapped = BEFORE.replace("/x => /y ; /z => /w ; /x => /y", "/x => /y ; /x => /y ; /z => /w");
    check_diff(BEFORE, &swapped, &["changed routers.one.dtab (order of dentries)"]);
    let fewer = BEFORE.replace("/x => /y ; /z => /w ; /x => /y", "/x => /y ; /z => /v");
    let expected =
        ["added routers.one.dtab /z=>/v", "removed routers.one.dtab /x=>/y", "removed routers.one.dtab /z=>/w"];
    check_diff(BEFORE, &fewer, &expected);
}

#[test]
fn routers_and_servers_are_told_apart_by_label_and_address() {
    let after =
        BEFORE.replace("label: two", "label: three").replace("{port: 1}", "{port: 3}, {port: 1, exposure: mesh}");
    let expected = [
        "added routers.one.servers 127.0.0.1:3",
        "changed routers.one.servers 127.0.0.1:1",
        "added routers.three",
        "removed routers.two",
    ];
    check_diff(BEFORE, &after, &expected);
}

#[test]
fn everything_else_is_named_by_its_key() {
    let after = BEFORE.replace(
        "- label: one",
        "- label: one\n  dstPrefix: /a\n  failover: names\n  onUnhealthy: fail\n  bindingTimeoutMs: 5\n  client: {protocol: h2}\n  service: {totalTimeoutMs: 1}\n  identifier: {kind: io.l5d.header.token, header: x}\n  overrides: [{when: {method: GET}, dtab: /q => /r}]",
    );
    let after =
        format!("{after}\nadmin: {{port: 7}}\nworkers: 2\negress: {{allow: [10.0.0.0/8]}}\ndrain: {{delayMs: 1}}\n");
    let expected = [
        "changed admin",
        "changed workers",
        "changed routers.one.dstPrefix",
        "changed routers.one.identifier",
        "changed routers.one.overrides",
        "changed routers.one.failover",
        "changed routers.one.onUnhealthy",
        "changed routers.one.client",
        "changed routers.one.service",
        "changed routers.one.binding",
        "changed egress",
        "changed drain",
    ];
    check_diff(BEFORE, &after, &expected);
}

const ROLLOUTS: &str = "
clusters: {a: {endpoints: []}, b: {endpoints: []}}
routers: [{label: one, servers: [{port: 1}], dtab: /svc => /#/clusters}]
metricTemplates:
- {name: first, provider: {type: prometheus, address: 'http://p'}, query: up}
- {name: errors, provider: {type: prometheus, address: 'http://p'}, query: up}
alertProviders: [{name: team, type: slack, address: {env: U}}]
storage: {kind: memory}
rollouts:
- name: web
  router: one
  path: /svc/web
  primary: /#/clusters/a
  canary: /#/clusters/b
  pace: evidence
  analysis: {interval: 10s, metrics: [{name: m, templateRef: {name: errors}, thresholdRange: {max: 1}}]}
";

#[test]
fn rollouts_are_told_apart_by_name_and_key() {
    let changes = [
        ("name: web", "name: new", vec!["added rollouts.new", "removed rollouts.web"]),
        ("canary: /#/clusters/b", "canary: /#/clusters/b\n  revision: x", vec!["changed rollouts.web.revision"]),
        ("10s", "20s", vec!["changed rollouts.web.analysis"]),
        ("pace: evidence", "pace: evidence\n  suspend: true", vec!["changed rollouts.web.suspend"]),
        ("kind: memory", "kind: file, dir: x", vec!["changed storage"]),
        ("env: U", "env: V", vec!["changed alertProviders team"]),
        (
            "name: first, provider: {type: prometheus, address: 'http://p'}, query: up",
            "name: first, provider: {type: \
          prometheus, address: 'http://q'}, query: up",
            vec!["changed metricTemplates first"],
        ),
    ];
    for (old, new, expected) in changes {
        check_diff(ROLLOUTS, &ROLLOUTS.replace(old, new), &expected);
    }
}

#[test]
fn a_template_that_moves_in_its_list_changes_no_rollout() {
    let first = "- {name: first, provider: {type: prometheus, address: 'http://p'}, query: up}\n";
    check_diff(ROLLOUTS, &ROLLOUTS.replace(first, ""), &["removed metricTemplates first"]);
    let other = ROLLOUTS.replace("{name: errors}", "{name: first}");
    check_diff(ROLLOUTS, &other, &["changed rollouts.web.analysis"]);
}

#[test]
fn the_list_of_changes_ends_at_its_limit() {
    let clusters = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("n{n}: {{endpoints: []}}")).collect();
        config(&BEFORE.replace("clusters: {", &format!("clusters: {{{}, ", names.join(", "))))
    };
    let at = diff(&config(BEFORE), &clusters(CHANGES_MAX));
    assert_eq!((at.list.len(), at.omitted), (CHANGES_MAX, 0));
    let beyond = diff(&config(BEFORE), &clusters(CHANGES_MAX + 1));
    assert_eq!((beyond.list.len(), beyond.omitted), (CHANGES_MAX, 1));
}
