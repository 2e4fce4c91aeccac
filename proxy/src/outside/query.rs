//! Metric providers: one question, one number. Prometheus, Datadog and CloudWatch, as Flagger asks them.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;
use serin_config::model::{Config, Credentials, MetricKind, MetricSource, Rollout};
use serin_config::template::{self, TemplateError, Values};
use serin_rollout::Reading;

use super::aws::Aws;
use super::hook::one_line;
use super::http::{Call, Clients, Reply, Way};
use super::secret::{self, SecretError};

#[cfg(feature = "aws")]
mod cloudwatch;
#[cfg(not(feature = "aws"))]
#[path = "query/cloudwatch_off.rs"]
mod cloudwatch;
mod datadog;
mod prometheus;

#[cfg(test)]
pub(super) mod tests;

/// A provider has so long to answer.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Providers that take a range get so many windows, as Flagger gives them.
const WINDOWS: u32 = 10;

/// A question for a metric provider, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What the provider speaks.
    pub kind: MetricKind,
    /// Its base address.
    pub address: String,
    /// Sent along.
    pub headers: Vec<(String, String)>,
    /// Who asks. Secrets are read at each ask.
    pub credentials: Credentials,
    /// Of Amazon's services.
    pub region: Option<String>,
    /// Certificates are not checked.
    pub unchecked_tls: bool,
    /// In the provider's own language, with nothing left to fill in.
    pub query: String,
    /// The window the query was told of.
    pub window: Duration,
}

impl Query {
    /// The question behind a metric of a rollout, filled in; `None`: the value is our own, or there is no such metric.
    ///
    /// The functions of the template: `name` is the rollout's, `namespace`, `ingress` and `route` are the label of its
    /// router, `target` is the last label of the canary's name, `service` that of the path it owns.
    ///
    /// # Errors
    /// The template names what is not there.
    pub fn of(config: &Config, rollout: &Rollout, metric: usize) -> Option<Result<Self, TemplateError>> {
        match rollout.metrics.get(metric)? {
            MetricSource::Own { .. } => None,
            MetricSource::Query { address, query, window } => {
                let query = fill_in(rollout, query, *window, &[]);
                Some(query.map(|query| Self::prometheus(address.clone(), query, *window)))
            }
            MetricSource::Template { template, window, variables } => {
                let template = config.metric_templates.get(*template)?;
                let query = fill_in(rollout, &template.query, *window, variables);
                Some(query.map(|query| Self {
                    kind: template.kind,
                    address: template.address.clone(),
                    headers: template.headers.clone(),
                    credentials: template.credentials.clone(),
                    region: template.region.clone(),
                    unchecked_tls: template.unchecked_tls,
                    query,
                    window: *window,
                }))
            }
        }
    }

    /// For a Prometheus without credentials.
    pub fn prometheus(address: String, query: String, window: Duration) -> Self {
        Self {
            kind: MetricKind::Prometheus,
            address,
            headers: Vec::new(),
            credentials: Credentials::None,
            region: None,
            unchecked_tls: false,
            query,
            window,
        }
    }

    /// What the provider says, and why. `now_ms`: since 1970.
    pub(super) async fn ask(&self, clients: &Clients, aws: &Aws, now_ms: u64) -> (Reading, String) {
        match self.value(clients, aws, now_ms).await {
            Ok(Some(value)) if value.is_finite() => (Reading::Value(value), String::new()),
            Ok(Some(value)) => (Reading::NoValues, format!("the value is {value}")),
            Ok(None) => (Reading::NoValues, "no values".into()),
            Err(error) => (Reading::ProviderError, one_line(error.0.as_bytes())),
        }
    }

    async fn value(&self, clients: &Clients, aws: &Aws, now_ms: u64) -> Result<Option<f64>, QueryError> {
        let call = match self.kind {
            MetricKind::Prometheus => prometheus::call(self)?,
            MetricKind::Datadog => datadog::call(self, now_ms)?,
            MetricKind::CloudWatch => cloudwatch::call(self, now_ms)?,
        };
        let call = self.signed(call, aws).await?;
        let reply = clients.send_within_rate(call).await?;
        match self.kind {
            MetricKind::Prometheus => prometheus::value(&reply),
            MetricKind::Datadog => datadog::value(&reply, now_ms),
            MetricKind::CloudWatch => cloudwatch::value(&reply),
        }
    }

    /// A request to this address with these headers.
    fn call(&self, method: Method, url: Url) -> Result<Call, QueryError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).map_err(|_| QueryError(format!("`{name}` is no header name")))?;
            let value = HeaderValue::from_str(value).map_err(|_| QueryError(format!("the value of {name} is none")))?;
            headers.append(name, value);
        }
        let way = Way { unchecked_tls: self.unchecked_tls, proxy: None };
        Ok(Call { method, url, headers, basic: None, body: Bytes::new(), timeout: QUERY_TIMEOUT, way })
    }

    async fn signed(&self, mut call: Call, aws: &Aws) -> Result<Call, QueryError> {
        match &self.credentials {
            // CloudWatch knows no other way.
            Credentials::None if self.kind != MetricKind::CloudWatch => {}
            Credentials::Basic { username, password } => {
                call.basic = Some((secret::read(username).await?, secret::read(password).await?));
            }
            Credentials::Bearer(token) => {
                let token = format!("Bearer {}", secret::read(token).await?.trim());
                call.headers.insert(AUTHORIZATION, secret::header(&token)?);
            }
            Credentials::Datadog { api_key, application_key } => {
                call.headers.insert("dd-api-key", secret::header(&secret::read(api_key).await?)?);
                call.headers.insert("dd-application-key", secret::header(&secret::read(application_key).await?)?);
            }
            Credentials::None | Credentials::SigV4 => {
                let service = if self.kind == MetricKind::CloudWatch { "monitoring" } else { "aps" };
                let region = self.region.as_deref().ok_or_else(|| QueryError("it has no `region`".into()))?;
                aws.sign(service, region, &mut call).await.map_err(QueryError)?;
            }
        }
        Ok(call)
    }
}

/// Why there is no reading.
#[derive(Debug)]
struct QueryError(String);

impl From<SecretError> for QueryError {
    fn from(error: SecretError) -> Self {
        Self(error.to_string())
    }
}

impl From<super::http::Failure> for QueryError {
    fn from(failure: super::http::Failure) -> Self {
        Self(failure.to_string())
    }
}

fn fill_in(
    rollout: &Rollout,
    template: &str,
    window: Duration,
    variables: &[(String, String)],
) -> Result<String, TemplateError> {
    let last = |path: &serin_config::dtab::Path| {
        let text = path.to_string();
        text.rsplit('/').next().unwrap_or_default().to_owned()
    };
    let (target, service, interval) = (last(&rollout.canary), last(&rollout.path), template::interval(window));
    let values = Values {
        name: &rollout.name,
        namespace: &rollout.router,
        target: &target,
        service: &service,
        ingress: &rollout.router,
        route: &rollout.router,
        interval: &interval,
        variables,
    };
    template::render(template, &values)
}

/// `address` with this path behind its own.
fn address(base: &str, path: &str) -> Result<Url, QueryError> {
    let mut url = Url::parse(base).map_err(|error| QueryError(format!("its address is none: {error}")))?;
    let path = format!("{}{path}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url.set_query(None);
    Ok(url)
}

/// Gives the address this query, with every octet escaped that RFC 3986 does not call unreserved, and none other: what
/// is sent is then what is signed.
fn set_pairs(url: &mut Url, pairs: &[(&str, &str)]) {
    url.query_pairs_mut().clear().extend_pairs(pairs);
    let encoded = url.query().unwrap_or_default().replace('+', "%20").replace('*', "%2A").replace("%7E", "~");
    url.set_query(Some(&encoded));
}

/// The body, if the provider answered with success and in full.
fn whole(reply: &Reply) -> Result<&[u8], QueryError> {
    if !reply.status.is_success() {
        return Err(QueryError(super::hook::why(reply)));
    }
    if reply.cut {
        return Err(QueryError(format!("the answer is longer than {} octets", super::BODY_OCTETS_MAX)));
    }
    Ok(&reply.body)
}

/// How long a provider wants to be left alone, if its answer says so: 429 with `Retry-After`, or Datadog's
/// `X-RateLimit-Reset`, both in seconds.
pub(super) fn rest_wanted(reply: &Reply) -> Option<Duration> {
    if reply.status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let seconds = |name: &str| reply.headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok();
    let seconds = seconds(RETRY_AFTER.as_str()).or_else(|| seconds("x-ratelimit-reset")).unwrap_or(1);
    Some(Duration::from_secs(u64::from(seconds)).min(REST_MAX))
}

/// No provider is left alone for longer.
const REST_MAX: Duration = Duration::from_secs(300);
