//! End-to-end tests: one binary, one module a feature. Each test starts the real `serin` with a configuration of its
//! own on free ports, between scripted peers of this crate and, where they are installed, peers written by others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on stops loudly; the lints exempt only functions marked as tests, not their helpers"
)]

mod examples_run;
mod life_admin;
mod life_cli;
mod life_editor;
mod life_end;
mod life_reload;
mod limits_load;
mod limits_sizes;
mod limits_times;
mod peer_grpc;
mod peer_nginx;
mod peer_tools;
mod raw;
mod readme_runs;
mod regression;
mod rollout_cli;
mod rollout_dashboard;
mod rollout_life;
mod rollout_outside;
mod rollout_state;
mod rollout_strategies;
mod rollout_traffic;
mod route_consul;
mod route_context;
mod route_diagnosis;
mod route_errors;
mod route_held;
mod route_identifiers;
mod route_mesh;
mod route_namerd;
mod route_names;
mod route_overrides;
mod route_retries;
mod route_rules;
mod route_splits;
mod route_srv;
mod store_dtabs;
mod store_namerd;
mod store_names;
mod support;
mod teams;
mod tidy_tree;
mod wire_blame;
mod wire_faults;
mod wire_floods;
mod wire_framing;
mod wire_http2;
mod wire_hygiene;
mod wire_silence;
mod wire_workers;
