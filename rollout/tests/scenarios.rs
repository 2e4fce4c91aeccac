//! Flagger's own behaviour, tick by tick: every case of a scenario file, through the machine that production runs.
//!
//! `SERIN_ROLLOUT_SCENARIOS=FILE` runs another file of the same format.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on stops loudly; the lints exempt only functions marked as tests, not their helpers"
)]

use serde_json::Value;
use serin_rollout::event::Severity;
use serin_rollout::{
    Analysis, Answer, Hook, HookKind, Metric, MetricSource, Pace, Phase, Plan, Ppm, Readiness, Reading, Revision,
    Rollout, Router, State, Tick, TimestampMs,
};

#[test]
fn every_case_goes_tick_for_tick() {
    let path = std::env::var("SERIN_ROLLOUT_SCENARIOS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rollout-scenarios.json").into());
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert!(!cases.is_empty(), "{path} has no case");
    let mut wrong = Vec::new();
    let mut reasons_differ = Vec::new();
    for case in &cases {
        let id = case["id"].as_str().unwrap_or("without id");
        match check_case(case) {
            Ok(diagnosis) => reasons_differ.extend(diagnosis.map(|text| format!("{id}: {text}"))),
            Err(text) => wrong.push(format!("{id}: {text}")),
        }
    }
    for line in &reasons_differ {
        eprintln!("only for diagnosis: {line}");
    }
    eprintln!("{} cases, {} differ", cases.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `Err`: a weight, a phase or a count is wrong. `Ok(Some(_))`: only reasons, alerts or hooks are told differently.
fn check_case(case: &Value) -> Result<Option<String>, String> {
    let expect = &case["expect"];
    if let Some(accepted) = expect["accepted"].as_bool() {
        let plan = analysis(&case["config"]).and_then(|analysis| Plan::new(analysis).map_err(|e| e.to_string()));
        return if plan.is_ok() == accepted { Ok(None) } else { Err(format!("accepted: {accepted}, but {plan:?}")) };
    }
    if !expect["phases"].is_array() {
        return Ok(None); // told in words, not in ticks
    }
    let seen = World::new(case)?.run(case);
    for key in ["weights", "phases", "failed_checks_by_tick", "status_weight"] {
        check_list(key, &expect[key], &seen[key])?;
    }
    for key in ["phase", "failed_checks", "serving"] {
        if !expect[key].is_null() && expect[key] != seen[key] {
            return Err(format!("{key}: expected {}, got {}", expect[key], seen[key]));
        }
    }
    let told = ["reasons", "alerts", "hooks_called", "iterations", "mirrored"]
        .into_iter()
        .find_map(|key| check_list(key, &expect[key], &seen[key]).err());
    Ok(told)
}

fn check_list(key: &str, expected: &Value, seen: &Value) -> Result<(), String> {
    if expected.is_null() || expected == seen {
        return Ok(());
    }
    Err(format!("{key}:\n  expected {expected}\n  got      {seen}"))
}

/// What surrounds the machine in a case: its configuration, the webhooks, the readiness of both sides.
struct World {
    rollout: Rollout,
    config: Value,
    target: Revision,
    origin: Revision,
    canary: Readiness,
    primary: Readiness,
    metrics_down: bool,
    routing_rewritten: bool,
}

impl World {
    fn new(case: &Value) -> Result<World, String> {
        let start = &case["start"];
        let config = case["config"].clone();
        let plan = Plan::new(analysis(&config)?).map_err(|error| error.to_string())?;
        let phase = Phase::from_flagger_name(start["phase"].as_str().unwrap_or_default()).ok_or("unknown phase")?;
        let revision = |key: &str| start[key].as_str().and_then(|text| text.parse::<Revision>().ok());
        let applied = revision("applied").or_else(|| revision(if phase.is_active() { "target" } else { "promoted" }));
        let weight = Ppm::from_percent(u32::try_from(start["weight"].as_u64().unwrap_or(0)).unwrap()).unwrap();
        let state = State {
            phase,
            weight,
            shown_weight: weight,
            failed_checks: u32::try_from(start["failedChecks"].as_u64().unwrap_or(0)).unwrap(),
            applied,
            promoted: revision("promoted"),
            serving: revision("promoted"),
            ..State::default()
        };
        Ok(World {
            rollout: Rollout::new(Pace::Interval(plan, None), state, TimestampMs(0)),
            config,
            origin: "origin".parse().unwrap(),
            target: revision("target").ok_or("no target")?,
            canary: Readiness::Ready,
            primary: Readiness::Ready,
            metrics_down: false,
            routing_rewritten: false,
        })
    }

    fn run(&mut self, case: &Value) -> Value {
        let traffic = case["traffic"].as_array().unwrap();
        let events = case["events"].as_array().cloned().unwrap_or_default();
        let mut seen = serde_json::Map::new();
        for at in 0..traffic.len() {
            for event in events.iter().filter(|event| event["at"].as_u64() == Some(at as u64)) {
                self.apply(event);
            }
            let answers = self.answers(&events, at);
            let readings = self.readings(traffic, at);
            let suspended = self.config["suspend"].as_bool().unwrap_or(false);
            if self.routing_rewritten && !suspended {
                self.rollout.set_routing(Ppm::ZERO, false);
                self.routing_rewritten = false;
            }
            let wanted = self.rollout.wanted_hooks(&self.target);
            let decision = self.rollout.tick(
                &Tick {
                    target: &self.target,
                    origin: &self.origin,
                    canary: self.canary,
                    primary: self.primary,
                    answers: &answers,
                    readings: &readings,
                    skip_analysis: self.config["skipAnalysis"].as_bool().unwrap_or(false),
                    suspended,
                },
                TimestampMs(at as u64 * 60_000),
            );
            let hooks = hooks(&self.config);
            for asked in decision.asked.iter().filter(|at| hooks[**at].kind != HookKind::PostRollout) {
                assert!(wanted.contains(asked), "{} was asked and not wanted", hooks[*asked].name);
            }
            let codes: Vec<_> = decision.events.iter().map(|e| e.code()).filter(|c| *c != "compat-hazard").collect();
            push(&mut seen, "reasons", codes.into());
            let alerts: Vec<_> = decision.alerts().map(severity).collect();
            push(&mut seen, "alerts", alerts.into());
            let asked: Vec<_> = decision.asked.iter().map(|at| hooks[*at].name.clone()).collect();
            push(&mut seen, "hooks_called", asked.into());
            self.look(&mut seen);
        }
        Value::Object(seen)
    }

    fn look(&self, seen: &mut serde_json::Map<String, Value>) {
        let state = self.rollout.state();
        push(seen, "weights", percent(state.weight));
        push(seen, "phases", state.phase.flagger_name().into());
        push(seen, "failed_checks_by_tick", state.failed_checks.into());
        push(seen, "status_weight", percent(state.shown_weight));
        push(seen, "iterations", state.iterations.into());
        push(seen, "mirrored", state.mirrored.into());
        seen.insert("phase".into(), state.phase.flagger_name().into());
        seen.insert("failed_checks".into(), state.failed_checks.into());
        let serving = state.serving.as_ref().map(Revision::as_str);
        seen.insert("serving".into(), serde_json::json!({ "primary_revision": serving }));
    }

    fn apply(&mut self, event: &Value) {
        let value = &event["value"];
        match event["do"].as_str().unwrap() {
            "new_revision" => self.target = event["rev"].as_str().unwrap().parse().unwrap(),
            "canary_ready" => self.canary = readiness(value),
            "primary_ready" => self.primary = readiness(value),
            "metrics_server" => self.metrics_down = value == "down",
            "set" => self.set(event["field"].as_str().unwrap(), value),
            "edit_analysis" => {
                let analysis_block = self.config["analysis"].as_object_mut().unwrap();
                for (key, value) in value.as_object().unwrap() {
                    if value.is_null() {
                        analysis_block.remove(key);
                    } else {
                        analysis_block.insert(key.clone(), value.clone());
                    }
                }
                if let Ok(plan) = Plan::new(analysis(&self.config).unwrap()) {
                    self.rollout.set_pace(Pace::Interval(plan, None));
                }
            }
            "webhook" | "controller_restart" => {}
            other => panic!("unknown event {other}"),
        }
    }

    /// Sets one field of the object. Anything of its service makes the router's object be written anew, which on some
    /// routers drops the weight.
    fn set(&mut self, field: &str, value: &Value) {
        if let Some(field) = field.strip_prefix("analysis.") {
            let edit = serde_json::json!({ "do": "edit_analysis", "value": { field: value } });
            return self.apply(&edit);
        }
        let provider = self.config["provider"].as_str().unwrap_or("istio").to_owned();
        self.config[field] = value.clone();
        if field.starts_with("service") {
            self.routing_rewritten = provider == "istio" || provider.starts_with("gatewayapi");
        }
    }

    fn answers(&self, events: &[Value], at: usize) -> Vec<Answer> {
        hooks(&self.config).iter().map(|hook| answer(hook, events, at as u64)).collect()
    }

    fn readings(&self, traffic: &[Value], at: usize) -> Vec<Reading> {
        let analysis = &self.config["analysis"];
        let metrics = analysis["metrics"].as_array().cloned().unwrap_or_default();
        let interval_ms = duration_ms(&analysis["interval"]).unwrap_or(60_000).max(10_000);
        metrics.iter().map(|metric| self.reading(metric, interval_ms, &traffic[..=at])).collect()
    }

    fn reading(&self, metric: &Value, interval_ms: u64, traffic: &[Value]) -> Reading {
        if self.metrics_down {
            return Reading::ProviderError;
        }
        let name = metric["name"].as_str().unwrap();
        let window_ms = duration_ms(&metric["interval"]).unwrap_or(60_000);
        let entries = usize::try_from(window_ms.div_ceil(interval_ms)).unwrap().clamp(1, traffic.len());
        let window = &traffic[traffic.len() - entries..];
        let sum = |key: &str| window.iter().filter_map(|entry| entry["canary"][key].as_f64()).sum::<f64>();
        let (ok, fail) = (sum("ok"), sum("fail"));
        if metric["templateRef"].is_null() && (name == "request-success-rate" || name == "request-duration") {
            if ok + fail == 0.0 {
                return Reading::NoValues;
            }
            let slowest = window.iter().filter_map(|entry| entry["canary"]["p99_ms"].as_f64()).fold(f64::NAN, f64::max);
            return Reading::Value(if name == "request-duration" { slowest } else { 100.0 * ok / (ok + fail) });
        }
        match &traffic[traffic.len() - 1]["custom"][name] {
            Value::Number(value) => Reading::Value(value.as_f64().unwrap()),
            Value::String(_) => Reading::ProviderError,
            _ => Reading::NoValues,
        }
    }
}

fn push(seen: &mut serde_json::Map<String, Value>, key: &str, value: Value) {
    seen.entry(key).or_insert_with(|| Value::Array(Vec::new())).as_array_mut().unwrap().push(value);
}

fn percent(share: Ppm) -> Value {
    assert_eq!(share.get() % 10_000, 0, "{share} is no whole percent");
    (share.get() / 10_000).into()
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
    }
}

fn readiness(value: &Value) -> Readiness {
    match value.as_str().unwrap() {
        "ok" => Readiness::Ready,
        "retriable" => Readiness::Retriable,
        "deadline" => Readiness::Deadline,
        other => panic!("unknown readiness {other}"),
    }
}

fn answer(hook: &Hook, events: &[Value], at: u64) -> Answer {
    let holds = |event: &&Value| {
        let from = event["at"].as_u64().unwrap();
        let until = event["until"].as_u64().unwrap_or(from);
        event["do"] == "webhook" && event["name"] == hook.name.as_str() && (from..=until).contains(&at)
    };
    let default = if hook.kind == HookKind::Rollback { 403 } else { 200 };
    match events.iter().rfind(holds).map(|event| &event["status"]) {
        None => Answer::from_status_as_flagger(default),
        Some(Value::Number(status)) => Answer::from_status_as_flagger(u16::try_from(status.as_u64().unwrap()).unwrap()),
        Some(_) => Answer::Refused,
    }
}

fn duration_ms(value: &Value) -> Option<u64> {
    let text = value.as_str()?;
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().ok()?;
    match text[digits.len()..].chars().next()? {
        's' => Some(number * 1_000),
        'm' if !text.ends_with("ms") => Some(number * 60_000),
        _ => None,
    }
}

fn hooks(config: &Value) -> Vec<Hook> {
    let hook = |hook: &Value| Hook {
        name: hook["name"].as_str().unwrap_or_default().into(),
        kind: match hook["type"].as_str().unwrap_or("rollout") {
            "confirm-rollout" => HookKind::ConfirmRollout,
            "pre-rollout" => HookKind::PreRollout,
            "confirm-traffic-increase" => HookKind::ConfirmTrafficIncrease,
            "confirm-promotion" => HookKind::ConfirmPromotion,
            "rollback" => HookKind::Rollback,
            "post-rollout" => HookKind::PostRollout,
            "event" => HookKind::Event,
            _ => HookKind::Rollout,
        },
    };
    config["analysis"]["webhooks"].as_array().map_or(Vec::new(), |hooks| hooks.iter().map(hook).collect())
}

/// The block as plain data, or the mistake that only its text can have.
fn analysis(config: &Value) -> Result<Analysis, String> {
    let block = config["analysis"].as_object().ok_or("no analysis")?;
    let block = Value::Object(block.clone());
    let list = |key: &str| block[key].as_array().cloned().unwrap_or_default();
    if list("webhooks").iter().any(|hook| !hook["name"].is_string() || !hook["url"].is_string()) {
        return Err("a webhook needs name and url".into());
    }
    if list("metrics").iter().any(|metric| !metric["name"].is_string()) {
        return Err("a metric needs a name".into());
    }
    if list("alerts").iter().any(|alert| !alert["name"].is_string() || alert["providerRef"].is_null()) {
        return Err("an alert needs name and providerRef".into());
    }
    if !block["interval"].is_null() && duration_ms(&block["interval"]).is_none() {
        return Err("interval is no duration".into());
    }
    let provider = config["provider"].as_str().unwrap_or("istio");
    Ok(Analysis {
        interval_ms: duration_ms(&block["interval"]),
        threshold: block["threshold"].as_i64(),
        step_weight: block["stepWeight"].as_i64(),
        step_weights: block["stepWeights"].as_array().map(|list| list.iter().filter_map(Value::as_i64).collect()),
        max_weight: block["maxWeight"].as_i64(),
        step_weight_promotion: block["stepWeightPromotion"].as_i64(),
        iterations: block["iterations"].as_i64(),
        matches: !list("match").is_empty(),
        mirror: block["mirror"].as_bool().unwrap_or(false),
        metrics: list("metrics").iter().map(metric).collect(),
        hooks: hooks(config),
        cookies: block["sessionAffinity"].as_object().map(|affinity| {
            let name = |key: &str| affinity.get(key).and_then(Value::as_str).map(str::to_owned);
            (name("cookieName").unwrap_or_default(), name("primaryCookieName"))
        }),
        router: router(provider),
    })
}

fn router(provider: &str) -> Router {
    match provider {
        "kubernetes" => Router::None,
        "istio" => Router::Full,
        gateway if gateway.starts_with("gatewayapi") => Router::WeightsMirrorsBlueGreen,
        _ => Router::Weights,
    }
}

fn metric(metric: &Value) -> Metric {
    let name = metric["name"].as_str().unwrap();
    let source = match name {
        _ if !metric["templateRef"].is_null() => MetricSource::Template,
        "request-success-rate" => MetricSource::SuccessRate,
        "request-duration" => MetricSource::Duration,
        _ if metric["query"].as_str().is_some_and(|query| !query.is_empty()) => MetricSource::Query,
        _ => MetricSource::Unknown,
    };
    let range = metric["thresholdRange"].as_object().map(|range| {
        let end = |key: &str| range.get(key).and_then(Value::as_f64);
        (end("min"), end("max"))
    });
    Metric { name: name.into(), source, range, threshold: metric["threshold"].as_f64().unwrap_or(0.0) }
}
