//! Rollouts: who moves between which two names, how it is judged, and whom that asks and tells.

use std::path::PathBuf;
use std::time::Duration;

use serin_rollout::{Pace, Ppm, Revision};

use super::{OnUnhealthy, StickyKey, When};
use crate::dtab::{NameTree, Path};

/// One rollout: it owns the dentry `path` of its router.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Unique. Lower case letters, digits, `-` and `.`, beginning with a letter or a digit; 1 to 63 octets: also the name
    /// of its journal.
    pub name: String,
    /// Label of its router.
    pub router: String,
    /// The dentry prefix it owns; without wildcards.
    pub path: Path,
    /// The old version. Never the canary.
    pub primary: Path,
    /// The new version.
    pub canary: Path,
    /// What "the same canary" means: the canary's name, and `@` with what the file calls its revision, if it does.
    pub revision: Revision,
    /// What answers where neither arm is there; `!` unless written.
    pub fallback: NameTree<Path>,
    /// How it goes and how it is guarded: legal by construction.
    pub pace: Pace,
    /// How requests come to the canary.
    pub strategy: Strategy,
    /// Draw by a key of the user instead of by chance.
    pub stickiness: Option<StickyKey>,
    /// A cookie that Serin issues, by which users are drawn (`analysis.sessionAffinity`).
    pub affinity: Option<Affinity>,
    /// What an arm without a usable endpoint does with its share; `None`: as the router says.
    pub on_unhealthy: Option<OnUnhealthy>,
    /// Who judges.
    pub judge: Judge,
    /// Nothing is judged and nothing moves; the guard stays on.
    pub suspend: bool,
    /// Promote without judging.
    pub skip_analysis: bool,
    /// How long an arm may stay without an endpoint before that is final. Flagger's `progressDeadlineSeconds`, 600 s.
    pub progress_deadline: Duration,
    /// One for each metric of `pace`, in its order: where the value comes from.
    pub metrics: Vec<MetricSource>,
    /// One for each hook of `pace`, in its order: whom to ask.
    pub hooks: Vec<Webhook>,
    /// Whom to tell. Empty: nobody.
    pub alerts: Vec<Alert>,
}

/// How requests come to the canary.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    /// Those that match any rule, once the rollout runs: A/B.
    Match(Vec<MatchRule>),
    /// By weight; also blue/green, where the weight is nothing or all.
    Weights,
    /// Copies first, then by weight.
    Mirror(Mirror),
}

/// Copies of requests to the canary; their answers are thrown away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Part of the requests that is copied.
    pub share: Ppm,
    /// Methods that are copied, upper case. Safe ones unless the file says more.
    pub methods: Vec<String>,
}

/// One entry of `analysis.match`: all of its conditions must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchRule {
    /// Header name in lower case (`cookie` is the whole field), and what it must be.
    pub headers: Vec<(String, TextMatch)>,
    /// Query parameter and what it must be.
    pub query: Vec<(String, TextMatch)>,
    /// Serin's own conditions, as in override rules.
    pub when: When,
}

/// A condition on a text.
#[derive(Clone, Debug)]
pub enum TextMatch {
    /// It is this.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// This regular expression (RE2 syntax: no look-around, linear time) matches all of it.
    Regex(regex::bytes::Regex),
    /// It ends so.
    Suffix(String),
}

impl PartialEq for TextMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Suffix(a), Self::Suffix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl TextMatch {
    /// An expression that has to match the whole text, as Envoy reads them.
    ///
    /// # Errors
    /// What is no expression, or one that takes more than [`REGEX_MEMORY_MAX`] once compiled.
    pub(crate) fn regex(text: &str) -> Result<TextMatch, regex::Error> {
        let build = |text: &str| {
            let mut builder = regex::bytes::RegexBuilder::new(text);
            builder.size_limit(REGEX_MEMORY_MAX).dfa_size_limit(REGEX_MEMORY_MAX).build()
        };
        // Alone first: brackets that do not match must not pair with ours.
        build(text).and_then(|_| build(&format!("{WHOLE_BEGIN}{text}{WHOLE_END}"))).map(TextMatch::Regex)
    }

    /// The text as it stands in the file.
    #[must_use]
    pub fn written(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => text,
            Self::Regex(regex) => {
                let text = regex.as_str();
                text.strip_prefix(WHOLE_BEGIN).and_then(|text| text.strip_suffix(WHOLE_END)).unwrap_or(text)
            }
        }
    }

    /// Does it hold.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => text == wanted.as_bytes(),
            Self::Prefix(wanted) => text.starts_with(wanted.as_bytes()),
            Self::Regex(regex) => regex.is_match(text),
            Self::Suffix(wanted) => text.ends_with(wanted.as_bytes()),
        }
    }
}

const WHOLE_BEGIN: &str = "^(?:";
const WHOLE_END: &str = ")$";
/// What a compiled expression may take of memory, in bytes.
const REGEX_MEMORY_MAX: usize = 1 << 20;

/// A cookie that Serin issues to users who bring none: its value is random, the draw is a hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Its name.
    pub cookie: String,
    /// The attributes behind the value, from `; Max-Age=…` on, ready to be sent.
    pub attributes: String,
}

/// `judge`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Judge {
    /// It is judged and told of, and the weight never moves by itself: `dryRun: true`.
    DryRun,
    /// This process judges and moves.
    #[default]
    Here,
    /// Somebody else does: the canary has no share but what a person sets.
    Off,
}

/// Where the value of a metric comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricSource {
    /// `request-success-rate` and `request-duration`, from our own counters over this window.
    Own {
        /// How far back. At least 1 s.
        window: Duration,
    },
    /// A template with a provider: index into [`super::Config::metric_templates`].
    Template {
        /// Which.
        template: usize,
        /// The window the query is told of.
        window: Duration,
        /// `templateVariables`.
        variables: Vec<(String, String)>,
    },
    /// A query written in place, for the Prometheus at `metricsServer`.
    Query {
        /// Base address of the server.
        address: String,
        /// PromQL with the template functions of Flagger.
        query: String,
        /// The window the query is told of.
        window: Duration,
    },
}

/// One entry of `analysis.webhooks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `http` or `https`.
    pub url: String,
    /// For each try. Default 10 s.
    pub timeout: Duration,
    /// After connection errors, 429 and 5xx. Default 0, at most 10.
    pub retries: u32,
    /// `disableTLS`: certificates are not checked.
    pub unchecked_tls: bool,
    /// No alert when this hook holds the rollout.
    pub mute_alert: bool,
    /// Sent along.
    pub metadata: Vec<(String, String)>,
}

/// One entry of `analysis.alerts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its name, for logs.
    pub name: String,
    /// Index into [`super::Config::alert_providers`].
    pub provider: usize,
    /// The least that is told. Default info: everything.
    pub severity: serin_rollout::event::Severity,
}

/// One entry of `alertProviders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertProvider {
    /// Unique.
    pub name: String,
    /// What it speaks.
    pub kind: AlertKind,
    /// Where to post.
    pub address: Secret,
    /// Channel, where the kind has one.
    pub channel: Option<String>,
    /// Who posts. Default `serin`.
    pub username: String,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// An HTTP proxy on the way.
    pub proxy: Option<String>,
    /// The body of kind `webhook`: JSON with `{{name}}` placeholders. `None`: our own shape.
    pub template: Option<String>,
}

/// What an alert provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "products, by their names in the file")]
pub enum AlertKind {
    Alertmanager,
    Discord,
    Gchat,
    MsTeams,
    Rocket,
    Slack,
    Webhook,
}

/// One entry of `metricTemplates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricTemplate {
    /// Unique.
    pub name: String,
    /// What it speaks.
    pub kind: MetricKind,
    /// Base address.
    pub address: String,
    /// Added to each query.
    pub headers: Vec<(String, String)>,
    /// Who asks.
    pub credentials: Credentials,
    /// Of Amazon's services: CloudWatch, and Prometheus with SigV4.
    pub region: Option<String>,
    /// Certificates are not checked.
    pub unchecked_tls: bool,
    /// In the provider's own language, with the template functions of Flagger.
    pub query: String,
}

/// What a metric provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "products, by their names in the file")]
pub enum MetricKind {
    CloudWatch,
    Datadog,
    Prometheus,
}

/// How a query is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Basic`.
    Basic {
        /// Who.
        username: Secret,
        /// The password.
        password: Secret,
    },
    /// `Authorization: Bearer`.
    Bearer(Secret),
    /// Datadog's two keys.
    Datadog {
        /// `DD-API-KEY`
        api_key: Secret,
        /// `DD-APPLICATION-KEY`
        application_key: Secret,
    },
    /// Amazon's signature, version 4, with the credentials of the environment.
    SigV4,
}

/// A text that is not shown: `/config.json`, logs and errors have only where it comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// An environment variable, read when it is needed.
    Env(String),
    /// A file, read when it is needed; a line end at its end does not belong to it.
    File(PathBuf),
    /// Written in the file as it is; for addresses that are no secret.
    Plain(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "Env({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Plain(_) => f.write_str("Plain(…)"),
        }
    }
}

/// `storage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A folder; absolute, or relative to the folder of the configuration file (already joined).
    File {
        /// Where.
        dir: PathBuf,
    },
    /// Nothing outlives the process.
    Memory,
}
