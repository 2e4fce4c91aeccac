//! Prometheus' instant queries (HTTP API v1), read as Flagger reads them.

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::super::http::{Call, Reply};
use super::{Query, QueryError, address, set_pairs, whole};

/// `GET <address>/api/v1/query?query=…`, white space collapsed.
pub(super) fn call(query: &Query) -> Result<Call, QueryError> {
    let mut url = address(&query.address, "/api/v1/query")?;
    let text: Vec<&str> = query.query.split_whitespace().collect();
    set_pairs(&mut url, &[("query", &text.join(" "))]);
    query.call(Method::GET, url)
}

/// The last element of a vector, or the scalar. `None`: there is none.
pub(super) fn value(reply: &Reply) -> Result<Option<f64>, QueryError> {
    // Errors have a body of the same shape, which says more than the status.
    if let Ok(Answer { status, error: Some(error), error_type, .. }) = serde_json::from_slice(&reply.body)
        && status == "error"
    {
        let kind = error_type.unwrap_or_default();
        return Err(QueryError(format!("{}: {kind}: {error}", reply.status.as_u16())));
    }
    let answer: Answer = serde_json::from_slice(whole(reply)?)
        .map_err(|error| QueryError(format!("no answer of Prometheus: {error}")))?;
    let Some(data) = answer.data.filter(|_| answer.status == "success") else {
        return Err(QueryError(format!("no answer of Prometheus: status `{}`", answer.status)));
    };
    match data.result_type.as_str() {
        "scalar" => number(&data.result).map(Some),
        "vector" => {
            let elements = data.result.as_array().ok_or_else(|| QueryError("a vector that is none".into()))?;
            elements.last().map(|last| number(&last["value"])).transpose()
        }
        other => Err(QueryError(format!("the query gives a {other}, not a vector or a scalar"))),
    }
}

/// `[<time>, "<number>"]`
fn number(sample: &Value) -> Result<f64, QueryError> {
    let text = sample.get(1).and_then(Value::as_str).filter(|text| !text.is_empty());
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| QueryError("a sample without a number; histograms are none".into()))
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Value,
}
