use std::sync::Arc;
use std::time::Duration;

use serin_config::model::{Credentials, MetricKind, Secret};
use serin_rollout::Reading;

use super::super::tests::peer::{DEADLINE, Peer, Request, answer, answer_with};
use super::super::tests::{start, ticket};
use super::super::{Answered, BODY_OCTETS_MAX, Job};
use super::Query;
use crate::clock;

fn query(kind: MetricKind, address: String) -> Query {
    let query = Query::prometheus(address, "up".into(), Duration::from_secs(60));
    Query { kind, ..query }
}

fn plain(text: &str) -> Secret {
    Secret::Plain(text.into())
}

/// What the provider said, and why.
#[track_caller]
pub(in super::super) fn asked(query: Query) -> (Reading, String) {
    let (outside, answers) = start();
    assert!(outside.submit(Job::Metric { ticket: ticket(2, 0), source: Arc::new(query) }));
    match answers.recv_timeout(DEADLINE).unwrap() {
        Answered::Metric { ticket: of, reading, why, .. } => {
            assert_eq!(of, ticket(2, 0));
            (reading, why)
        }
        other => panic!("{other:?}"),
    }
}

/// What is read from an answer of this kind of provider.
#[track_caller]
fn check(kind: MetricKind, status: u16, body: &str, wanted: Reading, why_has: &str) {
    let peer = Peer::answers(vec![answer(status, body)]);
    let (reading, why) = asked(query(kind, peer.url("")));
    assert_eq!(reading, wanted, "{body}: {why}");
    assert!(why.contains(why_has), "{why}");
    assert_eq!(why.is_empty(), matches!(wanted, Reading::Value(_)), "{why}");
}

#[track_caller]
fn check_request(query: Query) -> Request {
    let body = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
    let peer = Peer::answers(vec![answer(200, body)]);
    asked(Query { address: query.address.replace("PEER", &peer.address.to_string()), ..query });
    peer.requests(1).remove(0)
}

/// The queries of a rollout's metrics; `None`: our own.
fn queries(metrics: &str, templates: &str) -> Vec<Option<Query>> {
    let text = format!(
        "\
metricTemplates: [{templates}]
rollouts:
- {{name: web, router: out, path: /host/web, primary: /#/clusters/v1, canary: /#/clusters/v2, pace: evidence,
   metricsServer: 'http://prom:9090', analysis: {{interval: 90s, metrics: [{metrics}]}}}}
clusters: {{v1: {{endpoints: []}}, v2: {{endpoints: []}}}}
routers: [{{label: out, servers: [{{port: 1}}], dtab: /svc => /host ; /host => /#/clusters}}]
storage: {{kind: memory}}
"
    );
    let source = serin_config::Source::new("t", text.as_str());
    let config = match serin_config::Config::parse(&source) {
        Ok((config, _)) => config,
        Err(mistakes) => panic!("{}", serin_config::diagnostic::render(&mistakes, &source, false)),
    };
    let rollout = &config.rollouts[0];
    assert_eq!(Query::of(&config, rollout, rollout.metrics.len()), None, "there is no such metric");
    assert_eq!(super::super::refusal(&config).is_some(), text.contains("cloudwatch") && !cfg!(feature = "aws"));
    (0..rollout.metrics.len()).map(|at| Query::of(&config, rollout, at).transpose().unwrap()).collect()
}

#[test]
fn query_of_a_metric_is_filled_in() {
    let metrics = "{name: request-success-rate, thresholdRange: {min: 99}}, \
        {name: a, interval: 2m, thresholdRange: {max: 1}, query: '{{ name }} {{ namespace }} {{ target }} {{ service }} \
         {{ ingress }} {{ route }} {{ interval }}'}, \
        {name: b, thresholdRange: {max: 1}, templateRef: {name: t}, templateVariables: {code: 5..}}, \
        {name: c, thresholdRange: {max: 1}, templateRef: {name: cw}}";
    let templates = "{name: t, provider: {type: datadog, insecureSkipVerify: true, headers: {x-a: b}, \
         credentials: {apiKey: {env: A}, applicationKey: {env: B}}}, query: 'x{{ variables.code }}[{{ interval }}]'}, \
        {name: cw, provider: {type: cloudwatch, region: eu-west-1}, query: '[]'}";
    let found = queries(metrics, templates);
    assert_eq!(found[0], None, "our own");
    let wanted = "web out v2 web out out 2m".to_owned();
    assert_eq!(found[1], Some(Query::prometheus("http://prom:9090".into(), wanted, Duration::from_secs(120))));
    let datadog = found[2].as_ref().unwrap();
    assert_eq!((datadog.kind, datadog.query.as_str()), (MetricKind::Datadog, "x5..[90s]"));
    assert_eq!((datadog.address.as_str(), datadog.unchecked_tls), ("https://api.datadoghq.com", true));
    assert_eq!((&datadog.headers, datadog.window), (&vec![("x-a".into(), "b".into())], Duration::from_secs(90)));
    let keys = [Secret::Env("A".into()), Secret::Env("B".into())];
    let [api_key, application_key] = keys;
    assert_eq!(datadog.credentials, Credentials::Datadog { api_key, application_key });
    let cloudwatch = found[3].as_ref().unwrap();
    assert_eq!((cloudwatch.kind, cloudwatch.region.as_deref()), (MetricKind::CloudWatch, Some("eu-west-1")));
}

// ── prometheus ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[track_caller]
fn check_data(result_type: &str, result: &str, wanted: Reading, why_has: &str) {
    let body =
        format!(r#"{{"status":"success","warnings":["w"],"data":{{"resultType":"{result_type}","result":{result}}}}}"#);
    check(MetricKind::Prometheus, 200, &body, wanted, why_has);
}

#[test]
fn prometheus_last_element_of_a_vector_or_the_scalar_is_the_value() {
    let two = r#"[{"metric":{},"value":[1435781451.781,"1"]},{"metric":{"a":"b"},"value":[1435781451.781,"99.5"]}]"#;
    check_data("vector", two, Reading::Value(99.5), "");
    check_data("vector", r#"[{"metric":{},"value":[1,"-2e3"]}]"#, Reading::Value(-2000.0), "");
    check_data("scalar", r#"[1435781451.781,"0"]"#, Reading::Value(0.0), "");
}

#[test]
fn prometheus_nothing_and_what_is_no_number_are_no_values() {
    check_data("vector", "[]", Reading::NoValues, "no values");
    check_data("vector", r#"[{"metric":{},"value":[1,"NaN"]}]"#, Reading::NoValues, "NaN");
    check_data("vector", r#"[{"metric":{},"value":[1,"+Inf"]}]"#, Reading::NoValues, "inf");
    check_data("scalar", r#"[1,"NaN"]"#, Reading::NoValues, "NaN");
}

#[test]
fn prometheus_all_else_is_an_error() {
    let wrong = Reading::ProviderError;
    check_data("matrix", r#"[{"metric":{},"values":[[1,"1"]]}]"#, wrong, "matrix");
    check_data("string", r#"[1,"1"]"#, wrong, "string");
    check_data("vector", r#"[{"metric":{},"values":[[1,"1"]]}]"#, wrong, "number");
    check_data("vector", r#"[{"metric":{},"histogram":[1,{}]}]"#, wrong, "number");
    check_data("vector", r#"{}"#, wrong, "vector");
    check_data("scalar", r#"[1,1]"#, wrong, "number");
    check_data("scalar", r#"[1,"one"]"#, wrong, "number");
    let bad = r#"{"status":"error","errorType":"bad_data","error":"parse error: no"}"#;
    check(MetricKind::Prometheus, 400, bad, wrong, "400: bad_data: parse error: no");
    check(MetricKind::Prometheus, 200, bad, wrong, "bad_data");
    check(MetricKind::Prometheus, 503, "<html>\nbusy", wrong, "503 Service Unavailable: <html> busy");
    check(MetricKind::Prometheus, 200, "<html>", wrong, "no answer of Prometheus");
    check(MetricKind::Prometheus, 200, "", wrong, "no answer of Prometheus");
    check(MetricKind::Prometheus, 200, r#"{"status":"success"}"#, wrong, "success");
    check(MetricKind::Prometheus, 200, &"[".repeat(1000), wrong, "no answer");
    check(MetricKind::Prometheus, 302, "", wrong, "redirects are not followed");
}

#[test]
fn prometheus_is_asked_by_the_documented_request() {
    let mut query = query(MetricKind::Prometheus, "http://PEER/prefix/".into());
    query.query = "sum(\n  rate(x{a=\"b+c&d é\"}[1m])\n)".into();
    let request = check_request(query.clone());
    let encoded = "sum(%20rate(x%7Ba%3D%22b%2Bc%26d%20%C3%A9%22%7D%5B1m%5D)%20)";
    let shown = request.line.replace("%28", "(").replace("%29", ")");
    assert_eq!(shown, format!("GET /prefix/api/v1/query?query={encoded} HTTP/1.1"));
    assert_eq!(request.field("authorization"), None);

    query.headers = vec![("X-Scope-OrgID".into(), "tenant-1".into())];
    query.credentials = Credentials::Bearer(plain("t0k3n"));
    let request = check_request(query.clone());
    assert_eq!(request.field("x-scope-orgid"), Some("tenant-1"));
    assert_eq!(request.field("authorization"), Some("Bearer t0k3n"));

    query.credentials = Credentials::Basic { username: plain("Aladdin"), password: plain("open sesame") };
    let request = check_request(query);
    assert_eq!(request.field("authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")); // RFC 7617 section 2
}

#[test]
fn missing_or_broken_credentials_ask_nobody_and_are_not_shown() {
    let peer = Peer::answers(vec![answer(200, "")]);
    for (credentials, why_has) in [
        (Credentials::Bearer(Secret::Env("SERIN_NO_SUCH_TOKEN".into())), "SERIN_NO_SUCH_TOKEN"),
        (Credentials::Bearer(plain("hunter\n2")), "header"),
    ] {
        let (reading, why) = asked(Query { credentials, ..query(MetricKind::Prometheus, peer.url("")) });
        assert_eq!(reading, Reading::ProviderError);
        assert!(why.contains(why_has) && !why.contains("hunter"), "{why}");
    }
    assert_eq!(peer.count(), 0);
}

#[test]
fn answer_is_read_to_its_bound_and_not_beyond() {
    let body = |length: usize| {
        let head = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
        format!("{head}{}", " ".repeat(length - head.len()))
    };
    check(MetricKind::Prometheus, 200, &body(BODY_OCTETS_MAX), Reading::Value(1.0), "");
    check(MetricKind::Prometheus, 200, &body(BODY_OCTETS_MAX + 1), Reading::ProviderError, "longer than 65536");
    let endless = Peer::start(|_, _, out| {
        let _ = out.write_all(b"HTTP/1.1 200 X\r\n\r\n");
        while out.write_all(&[b' '; 4096]).is_ok() {}
    });
    let (reading, why) = asked(query(MetricKind::Prometheus, endless.url("")));
    assert_eq!((reading, why.contains("longer")), (Reading::ProviderError, true), "{why}");
}

#[test]
fn packed_answer_is_not_unpacked() {
    // A few octets that would become gigabytes: they are no JSON as they stand.
    let peer = Peer::start(|_, _, out| {
        let _ = out.write_all(b"HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n\x1f\x8b\x08\x00");
    });
    let (reading, why) = asked(query(MetricKind::Prometheus, peer.url("")));
    assert_eq!((reading, why.contains("no answer of Prometheus")), (Reading::ProviderError, true), "{why}");
}

// ── datadog ───────────────────────────────────────────────────────────────────────────────────────────────────────────

fn series(points: &[(i64, &str)], interval: u64) -> String {
    let now = i64::try_from(clock::unix_ms()).unwrap();
    let points: Vec<String> = points.iter().map(|(ago_s, v)| format!("[{}.0,{v}]", now - ago_s * 1000)).collect();
    format!(
        r#"{{"status":"ok","from_date":1,"to_date":2,"series":[{{"metric":"m","interval":{interval},"pointlist":[{}]}}]}}"#,
        points.join(",")
    )
}

#[test]
fn datadog_newest_complete_point_is_the_value() {
    let check = |body: &str, wanted, why_has| check(MetricKind::Datadog, 200, body, wanted, why_has);
    // Buckets of 20 s: those that began less than 40 s ago may still grow.
    let all = [(600, "1"), (90, "2.5"), (60, "7"), (30, "99"), (5, "100")];
    check(&series(&all, 20), Reading::Value(7.0), "");
    check(&series(&[(600, "1"), (90, "2.5"), (60, "null")], 20), Reading::Value(2.5), "");
    check(&series(&[(30, "99")], 20), Reading::NoValues, "no values");
    check(&series(&[(30, "99")], 0), Reading::Value(99.0), "");
    check(&series(&[], 20), Reading::NoValues, "no values");
    check(r#"{"status":"ok","series":[]}"#, Reading::NoValues, "no values");
    check(r#"{"status":"error","error":"bad query"}"#, Reading::ProviderError, "bad query");
    check(r#"{"status":"ok","error":"","series":[{}]}"#, Reading::NoValues, "no values");
    check(r#"{"errors":["Forbidden"]}"#, Reading::ProviderError, "status");
}

#[test]
fn datadog_is_asked_by_the_documented_request() {
    let mut query = query(MetricKind::Datadog, "http://PEER".into());
    query.query = "avg:a.b{c:d}".into();
    query.credentials = Credentials::Datadog { api_key: plain("k1"), application_key: plain("k2") };
    let before = clock::unix_ms() / 1000;
    let request = check_request(query);
    let after = clock::unix_ms() / 1000;
    assert_eq!((request.field("dd-api-key"), request.field("dd-application-key")), (Some("k1"), Some("k2")));
    let (start, to) = request.line.strip_suffix(" HTTP/1.1").unwrap().rsplit_once("&to=").unwrap();
    let (start, from) = start.rsplit_once("&from=").unwrap();
    assert_eq!(start, "GET /api/v1/query?query=avg%3Aa.b%7Bc%3Ad%7D");
    let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
    assert!((before..=after).contains(&to) && to - from == 600, "ten windows of a minute: {from} {to}");
}

#[test]
fn provider_that_is_asked_too_often_is_left_alone() {
    for field in ["Retry-After: 100\r\n", "X-RateLimit-Reset: 100\r\n", ""] {
        let peer = Peer::answers(vec![answer_with(429, field, "slow down")]);
        let (outside, answers) = start();
        let source = Arc::new(query(MetricKind::Datadog, peer.url("")));
        let ask = |round| {
            assert!(outside.submit(Job::Metric { ticket: ticket(round, 0), source: Arc::clone(&source) }));
            match answers.recv_timeout(DEADLINE).unwrap() {
                Answered::Metric { reading: Reading::ProviderError, why, .. } => why,
                other => panic!("{other:?}"),
            }
        };
        assert!(ask(1).starts_with("429 Too Many Requests: slow down"));
        let why = ask(2);
        let wanted = if field.is_empty() { "for 1 s" } else { "for 100 s" };
        assert!(why.starts_with("asked too often") && why.contains(wanted), "{why}");
        assert_eq!(peer.count(), 1);
    }
}
