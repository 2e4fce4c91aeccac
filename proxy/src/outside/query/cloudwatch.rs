//! CloudWatch's GetMetricData, by the query protocol (API version 2010-08-01).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::super::BODY_OCTETS_MAX;
use super::super::date::rfc3339;
use super::super::http::{Call, Reply};
use super::{Query, QueryError, WINDOWS, whole};

/// Flagger's bound on what is returned.
const POINTS_MAX: &str = "20";
/// A period that the query does not give.
const PERIOD_S: u64 = 60;

/// `POST` with the queries spelled out as pairs, over ten windows until the end of the last whole period: one that is
/// still being filled says nothing.
pub(super) fn call(query: &Query, now_ms: u64) -> Result<Call, QueryError> {
    let wrong = |error: serde_json::Error| QueryError(format!("the query is no array of MetricDataQuery: {error}"));
    let checked: Vec<MetricDataQuery> = serde_json::from_str(&query.query).map_err(wrong)?;
    let period_s = checked.iter().filter_map(MetricDataQuery::period).max().unwrap_or(PERIOD_S).max(1);
    let end = now_ms / 1000 / period_s * period_s;
    let start = end.saturating_sub(query.window.as_secs().saturating_mul(u64::from(WINDOWS)));

    let mut pairs = vec![
        ("Action".to_owned(), "GetMetricData".to_owned()),
        ("Version".to_owned(), "2010-08-01".to_owned()),
        ("StartTime".to_owned(), rfc3339(start)),
        ("EndTime".to_owned(), rfc3339(end)),
        ("ScanBy".to_owned(), "TimestampDescending".to_owned()),
        ("MaxDatapoints".to_owned(), POINTS_MAX.to_owned()),
    ];
    let queries: Value = serde_json::from_str(&query.query).map_err(wrong)?;
    spell_out("MetricDataQueries", &queries, &mut pairs);

    let url = Url::parse(&address(query)?).map_err(|error| QueryError(format!("its address is none: {error}")))?;
    let mut form = url.clone();
    form.query_pairs_mut().clear().extend_pairs(&pairs);
    let mut call = query.call(Method::POST, url)?;
    call.body = form.query().unwrap_or_default().to_owned().into();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
    call.headers.insert(CONTENT_TYPE, form);
    Ok(call)
}

fn address(query: &Query) -> Result<String, QueryError> {
    if !query.address.is_empty() {
        return Ok(query.address.clone());
    }
    let region = query.region.as_deref().ok_or_else(|| QueryError("it has no `region`".into()))?;
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    Ok(format!("https://monitoring.{region}.{domain}/"))
}

/// Members of arrays count from 1. The depth is bounded by the shape that was checked before.
fn spell_out(name: &str, value: &Value, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Array(members) => {
            for (member, number) in members.iter().zip(1_usize..) {
                spell_out(&format!("{name}.member.{number}"), member, pairs);
            }
        }
        Value::Object(fields) => {
            for (field, value) in fields {
                spell_out(&format!("{name}.{field}"), value, pairs);
            }
        }
        Value::String(text) => pairs.push((name.to_owned(), text.clone())),
        Value::Bool(_) | Value::Number(_) => pairs.push((name.to_owned(), value.to_string())),
        Value::Null => {}
    }
}

/// The newest value of the first result.
pub(super) fn value(reply: &Reply) -> Result<Option<f64>, QueryError> {
    if !reply.status.is_success()
        && let Some(ErrorResponse { error }) = text(&reply.body).and_then(|text| quick_xml::de::from_str(text).ok())
    {
        return Err(QueryError(format!("{}: {}: {}", reply.status.as_u16(), error.code, error.message)));
    }
    let text = text(whole(reply)?).ok_or_else(|| QueryError("no answer of CloudWatch: not UTF-8".into()))?;
    let answer: Response =
        quick_xml::de::from_str(text).map_err(|error| QueryError(format!("no answer of CloudWatch: {error}")))?;
    let Some(first) = answer.result.results.member.into_iter().next() else { return Ok(None) };
    match first.status.as_deref() {
        None | Some("Complete" | "PartialData") => {}
        Some(other) => return Err(QueryError(format!("the first result is `{other}`"))),
    }
    let newest = first.values.member.first().map(|value| value.trim().parse());
    newest.transpose().map_err(|_| QueryError("a value that is no number".into()))
}

/// What can be read of an answer that fits: `None` if it is no text.
fn text(body: &[u8]) -> Option<&str> {
    debug_assert!(body.len() <= BODY_OCTETS_MAX);
    std::str::from_utf8(body).ok()
}

/// The shape of a query, so that a misspelt key is an error and not a query that means something else.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only the shape is looked at")]
struct MetricDataQuery {
    id: String,
    account_id: Option<String>,
    expression: Option<String>,
    label: Option<String>,
    metric_stat: Option<MetricStat>,
    period: Option<u32>,
    return_data: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only the shape is looked at")]
struct MetricStat {
    metric: Metric,
    period: u32,
    stat: String,
    unit: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only the shape is looked at")]
struct Metric {
    namespace: Option<String>,
    metric_name: Option<String>,
    #[serde(default)]
    dimensions: Vec<Dimension>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only the shape is looked at")]
struct Dimension {
    name: String,
    value: String,
}

impl MetricDataQuery {
    fn period(&self) -> Option<u64> {
        self.metric_stat.as_ref().map(|stat| stat.period).max(self.period).map(u64::from)
    }
}

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "GetMetricDataResult")]
    result: GetMetricDataResult,
}

#[derive(Deserialize)]
struct GetMetricDataResult {
    #[serde(rename = "MetricDataResults", default)]
    results: Members<MetricDataResult>,
}

#[derive(Deserialize)]
struct MetricDataResult {
    #[serde(rename = "StatusCode")]
    status: Option<String>,
    #[serde(rename = "Values", default)]
    values: Members<String>,
}

#[derive(Deserialize)]
struct Members<T> {
    #[serde(default = "Vec::new")]
    member: Vec<T>,
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self { member: Vec::new() }
    }
}

#[derive(Deserialize)]
struct ErrorResponse {
    #[serde(rename = "Error")]
    error: ErrorText,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorText {
    code: String,
    message: String,
}

#[cfg(test)]
mod tests;
