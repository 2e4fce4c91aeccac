use super::*;
use crate::diagnostic::render;

const FULL: &str = r#"
apiVersion: flagger.app/v1beta1
kind: Canary
metadata:
  name: podinfo
  namespace: test
  labels: {app: podinfo}
spec:
  provider: istio
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  progressDeadlineSeconds: 60
  autoscalerRef: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, name: podinfo}
  service:
    port: 9898
    timeout: 15s
  analysis:
    interval: 1m30s
    threshold: 5
    maxWeight: 50
    stepWeight: 20
    metrics:
    - name: request-success-rate
      thresholdRange: {min: 99}
      interval: 1m
    - name: request-duration
      threshold: 500
    - name: "not found"
      templateRef: {name: not-found, namespace: istio-system}
      templateVariables: {direction: inbound}
      thresholdRange: {max: 5}
    webhooks:
    - name: load-test
      url: http://flagger-loadtester.test/
      timeout: 5s
      metadata:
        cmd: "hey -z 1m -q 10 -c 2 http://podinfo-canary.test:9898/"
    alerts:
    - name: on-call
      providerRef: {name: slack}
---
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: not-found, namespace: istio-system}
spec:
  provider:
    type: prometheus
    address: http://prometheus.istio-system:9090
    secretRef: {name: prom}
  query: |
    100 - sum(
        rate(istio_requests_total{destination_workload_namespace="{{ namespace }}", destination_workload="{{target}}"}[{{ interval }}])
    )
---
# a comment alone is no document
---
apiVersion: flagger.app/v1beta1
kind: AlertProvider
metadata: {name: slack, namespace: flagger}
spec: {type: slack, channel: on-call, secretRef: {name: slack-url}}
status: null
"#;

fn import_text(text: &str) -> (Imported, Source) {
    let source = Source::new("canary.yaml", text);
    let imported = import(std::slice::from_ref(&source), &Wishes::default());
    (imported, source)
}

fn canary(analysis: &str) -> String {
    format!(
        "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {{name: web}}\nspec:\n  targetRef: {{name: web}}\n  \
         analysis: {analysis}\n"
    )
}

/// Says this, at this line and column, and nothing else that is an error.
#[track_caller]
fn check_lost(text: &str, place: &str, message: &str) {
    let (imported, source) = import_text(text);
    assert!(!imported.is_whole(), "{}", imported.text);
    let shown = render(&imported.findings[0], &source, false);
    let errors = imported.findings[0].iter().filter(|one| one.severity == Severity::Error);
    let found: Vec<_> = errors.map(|one| one.position(&source).to_string()).collect();
    assert_eq!(found, [place], "{shown}");
    assert!(shown.contains(message), "{message} in {shown}");
}

/// Is carried over, with these lines in it, and these warnings.
#[track_caller]
fn check_whole(text: &str, lines: &[&str], warnings: &[&str]) {
    let (imported, source) = import_text(text);
    let shown = render(&imported.findings[0], &source, false);
    assert!(imported.is_whole(), "{shown}\n{}", imported.text);
    for line in lines {
        assert!(imported.text.lines().any(|found| found.trim() == *line), "{line} in\n{}", imported.text);
    }
    assert_eq!(imported.findings[0].len(), warnings.len(), "{shown}");
    for warning in warnings {
        assert!(shown.contains(warning), "{warning} in {shown}");
    }
}

#[test]
fn a_canary_with_all_that_belongs_to_it_becomes_this() {
    let (imported, source) = import_text(FULL);
    let expected = "\
# From the Canary podinfo.test of Flagger. The dtab of the router `outgoing` must lead to its names, for example:
#   clusters:
#     podinfo-primary: {endpoints: [\"podinfo-primary.test.svc:9898\"]}
#     podinfo-canary: {endpoints: [\"podinfo-canary.test.svc:9898\"]}
#   dtab: |
#     /srv => /#/clusters ;
#     /host/podinfo => /srv/podinfo-primary ;
#     /svc => /host ;
# and `storage: {kind: file, dir: state}` keeps what was decided. `/srv/podinfo-canary` is the new version.

rollouts:
- name: podinfo
  router: outgoing
  path: /host/podinfo
  primary: /srv/podinfo-primary
  canary: /srv/podinfo-canary
  # Flagger's clock and counters, with Serin's guard beside them; `evidence` waits for proof in place of the clock
  pace: interval
  progressDeadlineSeconds: 60
  analysis:
    interval: 90s
    threshold: 5
    # stepWeight 20, maxWeight 50: the last step ends at the maximum, Flagger's passes it
    stepWeights: [20, 40, 50]
    metrics:
    - name: request-success-rate
      interval: 1m
      thresholdRange: {min: 99}
    - name: request-duration
      # from the old `threshold`
      thresholdRange: {max: 500}
    - name: \"not found\"
      templateRef: {name: not-found}
      templateVariables: {direction: inbound}
      thresholdRange: {max: 5}
    webhooks:
    - name: load-test
      url: \"http://flagger-loadtester.test/\"
      timeout: 5s
      metadata:
        cmd: \"hey -z 1m -q 10 -c 2 http://podinfo-canary.test:9898/\"
    alerts:
    - name: on-call
      # as documented; Flagger itself sends nothing without one
      severity: info
      providerRef: {name: slack}

metricTemplates:
- name: not-found
  provider:
    type: prometheus
    address: \"http://prometheus.istio-system:9090\"
    # set NOT_FOUND_TOKEN to the token of the secret; for a user write `username` and `password` instead
    credentials:
      bearer: {env: NOT_FOUND_TOKEN}
  # with the names of Kubernetes filled in
  query: |
    100 - sum(
        rate(istio_requests_total{destination_workload_namespace=\"test\", destination_workload=\"podinfo\"}[{{ interval }}])
    )

alertProviders:
- name: slack
  type: slack
  # set SLACK_ADDRESS to the address of the secret; a token goes to `token: {env: …}`
  address: {env: SLACK_ADDRESS}
  channel: on-call
";
    assert_eq!(imported.text, expected);
    let shown = render(&imported.findings[0], &source, false);
    assert!(imported.is_whole(), "{shown}");
    for place in ["canary.yaml:12:3", "canary.yaml:15:5", "canary.yaml:48:5", "canary.yaml:59:39"] {
        assert!(shown.contains(&format!("{place}\n")), "{place} in {shown}");
    }
}

#[test]
fn strategies_keep_their_meaning() {
    check_whole(
        &canary("{interval: 5s, threshold: 0, stepWeights: [1, 5, 200]}"),
        &["interval: 10s", "threshold: 1", "stepWeights: [1, 5, 100]"],
        &[],
    );
    check_whole(&canary("{threshold: 5, stepWeight: 60, maxWeight: 50}"), &["interval: 60s", "stepWeights: [50]"], &[]);
    check_whole(&canary("{interval: 1m, threshold: 5, iterations: 10}"), &["iterations: 10"], &[]);
    let ab = "{interval: 1m, threshold: 5, iterations: 10, match: [{headers: {x-canary: {exact: insider}}}, {headers: {cookie: {regex: '^(.*?;)?(canary=always)(;.*)?$'}}}]}";
    check_whole(&canary(ab), &["match:", "- headers:", "x-canary: {exact: insider}"], &[]);
    let mirror = "{interval: 1m, threshold: 5, iterations: 10, mirror: true, mirrorWeight: 100}";
    check_whole(&canary(mirror), &["mirror: true", "mirrorWeight: 100"], &[]);
    let sticky = "{interval: 1m, threshold: 5, stepWeight: 10, sessionAffinity: {cookieName: c, primaryCookieName: p, maxAge: 60}}";
    check_whole(
        &canary(sticky),
        &["sessionAffinity: {cookieName: c, maxAge: 60}"],
        &["`primaryCookieName` is not needed"],
    );
}

#[test]
fn what_would_hang_in_flagger_is_lost() {
    check_lost(&canary("{interval: 1m, threshold: 5, stepWeights: [10, 5]}"), "6:42", "these steps do not rise");
    check_lost(&canary("{interval: 1m, threshold: 5, stepWeight: 0}"), "6:42", "not from 1 to 100");
    check_lost(&canary("{interval: 1m, threshold: 5}"), "6:3", "neither `stepWeight`, `stepWeights` nor `iterations`");
    check_lost(&canary("{threshold: 5, stepWeight: 10, iterations: 2}"), "6:3", "steps and `iterations`");
    let metric = "{threshold: 5, stepWeight: 10, metrics: [{name: mine}]}";
    let (imported, source) = import_text(&canary(metric));
    assert!(render(&imported.findings[0], &source, false).contains("`mine` is no built-in metric"));
}

#[test]
fn what_decides_about_verdict_or_traffic_is_an_error_at_its_place() {
    let template =
        "{threshold: 5, stepWeight: 10, metrics: [{name: x, templateRef: {name: t}, thresholdRange: {max: 1}}]}";
    check_lost(&canary(template), "6:77", "the MetricTemplate `t` is not among the files");
    let labels = "{threshold: 5, iterations: 2, match: [{sourceLabels: {app: x}, headers: {a: {exact: b}}}]}";
    check_lost(&canary(labels), "6:52", "the labels of its sender");
    let inside = "{threshold: 5, stepWeight: 10, match: [{headers: {a: {exact: b}}}]}";
    check_lost(&canary(inside), "6:44", "weights inside of a rule");
    let hook = "{threshold: 5, stepWeight: 10, webhooks: [{name: a, url: \"http://a/\", type: soon}]}";
    check_lost(&canary(hook), "6:89", "no webhook of type `soon`");
    check_lost(&canary("{threshold: 5, stepWeight: 10, stepWeigth: 5}"), "6:44", "unknown key `stepWeigth`");
    let rewrite = canary("{threshold: 5, stepWeight: 10}")
        .replace("  analysis", "  service: {port: 80, rewrite: {uri: /}}\n  analysis");
    check_lost(&rewrite, "6:23", "`service.rewrite` cannot be carried over");
    let tls = rewrite.replace("rewrite: {uri: /}", "appProtocol: https");
    check_lost(&tls, "6:23", "Serin speaks no TLS");
    let grpc = rewrite.replace("rewrite: {uri: /}", "appProtocol: grpc");
    check_whole(&grpc, &[], &["`service.appProtocol` is left out"]);
    let kind = FULL.replace("type: prometheus", "type: graphite");
    check_lost(&kind, "46:11", "a provider of type `graphite` is not built");
}

#[test]
fn a_rule_of_which_nothing_can_be_carried_over_is_left_out() {
    let rules = "{threshold: 5, iterations: 2, match: [{headers: {a: {exact: b}}}, {sourceLabels: {app: x}}]}";
    check_lost(&canary(rules), "6:80", "the labels of its sender");
    let (imported, _) = import_text(&canary(rules));
    assert!(imported.text.contains("a: {exact: b}"), "{}", imported.text);
    assert!(!imported.text.contains("- {}"), "{}", imported.text);
}

#[test]
fn metrics_without_limits_say_what_flagger_made_of_them() {
    let none = "{threshold: 5, stepWeight: 10, metrics: [{name: request-success-rate}, {name: request-duration}]}";
    check_whole(&canary(none), &["thresholdRange: {max: 0}"], &["passes always", "fails at any value above 0"]);
    let old = "{threshold: 5, stepWeight: 10, metrics: [{name: request-success-rate, threshold: 99}]}";
    check_whole(&canary(old), &["thresholdRange: {min: 99}"], &[]);
}

#[test]
fn a_query_of_its_own_asks_the_server() {
    let query = "{threshold: 5, stepWeight: 10, metrics: [{name: q, query: 'up{ns=\"{{ namespace }}\"}', thresholdRange: {min: 1}}]}";
    let lines = ["metricsServer: \"http://prometheus:9090\"", "query: \"up{ns=\\\"default\\\"}\""];
    check_whole(&canary(query), &lines, &["whom that asks"]);
    let asked = canary(query).replace("spec:\n", "spec:\n  metricsServer: http://mine:9090\n");
    check_whole(&asked, &["metricsServer: \"http://mine:9090\""], &[]);
    let idle =
        canary("{threshold: 5, stepWeight: 10}").replace("spec:\n", "spec:\n  metricsServer: http://mine:9090\n");
    check_whole(&idle, &[], &["`metricsServer` is not needed"]);
}

#[test]
fn files_without_a_canary_or_with_other_things_are_told() {
    check_lost("", "1:1", "nothing in it");
    check_lost("a: b", "1:1", "no `kind`");
    check_lost("---\nkind: [", "2:7", "not YAML");
    let other = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: x}}\n---\n{}",
        canary("{threshold: 5, stepWeight: 10}")
    );
    check_whole(&other, &["- name: web"], &["a `Service` of `v1` is nothing of Flagger's"]);
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}",
        canary("{threshold: 5, stepWeight: 10}").trim_end().replace('\n', "\n  ")
    );
    check_whole(&list, &["- name: web"], &[]);
}

#[test]
fn wishes_win_and_illegal_ones_are_found() {
    let source = Source::new("c", canary("{threshold: 5, stepWeight: 10}"));
    let wishes = Wishes {
        router: "edge".into(),
        path: Some("/host/x".into()),
        primary: Some("/#/clusters/a".into()),
        canary: Some("/#/clusters/b".into()),
    };
    let imported = import(std::slice::from_ref(&source), &wishes);
    for line in ["router: edge", "path: /host/x", "primary: \"/#/clusters/a\"", "canary: \"/#/clusters/b\""] {
        assert!(imported.text.contains(line), "{line} in {}", imported.text);
    }
    let wrong = Wishes { path: Some("host".into()), ..Wishes::default() };
    let imported = import(std::slice::from_ref(&source), &wrong);
    assert!(imported.findings[0].iter().any(|one| one.message.contains("no legal configuration")), "{imported:?}");
}

#[test]
fn texts_of_users_come_back_as_they_were() {
    let texts = [
        "a: b",
        "- x",
        "#",
        "it's \"quoted\" \\",
        "ends\n",
        "two\nlines",
        " lead\nx",
        "tab\there",
        "é\u{1}",
        "80",
        "[x]",
        "{{ a }}",
        "*a",
    ];
    for text in texts {
        let written =
            out::text(&[Pair::new("key", Out::word(text)), Pair::new(text, Out::List(vec![Out::word(text)]))]);
        let source = Source::new("t", written.as_str());
        let mut sink = Sink::default();
        let tree = crate::yaml::read(&source, &mut sink).unwrap_or_else(|| panic!("{written}"));
        assert_eq!(documents::text(&tree, "key").as_deref(), Some(text), "{written}");
        assert!(documents::get(&tree, text).is_some(), "{written}");
    }
}

#[test]
fn times_are_read_as_go_reads_them() {
    let read = |text| analysis::time_ms(text).map(analysis::seconds);
    let expected = [Some("90s"), Some("30m"), Some("1500ms"), Some("1m"), None, None, None, None];
    let found = ["1m30s", "0.5h", "1.5s", "60s", "10", "", "-1s", "1x"].map(read);
    assert_eq!(found.each_ref().map(Option::as_deref), expected);
}

#[test]
fn documents_fill_the_cap() {
    let many = "---\na: 1\n".repeat(documents::DOCUMENTS_MAX + 1);
    assert_eq!(documents::split(&Source::new("t", many)).len(), documents::DOCUMENTS_MAX);
    let inside = "a: |\n  text\n--- # new\nb: 2\n...\nc: ---\n";
    assert_eq!(documents::split(&Source::new("t", inside)).len(), 3);
}
