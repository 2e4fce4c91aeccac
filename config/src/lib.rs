//! Serin's configuration: the file, its meaning, and the dtab language.
//!
//! Text in, a legal [`Config`] or [`Diagnostics`] out: if a value of the types in [`model`] exists, it has passed every
//! check. Everything here is pure but [`watch`], which notices that a file may have changed.
//!
//! # The file
//!
//! YAML, and so JSON too. Its keys are those of Linkerd 1, and a few more. A router has servers, where requests arrive, and a
//! dtab, which turns the name of a request into addresses:
//!
//! ```
//! use serin_config::{Config, Source};
//!
//! let source = Source::new("serin.yaml", r#"
//! clusters:                                    # names for addresses: /#/clusters/<name>
//!   world-v1: {endpoints: ["127.0.0.1:8081"]}
//!   world-v2: {endpoints: ["127.0.0.1:8082", "world.example:80", "[::1]:8083"]}
//!
//! routers:
//! - label: gateway
//!   protocol: http
//!   servers: [{ip: 127.0.0.1, port: 4140}]
//!   dtab: |
//!     /host/world => 9 * /#/clusters/world-v1 & 1 * /#/clusters/world-v2 ;
//!     /svc        => /host ;                 # `Host: world` is named /svc/world
//!   splits:
//!   - {path: /host/world, stickiness: {cookie: user}}
//!   overrides:
//!   - when: {cookie: {dogfood: "true"}}
//!     dtab: /host/world => /#/clusters/world-v2
//! "#);
//! let (config, warnings) = Config::parse(&source)?;
//!
//! let router = &config.routers[0];
//! assert_eq!(router.dtab.lookup(&"/svc/world".parse()?).to_string(), "/host/world");
//! assert_eq!(router.servers[0].address.to_string(), "127.0.0.1:4140");
//! assert!(warnings.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rollouts
//!
//! A rollout owns one dentry of a router and moves its traffic from a *primary* to a *canary*. Its `analysis` is Flagger's
//! block, with the same keys; shares are percents, with up to four decimals under `pace: evidence`:
//!
//! ```
//! use serin_config::{Config, Source};
//! use serin_rollout::Pace;
//!
//! let source = Source::new("serin.yaml", r#"
//! clusters: {world-v1: {endpoints: ["127.0.0.1:8081"]}, world-v2: {endpoints: ["127.0.0.1:8082"]}}
//! routers:
//! - label: gateway
//!   servers: [{port: 4140}]
//!   dtab: /srv => /#/clusters ; /host => /srv ; /svc => /host
//!
//! rollouts:
//! - name: world
//!   router: gateway
//!   path: /host/world                      # the dentry it owns: no wildcards, and some dentry leads to it
//!   primary: /srv/world-v1
//!   canary: /srv/world-v2
//!   pace: evidence                         # or interval: Flagger's clock, also what a block without `pace` means
//!   guard: {alpha: 1%, errorBudget: 0.5%}  # on by default; percentages have their sign
//!   analysis:
//!     interval: 10s                        # the least time at a step
//!     stepWeights: [0.5, 5, 25, 50]
//!     metrics:
//!     - {name: request-duration, thresholdRange: {max: 500}}
//!
//! storage: {kind: file, dir: state}        # required: what was promoted and rolled back is kept
//! "#);
//! let (config, _) = Config::parse(&source)?;
//!
//! let Pace::Evidence(policy) = &config.rollouts[0].pace else { panic!("not by evidence") };
//! let steps: Vec<String> = policy.settings().steps.iter().map(ToString::to_string).collect();
//! assert_eq!(steps, ["0.5%", "5%", "25%", "50%"]);
//! assert_eq!(config.rollouts[0].revision.as_str(), "/srv/world-v2");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Beside them stand `metricTemplates` and `alertProviders`, which rollouts refer to by name. Secrets do not stand in the
//! file: `{env: NAME}` and `{file: path}` say where they are.
//!
//! # Mistakes
//!
//! All of them are reported, each at its place, also inside of a dtab in any style of YAML text:
//!
//! ```
//! use serin_config::{Config, Source, diagnostic};
//!
//! let source = Source::new("serin.yaml", "routers:
//! - servers: [{prot: 4140}]
//!   dtab: |
//!     /svc => /host |
//! ");
//! let mistakes = Config::parse(&source).unwrap_err();
//! assert_eq!(diagnostic::render(&mistakes, &source, false), "\
//! error[config/unknown-key]: unknown key `prot`
//!  --> serin.yaml:2:14
//!   |
//! 2 | - servers: [{prot: 4140}]
//!   |              ^^^^
//!   |
//!   = help: did you mean `port`?
//!
//! error[dtab/syntax]: simple expected but end of input found
//!  --> serin.yaml:4:20
//!   |
//! 4 |     /svc => /host |
//!   |                    ^
//!   |
//!   = help: here comes a path, `!`, `~`, `$` or a tree in parentheses
//! ");
//! ```
//!
//! A key that Linkerd has and Serin does not is refused by name; one that only a JVM needs is accepted with a warning. No key is
//! ignored in silence. [`limits`] has every limit, [`diff()`](diff::diff) says what a reload changed.

pub mod diagnostic;
pub mod diff;
pub mod dtab;
pub mod flagger;
pub mod identify;
pub mod model;
pub mod schema;
pub mod source;
pub mod teams;
pub mod template;
pub mod watch;

mod compile;
mod raw;
mod units;
mod yaml;

/// Every limit of a configuration file. The language's own limits are in [`dtab`].
pub mod limits {
    pub use crate::compile::{
        ACCRUAL_FAILURES_MAX, ALERT_PROVIDERS_MAX, BINDING_NAMES_MAX, BODY_BYTES_MAX, BUDGET_TTL_SECS_MAX,
        CALL_DEPTH_MAX, CONFIGS_MAX, DNS_HOSTS_MAX, IDENTIFIERS_MAX, INTERFACES_MAX, LABEL_BYTES_MAX, MATCH_RULES_MAX,
        METRIC_TEMPLATES_MAX, OVERRIDES_MAX, OWNED_MAX, PAIRS_MAX, QUERY_BYTES_MAX, REFRESH_S_MAX, REGEX_BYTES_MAX,
        RETRIES_PER_SECOND_MAX, RETRY_BUFFER_BYTES_MAX, RETRY_SHARE_MAX, ROLLOUT_NAME_BYTES_MAX, ROLLOUTS_MAX,
        ROUTE_MATCHES_MAX, ROUTE_REGEXES_MAX, ROUTE_RULES_MAX, SAME_PLACE_MAX, STATIC_LABEL_BYTES_MAX,
        STATUS_CODES_MAX, TAG_WEIGHTS_MAX, TEAM_BYTES_MAX, TEAM_NODES_MAX, TESTS_MAX, TEXT_BYTES_MAX, URL_BYTES_MAX,
        VALUE_BYTES_MAX, WAYS_MAX, WORKERS_MAX,
    };
    pub use crate::diagnostic::DIAGNOSTICS_MAX;
    pub use crate::diff::CHANGES_MAX;
    pub use crate::source::SOURCE_BYTES_MAX;
    pub use crate::teams::{TEAM_NAME_BYTES_MAX, TEAMS_MAX};
    pub use crate::units::DURATION_MS_MAX;
    pub use crate::watch::{FOLDER_DEPTH_MAX, FOLDERS_MAX, SYMLINKS_MAX};
    pub use crate::yaml::{DEPTH_MAX, NODES_MAX};
}

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use model::Config;
pub use source::Source;
pub use units::closest;
