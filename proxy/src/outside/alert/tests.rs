use std::sync::Arc;

use serde_json::{Value, json};
use serin_config::model::{AlertKind, AlertProvider, MatchRule, Mirror, Secret, Strategy, When};
use serin_rollout::Ppm;
use serin_rollout::event::Severity;

use super::super::tests::peer::{Peer, Request, answer};
use super::super::tests::{eventually, start};
use super::super::{Counts, Job, JobKind, Outside, WAITING_MAX};
use super::{ALERT_REPEAT_AFTER_MS, ALERT_RETRIES, AlertMessage, Heard, RECENT_MAX, Recent, routing};

fn provider(kind: AlertKind, address: String) -> AlertProvider {
    AlertProvider {
        name: format!("{kind:?}"),
        kind,
        address: Secret::Plain(address),
        channel: Some("canaries".into()),
        username: "serin".into(),
        token: None,
        proxy: None,
        template: None,
    }
}

fn alert(severity: Severity, text: &str) -> AlertMessage {
    AlertMessage {
        rollout: "world".into(),
        namespace: "outgoing".into(),
        revision: "/srv/world-v2@7".into(),
        phase: "Failed".into(),
        code: "rollback:threshold".into(),
        text: text.into(),
        severity,
        fields: vec![("Target".into(), "Rollout/world.outgoing".into())],
        weight_ppm: 5000,
        run_started_ms: 1,
        at_ms: 1_440_938_160_123,
    }
}

fn tell(outside: &Outside, provider: &AlertProvider, least: Severity, alert: AlertMessage) {
    assert!(outside.submit(Job::Alert { provider: Arc::new(provider.clone()), least, alert }));
}

/// What a provider of this kind is sent, at this path.
fn sent_to(kind: AlertKind, path: &str, change: impl FnOnce(&mut AlertProvider), alert: AlertMessage) -> Request {
    let peer = Peer::answers(vec![answer(200, "ok")]);
    let mut provider = provider(kind, peer.url(path));
    change(&mut provider);
    let (outside, _answers) = start();
    tell(&outside, &provider, Severity::Info, alert);
    let request = peer.requests(1).remove(0);
    assert_eq!(request.field("content-type"), Some("application/json"));
    eventually("it is counted", || outside.counts(JobKind::Alert).done == 1);
    request
}

#[track_caller]
fn check(kind: AlertKind, path: &str, severity: Severity, wanted_path: &str, wanted: &Value) {
    let request = sent_to(kind, path, |_| {}, alert(severity, "Failed checks <5>"));
    assert_eq!(request.line, format!("POST {wanted_path} HTTP/1.1"));
    assert_eq!(&request.json(), wanted);
}

fn slack(color: &str) -> Value {
    json!({
        "channel": "canaries",
        "username": "serin",
        "icon_url": "",
        "icon_emoji": ":rocket:",
        "attachments": [{
            "color": color,
            "author_name": "world.outgoing",
            "text": "Failed checks <5>",
            "mrkdwn_in": ["text"],
            "fields": [{"title": "Target", "value": "Rollout/world.outgoing", "short": false}],
        }],
    })
}

// ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn slack_and_its_likes_get_one_attachment() {
    check(AlertKind::Slack, "/services/T/B/X", Severity::Error, "/services/T/B/X", &slack("danger"));
    check(AlertKind::Slack, "/services/T/B/X", Severity::Warn, "/services/T/B/X", &slack("good"));
    check(AlertKind::Discord, "/api/webhooks/1/x", Severity::Info, "/api/webhooks/1/x/slack", &slack("good"));
    check(AlertKind::Discord, "/api/webhooks/1/x/slack", Severity::Info, "/api/webhooks/1/x/slack", &slack("good"));
    check(AlertKind::Rocket, "/hooks/1", Severity::Info, "/hooks/1", &slack("#0076D7"));
    check(AlertKind::Rocket, "/hooks/1", Severity::Error, "/hooks/1", &slack("#FF0000"));
}

#[test]
fn teams_gets_a_connector_card_or_for_workflows_an_adaptive_one() {
    let facts = json!([{"name": "Target", "value": "Rollout/world.outgoing"}]);
    let section = json!({"activityTitle": "Failed checks <5>", "activitySubtitle": "world.outgoing", "facts": facts});
    let card = json!({
        "@type": "MessageCard",
        "@context": "http://schema.org/extensions",
        "themeColor": "FF0000",
        "summary": "world.outgoing",
        "sections": [section],
    });
    check(AlertKind::MsTeams, "/webhookb2/1", Severity::Error, "/webhookb2/1", &card);
    let path = "/workflows/1/triggers/manual/paths/invoke?api-version=1&sig=x";
    let body = sent_to(AlertKind::MsTeams, path, |_| {}, alert(Severity::Error, "no")).json();
    assert_eq!(body["type"], "message");
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    let card = &attachment["content"];
    assert_eq!((&card["type"], &card["version"]), (&json!("AdaptiveCard"), &json!("1.4")));
    assert_eq!((&card["body"][0]["text"], &card["body"][0]["color"]), (&json!("no"), &json!("Attention")));
    let facts = json!([{"title": "Target", "value": "Rollout/world.outgoing"}]);
    assert_eq!((&card["body"][1]["text"], &card["body"][2]["facts"]), (&json!("world.outgoing"), &facts));
}

#[test]
fn gchat_gets_a_card_with_escaped_text() {
    let text = |text: &str| json!({"textParagraph": {"text": text}});
    let widgets =
        [text("<font color=\"#FF0000\">Failed checks &lt;5&gt;</font>"), text("<b>Target</b>: Rollout/world.outgoing")];
    let card = json!({"cards": [{
        "header": {"title": "world.outgoing", "subtitle": "/srv/world-v2@7"},
        "sections": [{"widgets": widgets}],
    }]});
    check(AlertKind::Gchat, "/v1/spaces/x?key=y", Severity::Error, "/v1/spaces/x?key=y", &card);
}

#[test]
fn alertmanager_gets_one_alert_that_stands_and_the_others_end() {
    let request = sent_to(AlertKind::Alertmanager, "/prefix/", |_| {}, alert(Severity::Warn, "waits"));
    assert_eq!(request.line, "POST /prefix/api/v2/alerts HTTP/1.1");
    let body = request.json();
    let names: Vec<&Value> = body.as_array().unwrap().iter().map(|one| &one["labels"]["alertname"]).collect();
    assert_eq!(names, ["SerinRolloutProgress", "SerinRolloutWaiting", "SerinRolloutFailed"]);
    assert_eq!(
        body[1]["labels"],
        json!({
            "alertname": "SerinRolloutWaiting",
            "rollout": "world",
            "namespace": "outgoing",
            "severity": "warn",
        })
    );
    let annotations = json!({
        "summary": "waits",
        "description": "Target: Rollout/world.outgoing",
        "revision": "/srv/world-v2@7",
        "phase": "Failed",
        "code": "rollback:threshold",
        "weight": "0.5",
    });
    assert_eq!(body[1]["annotations"], annotations);
    let moments: Vec<[&Value; 2]> = [0, 1, 2].map(|i| [&body[i]["startsAt"], &body[i]["endsAt"]]).to_vec();
    let (now, tomorrow) = (json!("2015-08-30T12:36:00Z"), json!("2015-08-31T12:36:00Z"));
    assert_eq!(moments, [[&Value::Null, &now], [&now, &tomorrow], [&Value::Null, &now]]);

    let body = sent_to(AlertKind::Alertmanager, "/api/v2/alerts", |_| {}, alert(Severity::Info, "fine")).json();
    assert_eq!((&body[0]["startsAt"], &body[0]["endsAt"]), (&now, &json!("2015-08-30T12:41:00Z")));
    assert_eq!((&body[1]["endsAt"], &body[2]["endsAt"]), (&now, &now));
}

#[test]
fn webhook_gets_our_own_shape_or_the_template() {
    check(
        AlertKind::Webhook,
        "/x?y=1",
        Severity::Error,
        "/x?y=1",
        &json!({
            "name": "world",
            "namespace": "outgoing",
            "revision": "/srv/world-v2@7",
            "phase": "Failed",
            "code": "rollback:threshold",
            "severity": "error",
            "text": "Failed checks <5>",
            "weight": "0.5",
            "timestamp": "1440938160123",
            "fields": {"Target": "Rollout/world.outgoing"},
        }),
    );
    let template = r#"{"a":"{{text}}","b":[{{weight}},"{{severity}} {{name}}.{{namespace}} {{revision}}"],
"c":"{{code}} {{phase}} {{timestamp}}"}"#;
    let request = sent_to(
        AlertKind::Webhook,
        "/",
        |provider| provider.template = Some(template.into()),
        alert(Severity::Warn, "\"quoted\"\n\\"),
    );
    let wanted = json!({
        "a": "\"quoted\"\n\\",
        "b": [0.5, "warn world.outgoing /srv/world-v2@7"],
        "c": "rollback:threshold Failed 1440938160123",
    });
    assert_eq!(request.json(), wanted);
}

#[test]
fn token_and_proxy_are_used() {
    let token = |provider: &mut AlertProvider| provider.token = Some(Secret::Plain("xoxb-1\n".into()));
    let request = sent_to(AlertKind::Slack, "/api/chat.postMessage", token, alert(Severity::Info, "x"));
    assert_eq!(request.field("authorization"), Some("Bearer xoxb-1"));

    let proxy = Peer::answers(vec![answer(200, "ok")]);
    let mut behind = provider(AlertKind::Slack, "http://chat.invalid/services/1".into());
    behind.proxy = Some(proxy.url(""));
    let (outside, _answers) = start();
    tell(&outside, &behind, Severity::Info, alert(Severity::Info, "x"));
    let request = proxy.requests(1).remove(0);
    assert_eq!(request.line, "POST http://chat.invalid/services/1 HTTP/1.1");
}

// ── whether ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn severity_decides_who_hears() {
    for (least, told) in [(Severity::Info, 3), (Severity::Warn, 2), (Severity::Error, 1)] {
        let peer = Peer::answers(vec![answer(200, "ok")]);
        let provider = provider(AlertKind::Slack, peer.url("/"));
        let (outside, _answers) = start();
        for severity in [Severity::Info, Severity::Warn, Severity::Error] {
            tell(&outside, &provider, least, alert(severity, &format!("{severity:?}")));
        }
        // The loudest comes last, and everybody hears it.
        let texts: Vec<Value> =
            peer.requests(told).iter().map(|r| r.json()["attachments"][0]["text"].clone()).collect();
        assert_eq!(texts, ["Info", "Warn", "Error"][3 - told..]);
        assert_eq!(peer.count(), told);
    }
}

#[test]
fn quiet_alert_still_ends_the_loud_one_at_an_alertmanager() {
    let peer = Peer::answers(vec![answer(200, "")]);
    let provider = provider(AlertKind::Alertmanager, peer.url(""));
    let (outside, _answers) = start();
    tell(&outside, &provider, Severity::Error, alert(Severity::Info, "fine"));
    let body = peer.requests(1)[0].json();
    for one in body.as_array().unwrap() {
        assert_eq!((one.get("startsAt"), &one["endsAt"]), (None, &json!("2015-08-30T12:36:00Z")), "all end");
    }
}

#[test]
fn same_alert_is_told_once_and_again_when_it_is_news() {
    let peer = Peer::answers(vec![answer(200, "ok")]);
    let provider = provider(AlertKind::Webhook, peer.url("/"));
    let (outside, _answers) = start();
    let waits = alert(Severity::Warn, "waits");
    let another_run = AlertMessage { run_started_ms: 2, ..waits.clone() };
    let later = AlertMessage { at_ms: waits.at_ms + 1000, ..waits.clone() };
    let other = alert(Severity::Warn, "goes on");
    for alert in [&waits, &later, &waits, &other, &waits, &waits, &another_run, &another_run] {
        tell(&outside, &provider, Severity::Info, alert.clone());
    }
    let last = alert(Severity::Error, "end");
    tell(&outside, &provider, Severity::Info, last);
    let texts: Vec<Value> = peer.requests(5).iter().map(|request| request.json()["text"].clone()).collect();
    assert_eq!(texts, ["waits", "goes on", "waits", "waits", "end"]);
}

#[test]
fn memory_of_what_was_told_is_bounded_in_number_and_time() {
    let recent = Recent::default();
    let of = |number: usize| AlertMessage { rollout: number.to_string().into(), ..alert(Severity::Info, "x") };
    for number in 0..=RECENT_MAX {
        recent.add("p", &of(number), 0);
    }
    assert_eq!(recent.0.lock().unwrap().len(), RECENT_MAX);
    assert!(!recent.has("p", &of(0), 1) && recent.has("p", &of(1), 1));
    assert!(!recent.has("other", &of(1), 1));
    assert!(recent.has("p", &of(1), ALERT_REPEAT_AFTER_MS - 1) && !recent.has("p", &of(1), ALERT_REPEAT_AFTER_MS));
    let none: Option<Heard> = recent.0.lock().unwrap().pop_front();
    assert!(none.is_none(), "what is over is forgotten");
}

// ── failures ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn alert_is_tried_again_and_then_given_up() {
    let busy = Peer::answers(vec![answer(500, ""), answer(429, ""), answer(200, "")]);
    let dead = Peer::answers(vec![answer(500, "")]);
    let (outside, _answers) = start();
    tell(&outside, &provider(AlertKind::Slack, busy.url("/")), Severity::Info, alert(Severity::Info, "x"));
    eventually("it is told", || outside.counts(JobKind::Alert) == Counts { done: 1, failed: 0, dropped: 0 });
    assert_eq!(busy.count(), 3);
    let gone = AlertProvider { name: "gone".into(), ..provider(AlertKind::Slack, dead.url("/")) };
    tell(&outside, &gone, Severity::Info, alert(Severity::Info, "x"));
    eventually("it is given up", || outside.counts(JobKind::Alert) == Counts { done: 1, failed: 1, dropped: 0 });
    assert_eq!(dead.count(), 1 + ALERT_RETRIES as usize);
    // What failed is not taken for told.
    tell(&outside, &gone, Severity::Info, alert(Severity::Info, "x"));
    eventually("it is tried again", || outside.counts(JobKind::Alert).failed == 2);
}

#[test]
fn slack_that_says_no_with_200_has_not_heard() {
    for (kind, failed) in [(AlertKind::Slack, 1), (AlertKind::Rocket, 0)] {
        let peer = Peer::answers(vec![answer(200, r#"{"ok":false,"error":"channel_not_found"}"#)]);
        let (outside, _answers) = start();
        tell(&outside, &provider(kind, peer.url("/")), Severity::Info, alert(Severity::Info, "x"));
        let wanted = Counts { done: 1 - failed, failed, dropped: 0 };
        eventually("it is counted", || outside.counts(JobKind::Alert) == wanted);
    }
}

#[test]
fn broken_settings_lose_the_alert_and_nothing_else() {
    let peer = Peer::answers(vec![answer(200, "ok")]);
    let (outside, _answers) = start();
    let fine = provider(AlertKind::Webhook, peer.url("/"));
    let broken = [
        AlertProvider { address: Secret::Env("SERIN_NO_SUCH_ADDRESS".into()), ..fine.clone() },
        AlertProvider { address: Secret::Plain("nowhere".into()), ..fine.clone() },
        AlertProvider { token: Some(Secret::Plain("a\nb".into())), ..fine.clone() },
        AlertProvider { template: Some("{{text}}".into()), ..fine.clone() },
        AlertProvider { template: Some("{{texts}}".into()), ..fine.clone() },
        AlertProvider { proxy: Some("::".into()), ..fine.clone() },
    ];
    for provider in &broken {
        tell(&outside, provider, Severity::Info, alert(Severity::Info, "x"));
    }
    tell(&outside, &fine, Severity::Info, alert(Severity::Info, "x"));
    let wanted = Counts { done: 1, failed: broken.len() as u64, dropped: 0 };
    eventually("one of them is told", || outside.counts(JobKind::Alert) == wanted);
    assert_eq!(peer.count(), 1);
}

#[test]
fn provider_that_hangs_keeps_the_newest_and_holds_up_no_other() {
    let (peer, open) = super::super::tests::gated();
    let other = Peer::answers(vec![answer(200, "ok")]);
    let (outside, _answers) = start();
    let hanging = provider(AlertKind::Webhook, peer.url("/"));
    for number in 0..=WAITING_MAX + 2 {
        tell(&outside, &hanging, Severity::Info, alert(Severity::Info, &number.to_string()));
        peer.requests(1);
    }
    eventually("the oldest are dropped", || outside.counts(JobKind::Alert).dropped == 2);
    tell(&outside, &provider(AlertKind::Slack, other.url("/")), Severity::Info, alert(Severity::Info, "x"));
    other.requests(1);
    assert_eq!(peer.count(), 1, "it still hangs");
    open.send(()).unwrap();
    let last = peer.requests(1 + WAITING_MAX).pop().unwrap();
    assert_eq!(last.json()["text"], (WAITING_MAX + 2).to_string());
}

// ── fields ────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn routing_reads_as_in_flagger() {
    let check = |strategy: &Strategy, steps: &[u32], wanted: &str| {
        let steps: Vec<Ppm> = steps.iter().map(|tenths| Ppm::new(tenths * 1000).unwrap()).collect();
        assert_eq!(routing(strategy, &steps), wanted);
    };
    let rule = MatchRule { headers: Vec::new(), query: Vec::new(), when: When::default() };
    check(&Strategy::Match(vec![rule]), &[100], "A/B Testing");
    check(&Strategy::Weights, &[], "Blue/Green");
    let mirror = Mirror { share: Ppm::ZERO, methods: Vec::new() };
    check(&Strategy::Mirror(mirror), &[], "Blue/Green");
    check(&Strategy::Weights, &[100, 200, 300, 400, 500], "Weight step: 10 max: 50");
    check(&Strategy::Weights, &[200, 400, 500], "Weight step: 20 max: 50");
    check(&Strategy::Weights, &[500], "Weight step: 50 max: 50");
    check(&Strategy::Weights, &[5, 50, 100, 500], "Weight steps: 0.5,5,10,50 max: 50");
}
