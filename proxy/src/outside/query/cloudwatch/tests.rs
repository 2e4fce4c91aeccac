use std::time::Duration;

use serin_config::model::{Credentials, MetricKind};
use serin_rollout::Reading;

use super::super::super::aws::tests::{check_signed, run, with_keys};
use super::super::super::http::Clients;
use super::super::super::tests::peer::{Peer, answer};
use super::*;

const QUERY: &str = r#"[
    {"Id": "e1", "Expression": "m1 / m2", "Label": "ErrorRate"},
    {"Id": "m1", "ReturnData": false, "MetricStat": {
        "Metric": {"Namespace": "My/App", "MetricName": "Errors", "Dimensions": [{"Name": "app", "Value": "a b&c"}]},
        "Period": 300, "Stat": "Sum", "Unit": "Count"}}
]"#;
/// 2015-08-30T12:38:20Z
const NOW_MS: u64 = 1_440_938_300_999;

fn query(address: String) -> Query {
    Query {
        kind: MetricKind::CloudWatch,
        region: Some("eu-west-1".into()),
        credentials: Credentials::SigV4,
        ..Query::prometheus(address, QUERY.into(), Duration::from_secs(60))
    }
}

fn asked(query: &Query) -> (Reading, String) {
    run(query.ask(&Clients::new(), &with_keys(), NOW_MS))
}

fn xml(results: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<GetMetricDataResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\">\n  \
         <GetMetricDataResult>\n    {results}\n    <Messages/>\n  </GetMetricDataResult>\n  \
         <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\n</GetMetricDataResponse>\n"
    )
}

fn result(status: &str, values: &str) -> String {
    format!(
        "<member><Id>e1</Id><Label>ErrorRate</Label><StatusCode>{status}</StatusCode>\
         <Timestamps><member>2015-08-30T12:30:00Z</member></Timestamps>{values}</member>"
    )
}

#[track_caller]
fn check(status: u16, body: &str, wanted: Reading, why_has: &str) {
    let peer = Peer::answers(vec![answer(status, body)]);
    let (reading, why) = asked(&query(peer.url("/")));
    assert_eq!(reading, wanted, "{why}");
    assert!(why.contains(why_has), "{why}");
}

#[test]
fn request_is_the_documented_one_and_signed() {
    let peer = Peer::answers(vec![answer(200, &xml("<MetricDataResults/>"))]);
    asked(&query(peer.url("/")));
    let request = peer.requests(1).remove(0);
    assert_eq!(request.line, "POST / HTTP/1.1");
    assert_eq!(request.field("content-type"), Some("application/x-www-form-urlencoded; charset=utf-8"));
    let pairs: Vec<&str> = request.body.split('&').collect();
    let wanted = [
        "Action=GetMetricData",
        "Version=2010-08-01",
        "StartTime=2015-08-30T12%3A25%3A00Z",
        "EndTime=2015-08-30T12%3A35%3A00Z",
        "ScanBy=TimestampDescending",
        "MaxDatapoints=20",
        "MetricDataQueries.member.1.Expression=m1+%2F+m2",
        "MetricDataQueries.member.1.Id=e1",
        "MetricDataQueries.member.1.Label=ErrorRate",
        "MetricDataQueries.member.2.Id=m1",
        "MetricDataQueries.member.2.MetricStat.Metric.Dimensions.member.1.Name=app",
        "MetricDataQueries.member.2.MetricStat.Metric.Dimensions.member.1.Value=a+b%26c",
        "MetricDataQueries.member.2.MetricStat.Metric.MetricName=Errors",
        "MetricDataQueries.member.2.MetricStat.Metric.Namespace=My%2FApp",
        "MetricDataQueries.member.2.MetricStat.Period=300",
        "MetricDataQueries.member.2.MetricStat.Stat=Sum",
        "MetricDataQueries.member.2.MetricStat.Unit=Count",
        "MetricDataQueries.member.2.ReturnData=false",
    ];
    assert_eq!(pairs, wanted);
    let field = |name: &str| request.field(name).map(str::to_owned);
    check_signed(field, ["POST", "/", ""], &request.body, ["eu-west-1", "monitoring"]);
}

#[test]
fn address_is_that_of_the_region() {
    for (region, wanted) in [
        ("eu-west-1", "https://monitoring.eu-west-1.amazonaws.com/"),
        ("cn-north-1", "https://monitoring.cn-north-1.amazonaws.com.cn/"),
    ] {
        let query = Query { region: Some(region.into()), ..query(String::new()) };
        assert_eq!(call(&query, NOW_MS).unwrap().url.as_str(), wanted);
    }
    let query = Query { region: None, ..query(String::new()) };
    assert!(call(&query, NOW_MS).unwrap_err().0.contains("region"));
}

#[test]
fn newest_value_of_the_first_result_is_the_value() {
    let two = format!(
        "<MetricDataResults>{}{}</MetricDataResults>",
        result("Complete", "<Values><member>1.5</member><member>9</member></Values>"),
        result("Complete", "<Values><member>7</member></Values>"),
    );
    check(200, &xml(&two), Reading::Value(1.5), "");
    let partial = result("PartialData", "<Values><member>2.0E-4</member></Values>");
    check(200, &xml(&format!("<MetricDataResults>{partial}</MetricDataResults>")), Reading::Value(2e-4), "");
}

#[test]
fn nothing_measured_is_no_value() {
    for values in ["<Values/>", "<Values></Values>", ""] {
        let none = format!("<MetricDataResults>{}</MetricDataResults>", result("Complete", values));
        check(200, &xml(&none), Reading::NoValues, "no values");
    }
    check(200, &xml("<MetricDataResults/>"), Reading::NoValues, "no values");
}

#[test]
fn all_else_is_an_error() {
    let wrong = Reading::ProviderError;
    let failed = format!("<MetricDataResults>{}</MetricDataResults>", result("InternalError", "<Values/>"));
    check(200, &xml(&failed), wrong, "InternalError");
    let odd = result("Complete", "<Values><member>one</member></Values>");
    check(200, &xml(&format!("<MetricDataResults>{odd}</MetricDataResults>")), wrong, "no number");
    let denied = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error>\
                  <RequestId>1</RequestId></ErrorResponse>";
    check(403, denied, wrong, "403: AccessDenied: not you");
    check(500, "busy", wrong, "500 Internal Server Error: busy");
    check(200, "{}", wrong, "no answer of CloudWatch");
    check(200, "", wrong, "no answer of CloudWatch");
    check(200, &"<a>".repeat(20_000), wrong, "no answer of CloudWatch");
    check(200, &" ".repeat(BODY_OCTETS_MAX + 1), wrong, "longer");
}

#[test]
fn query_that_is_not_understood_asks_nobody() {
    let peer = Peer::answers(vec![answer(200, "")]);
    for (text, why_has) in [
        ("up", "no array"),
        ("{}", "no array"),
        (r#"[{"Expression": "1"}]"#, "Id"),
        (r#"[{"Id": "a", "Expresion": "1"}]"#, "Expresion"),
        (r#"[{"Id": "a", "MetricStat": {"Metric": {}, "Period": 60}}]"#, "Stat"),
    ] {
        let (reading, why) = asked(&Query { query: text.into(), ..query(peer.url("/")) });
        assert_eq!(reading, Reading::ProviderError);
        assert!(why.starts_with("the query is no array of MetricDataQuery: ") && why.contains(why_has), "{why}");
    }
    assert_eq!(peer.count(), 0);
}

#[test]
fn prometheus_of_amazon_is_signed_for_its_service() {
    let body = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}"#;
    let peer = Peer::answers(vec![answer(200, body)]);
    let text = "sum(rate(x{a=~\"b|c\"}[1m])) * 100";
    let query = Query {
        kind: MetricKind::Prometheus,
        query: text.into(),
        headers: vec![("X-Scope-OrgID".into(), "a".into())],
        ..query(peer.url("/workspaces/ws-1"))
    };
    assert_eq!(asked(&query), (Reading::Value(3.0), String::new()));
    let request = peer.requests(1).remove(0);
    let target = request.line.strip_prefix("GET ").unwrap().strip_suffix(" HTTP/1.1").unwrap();
    let (path, query) = target.split_once('?').unwrap();
    let field = |name: &str| request.field(name).map(str::to_owned);
    check_signed(field, ["GET", path, query], "", ["eu-west-1", "aps"]);
}
