//! Every metric Serin exposes: name, help, kind, unit, labels. Nothing is printed that is not listed here, and
//! everything listed is printed; a test holds the two together.

/// What kind of number a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives; the printed name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound, with a sum and a count.
    Histogram,
}

impl Kind {
    /// The word in a `# TYPE` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The base unit of a family; its word is part of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// The word in the name and in a `# UNIT` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
}

/// One metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name as the classic text prints it: with unit, and `_total` on counters.
    pub name: &'static str,
    /// One sentence without its full stop (printing adds it) and without a backslash (HELP is not escaped).
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The unit in the name, if any.
    pub unit: Option<Unit>,
    /// Label names, in printing order; `le` of histograms is not listed.
    pub labels: &'static [&'static str],
}

impl Family {
    /// The name without `_total` and unit, which the encoder appends by itself.
    pub(crate) fn stem(&self) -> &'static str {
        let name = match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        };
        let bare = self.unit.and_then(|unit| name.strip_suffix(unit.as_str())?.strip_suffix('_'));
        bare.unwrap_or(name)
    }

    const fn with_unit(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }
}

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, kind: Kind::Counter, unit: None, labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, kind: Kind::Gauge, unit: None, labels }
}

const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, kind: Kind::Histogram, unit: None, labels }
}

pub(crate) const REQUESTS: Family = counter(
    "serin_requests_total",
    "Requests answered, by logical name, bound name, arm of a rollout and class of the answer",
    &["router", "service", "client", "arm", "class"],
);
pub(crate) const REQUEST_DURATION: Family = histogram(
    "serin_request_duration_seconds",
    "Time from the head of a request to the end of its answer",
    &["router", "service", "client", "arm"],
)
.with_unit(Unit::Seconds);
pub(crate) const RESPONSE_FAILURES: Family = counter(
    "serin_response_failures_total",
    "Answers that Serin made itself because a request could not be served, by reason",
    &["router", "reason"],
);
pub(crate) const RETRIES: Family =
    counter("serin_retries_total", "Requests sent again to an upstream after a failed try", &["router", "client"]);
pub(crate) const UNHELD: Family = counter(
    "serin_retry_bodies_dropped_total",
    "Requests that a classifier might have had sent again, and whose body was not kept, by reason (too_long, no_room)",
    &["reason"],
);
pub(crate) const SPLIT_CHOICES: Family = counter(
    "serin_split_choices_total",
    "Requests for which a weighted split drew this branch",
    &["router", "split", "branch"],
);
pub(crate) const SPLIT_REDISTRIBUTED: Family = counter(
    "serin_split_redistributed_total",
    "Requests drawn for this branch that another branch served because this one had no usable endpoint",
    &["router", "split", "branch"],
);
pub(crate) const MIRROR_REQUESTS: Family = counter(
    "serin_mirror_requests_total",
    "Copies of requests for the canary of a rollout, by class of the answer nobody sees (skipped: not sent)",
    &["router", "split", "class"],
);
pub(crate) const SPLIT_WEIGHT: Family = gauge(
    "serin_split_weight",
    "Share of a split's requests that this branch is meant to get, from 0 to 1",
    &["router", "split", "branch"],
);
pub(crate) const ENDPOINTS: Family = gauge("serin_endpoints", "Endpoints that a bound name has", &["client"]);
pub(crate) const NAMER_AGE: Family = gauge(
    "serin_namer_update_age_seconds",
    "Seconds since a namer last answered, for the name in use that it answered longest ago",
    &["namer"],
);
pub(crate) const NAMER_FAILING: Family =
    gauge("serin_namer_failing_names", "Names in use for which a namer did not answer the last time", &["namer"]);
pub(crate) const CONNECTIONS_ACCEPTED: Family = counter(
    "serin_connections_accepted_total",
    "Downstream connections accepted, by the worker that serves them",
    &["worker"],
);
pub(crate) const CONNECTIONS_REFUSED: Family = counter(
    "serin_connections_refused_total",
    "Downstream connections closed at once because their source has as many as it may",
    &[],
);
pub(crate) const CONNECTIONS_ACTIVE: Family =
    gauge("serin_connections_active", "Downstream connections open now, by worker", &["worker"]);
pub(crate) const REQUESTS_ACTIVE: Family =
    gauge("serin_requests_active", "Requests in flight now, by worker", &["worker"]);
pub(crate) const UPSTREAM_CONNECTS: Family = counter(
    "serin_upstream_connects_total",
    "Connections to upstreams attempted, by outcome (ok, failed)",
    &["outcome"],
);
pub(crate) const UPSTREAM_CONNECTIONS: Family = gauge(
    "serin_upstream_connections",
    "Connections to upstreams open now, by state (active: carries a request, idle: waits for one)",
    &["state"],
);
pub(crate) const HTTP2_FLOODS: Family = counter(
    "serin_http2_floods_total",
    "HTTP/2 connections ended because the peer (downstream, upstream) sent too much that serves nothing, by what it was",
    &["peer", "reason"],
);
pub(crate) const CONTEXT_HEADERS_STRIPPED: Family = counter(
    "serin_context_headers_stripped_total",
    "Context headers removed from requests because their sender is not trusted",
    &[],
);
pub(crate) const BINDING_CACHE_LOOKUPS: Family = counter(
    "serin_binding_cache_lookups_total",
    "Names looked up in the workers' bindings caches, by result (hit, miss)",
    &["result"],
);
pub(crate) const BINDING_CACHE_EVICTIONS: Family = counter(
    "serin_binding_cache_evictions_total",
    "Names removed from a full bindings cache to make room for another",
    &[],
);
pub(crate) const ROLLOUT_INFO: Family = gauge(
    "serin_rollout_info",
    "Always 1; the labels say what a rollout is about",
    &["rollout", "router", "path", "primary", "canary", "revision", "pace"],
);
pub(crate) const ROLLOUT_PHASE: Family =
    gauge("serin_rollout_phase", "Whether a rollout is in this phase (1) or not (0)", &["rollout", "phase"]);
pub(crate) const ROLLOUT_WEIGHT: Family = gauge(
    "serin_rollout_weight_ppm",
    "Share of the requests that an arm of a rollout gets, in parts per million",
    &["rollout", "arm"],
);
pub(crate) const ROLLOUT_STEP_SECONDS: Family =
    gauge("serin_rollout_step_seconds", "Time since the weight of a rollout became what it is", &["rollout"])
        .with_unit(Unit::Seconds);
pub(crate) const ROLLOUT_FAILED_CHECKS: Family =
    gauge("serin_rollout_failed_checks", "Failed checks of the run of a rollout", &["rollout"]);
pub(crate) const ROLLOUT_PAUSED: Family =
    gauge("serin_rollout_paused", "Whether a person or the file froze the weight of a rollout", &["rollout"]);
pub(crate) const ROLLOUT_HELD: Family = gauge(
    "serin_rollout_held",
    "Always 1; there while the judge keeps a weight, with the reason",
    &["rollout", "reason"],
);
pub(crate) const ROLLOUT_GATE_WAIT: Family = gauge(
    "serin_rollout_gate_wait_seconds",
    "Time that a rollout has waited for a closed gate; there while it waits",
    &["rollout", "gate"],
)
.with_unit(Unit::Seconds);
pub(crate) const ROLLOUT_DURABLE: Family =
    gauge("serin_rollout_durable", "Whether the journal of a rollout can be written", &["rollout"]);
pub(crate) const ROLLOUT_EVIDENCE: Family = gauge(
    "serin_rollout_evidence_log10",
    "Decimal logarithm of the evidence against a canary, by kind of event (all: together)",
    &["rollout", "kind"],
);
pub(crate) const ROLLOUT_EVIDENCE_MAX: Family = gauge(
    "serin_rollout_evidence_max_log10",
    "Decimal logarithm of the evidence that rolls back: 1/alpha",
    &["rollout"],
);
pub(crate) const ROLLOUT_REQUESTS: Family = counter(
    "serin_rollout_requests_total",
    "Requests that the split of a rollout drew for an arm and that the judge counts",
    &["rollout", "arm"],
);
pub(crate) const ROLLOUT_FAILURES: Family = counter(
    "serin_rollout_failures_total",
    "Requests of an arm of a rollout that failed, as the judge counts them",
    &["rollout", "arm"],
);
pub(crate) const ROLLOUT_EVENTS: Family =
    counter("serin_rollout_events_total", "What happened to a rollout, by code of the event", &["rollout", "event"]);
pub(crate) const ROLLOUT_DURATION: Family = histogram(
    "serin_rollout_duration_seconds",
    "Time from the start of a run to its end, by outcome (promoted, rolled-back)",
    &["rollout", "outcome"],
)
.with_unit(Unit::Seconds);
pub(crate) const ROLLOUT_HOOK_DURATION: Family = histogram(
    "serin_rollout_hook_duration_seconds",
    "Time that hooks and metric providers took to answer, by result (passed, refused, failed)",
    &["rollout", "hook", "result"],
)
.with_unit(Unit::Seconds);
pub(crate) const OUTSIDE_JOBS: Family = counter(
    "serin_outside_jobs_total",
    "Hooks, events, metric queries and alerts of rollouts, by result (done, failed: given up, dropped: never tried)",
    &["kind", "result"],
);
pub(crate) const FLAGGER_INFO: Family =
    gauge("flagger_info", "Always 1 where a rollout goes by Flagger's clock", &["version", "mesh_provider"]);
pub(crate) const FLAGGER_CANARY_TOTAL: Family =
    gauge("flagger_canary_total", "Rollouts that go by Flagger's clock, by router", &["namespace"]);
pub(crate) const FLAGGER_CANARY_STATUS: Family = gauge(
    "flagger_canary_status",
    "State of a rollout by Flagger's clock: 0 running, 1 well, 2 failed",
    &["name", "namespace"],
);
pub(crate) const FLAGGER_CANARY_WEIGHT: Family = gauge(
    "flagger_canary_weight",
    "Weight of an arm of a rollout by Flagger's clock, in percent",
    &["workload", "namespace"],
);
pub(crate) const FLAGGER_CANARY_DURATION: Family = histogram(
    "flagger_canary_duration_seconds",
    "Time that one tick of a rollout by Flagger's clock took, hooks and providers included",
    &["name", "namespace"],
)
.with_unit(Unit::Seconds);
pub(crate) const FLAGGER_METRIC_ANALYSIS: Family = gauge(
    "flagger_canary_metric_analysis",
    "Last value of a metric of a rollout by Flagger's clock",
    &["name", "namespace", "metric"],
);
pub(crate) const FLAGGER_SUCCESSES: Family = counter(
    "flagger_canary_successes_total",
    "Runs of rollouts that ended with a promotion",
    &["name", "namespace", "deployment_strategy", "analysis_status"],
);
pub(crate) const FLAGGER_FAILURES: Family = counter(
    "flagger_canary_failures_total",
    "Runs of rollouts that ended with a rollback",
    &["name", "namespace", "deployment_strategy", "analysis_status"],
);
pub(crate) const RELOADS: Family = counter(
    "serin_config_reloads_total",
    "Times the configuration was read, by outcome (applied, unchanged, rejected)",
    &["outcome"],
);
pub(crate) const RELOAD_SUCCESSFUL: Family = gauge(
    "serin_config_last_reload_successful",
    "Whether the configuration as last read is the one that serves (1) or was rejected (0)",
    &[],
);
pub(crate) const RELOAD_TIMESTAMP: Family = gauge(
    "serin_config_last_reload_timestamp_seconds",
    "Unix time at which the configuration that serves was applied",
    &[],
)
.with_unit(Unit::Seconds);
pub(crate) const DTAB_NAMESPACES: Family = gauge("serin_dtab_namespaces", "Stored dtab namespaces that there are", &[]);
pub(crate) const DTAB_WRITES: Family = counter(
    "serin_dtab_writes_total",
    "Writes to stored dtabs, by outcome (created, updated, deleted, refused, failed)",
    &["outcome"],
);
pub(crate) const TEAM_STATE: Family = gauge(
    "serin_team_state",
    "1 for the state of a team file: current, last-good (rejected, the version before serves) or out (nothing serves)",
    &["team", "state"],
);
pub(crate) const TEAM_SINCE: Family = gauge(
    "serin_team_last_good_timestamp_seconds",
    "Unix time at which the version of the team file that serves came into force",
    &["team"],
)
.with_unit(Unit::Seconds);
pub(crate) const SNAPSHOT_VERSION: Family =
    gauge("serin_snapshot_version", "Version of the snapshot that was published last", &[]);
pub(crate) const BUILD_INFO: Family =
    gauge("serin_build_info", "Always 1; the label holds the version of this program", &["version"]);
pub(crate) const DROPPED_SERIES: Family = counter(
    "serin_metrics_dropped_series_total",
    "Times a series was refused because its family was full; its counts go to the overflow series",
    &[],
);
pub(crate) const PROCESS_RESIDENT_MEMORY: Family =
    gauge("process_resident_memory_bytes", "Resident memory of the process", &[]).with_unit(Unit::Bytes);
pub(crate) const PROCESS_CPU: Family =
    counter("process_cpu_seconds_total", "User and system CPU time the process has spent", &[])
        .with_unit(Unit::Seconds);
pub(crate) const PROCESS_OPEN_FDS: Family = gauge("process_open_fds", "Open file descriptors", &[]);
pub(crate) const PROCESS_MAX_FDS: Family =
    gauge("process_max_fds", "Soft limit of open file descriptors; left out when unlimited", &[]);
pub(crate) const PROCESS_START_TIME: Family =
    gauge("process_start_time_seconds", "Unix time at which the process started", &[]).with_unit(Unit::Seconds);

/// Every family, each once. The documentation lists the same.
pub const FAMILIES: &[Family] = &[
    REQUESTS,
    REQUEST_DURATION,
    RESPONSE_FAILURES,
    RETRIES,
    SPLIT_CHOICES,
    SPLIT_REDISTRIBUTED,
    MIRROR_REQUESTS,
    SPLIT_WEIGHT,
    ENDPOINTS,
    NAMER_AGE,
    NAMER_FAILING,
    ROLLOUT_INFO,
    ROLLOUT_PHASE,
    ROLLOUT_WEIGHT,
    ROLLOUT_STEP_SECONDS,
    ROLLOUT_FAILED_CHECKS,
    ROLLOUT_PAUSED,
    ROLLOUT_HELD,
    ROLLOUT_GATE_WAIT,
    ROLLOUT_DURABLE,
    ROLLOUT_EVIDENCE,
    ROLLOUT_EVIDENCE_MAX,
    ROLLOUT_REQUESTS,
    ROLLOUT_FAILURES,
    ROLLOUT_EVENTS,
    ROLLOUT_DURATION,
    ROLLOUT_HOOK_DURATION,
    OUTSIDE_JOBS,
    FLAGGER_INFO,
    FLAGGER_CANARY_TOTAL,
    FLAGGER_CANARY_STATUS,
    FLAGGER_CANARY_WEIGHT,
    FLAGGER_CANARY_DURATION,
    FLAGGER_METRIC_ANALYSIS,
    FLAGGER_SUCCESSES,
    FLAGGER_FAILURES,
    CONNECTIONS_ACCEPTED,
    CONNECTIONS_REFUSED,
    CONNECTIONS_ACTIVE,
    REQUESTS_ACTIVE,
    UPSTREAM_CONNECTS,
    UPSTREAM_CONNECTIONS,
    HTTP2_FLOODS,
    CONTEXT_HEADERS_STRIPPED,
    UNHELD,
    BINDING_CACHE_LOOKUPS,
    BINDING_CACHE_EVICTIONS,
    RELOADS,
    RELOAD_SUCCESSFUL,
    RELOAD_TIMESTAMP,
    TEAM_STATE,
    TEAM_SINCE,
    SNAPSHOT_VERSION,
    DTAB_NAMESPACES,
    DTAB_WRITES,
    BUILD_INFO,
    DROPPED_SERIES,
    PROCESS_RESIDENT_MEMORY,
    PROCESS_CPU,
    PROCESS_OPEN_FDS,
    PROCESS_MAX_FDS,
    PROCESS_START_TIME,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[track_caller]
    fn check_stem(family: Family, stem: &str) {
        assert_eq!(family.stem(), stem);
    }

    #[test]
    fn a_stem_has_neither_unit_nor_total() {
        check_stem(REQUESTS, "serin_requests");
        check_stem(REQUEST_DURATION, "serin_request_duration");
        check_stem(PROCESS_CPU, "process_cpu");
        check_stem(PROCESS_OPEN_FDS, "process_open_fds");
    }

    #[test]
    fn every_family_is_listed_once() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
    }

    #[test]
    fn names_carry_their_unit_and_counters_end_in_total() {
        for family in FAMILIES {
            // a gauge by that name is Flagger's own
            let counts = family.kind == Kind::Counter || *family == FLAGGER_CANARY_TOTAL;
            assert_eq!(family.name.ends_with("_total"), counts, "{}", family.name);
            if let Some(unit) = family.unit {
                assert!(family.name.trim_end_matches("_total").ends_with(unit.as_str()), "{}", family.name);
            }
        }
    }

    #[test]
    fn help_is_one_plain_sentence_without_its_full_stop() {
        for family in FAMILIES {
            let help = family.help;
            assert!(!help.is_empty() && !help.ends_with('.'), "{}", family.name);
            assert!(!help.contains(['\\', '\n']), "{}", family.name);
        }
    }
}
