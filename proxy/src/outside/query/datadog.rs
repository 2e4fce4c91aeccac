//! Datadog's query API, version 1.

use http::Method;
use serde::Deserialize;

use super::super::http::{Call, Reply};
use super::{Query, QueryError, WINDOWS, address, set_pairs, whole};

/// Where Datadog is, unless the file says otherwise.
const ADDRESS: &str = "https://api.datadoghq.com";

/// `GET <address>/api/v1/query?query=…&from=…&to=…`, ten windows of seconds until now.
pub(super) fn call(query: &Query, now_ms: u64) -> Result<Call, QueryError> {
    let base = if query.address.is_empty() { ADDRESS } else { &query.address };
    let mut url = address(base, "/api/v1/query")?;
    let to = now_ms / 1000;
    let from = to.saturating_sub(query.window.as_secs().saturating_mul(u64::from(WINDOWS)));
    set_pairs(&mut url, &[("query", &query.query), ("from", &from.to_string()), ("to", &to.to_string())]);
    query.call(Method::GET, url)
}

/// The newest point of the first series whose bucket was over a whole bucket ago: the newest is still being filled, and
/// the oldest, which Flagger takes, is stale.
pub(super) fn value(reply: &Reply, now_ms: u64) -> Result<Option<f64>, QueryError> {
    let answer: Answer =
        serde_json::from_slice(whole(reply)?).map_err(|error| QueryError(format!("no answer of Datadog: {error}")))?;
    if let Some(error) = answer.error.filter(|error| !error.is_empty()) {
        return Err(QueryError(error));
    }
    if answer.status.as_deref() != Some("ok") {
        return Err(QueryError(format!("status `{}`", answer.status.unwrap_or_default())));
    }
    let Some(series) = answer.series.into_iter().next() else { return Ok(None) };
    let bucket_ms = series.interval.unwrap_or_default().max(0.0) * 1000.0;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^53")]
    let latest = now_ms as f64 - 2.0 * bucket_ms;
    let complete = series.pointlist.iter().rev().filter(|(at, _)| at.is_some_and(|at| at <= latest));
    Ok(complete.filter_map(|(_, value)| *value).next())
}

#[derive(Deserialize)]
struct Answer {
    status: Option<String>,
    error: Option<String>,
    #[serde(default)]
    series: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    pointlist: Vec<(Option<f64>, Option<f64>)>,
    /// Seconds of a bucket.
    interval: Option<f64>,
}
