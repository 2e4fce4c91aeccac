use proptest::prelude::*;
use serin_config::dtab::Weight;
use serin_config::model::{Host, HostPort};

use super::answers::{Agent, INSTANCES_MAX, instances};
use super::*;

fn settings() -> Consul {
    Consul {
        agent: HostPort { host: Host::Name("localhost".to_owned()), port: 8500 },
        include_tag: false,
        health: None,
        token: None,
        set_host: false,
        consistency: ConsistencyMode::Default,
        fail_fast: false,
        prefer_service_address: true,
        weights: Vec::new(),
    }
}

#[track_caller]
fn check_instances(settings: &Consul, body: &str, expected: &[&str]) {
    let targets = instances(body.as_bytes(), settings).unwrap();
    let shown: Vec<String> = targets
        .iter()
        .map(|target| match &target.host {
            Host::Ip(ip) => format!("{ip} {} {}", target.port, target.weight),
            Host::Name(name) => format!("{name} {} {}", target.port, target.weight),
            Host::Unix(path) => panic!("{}", path.display()),
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn entries_without_a_usable_address_or_port_are_left_out() {
    let body = r#"[
        {"Address": "10.0.0.1", "ServiceAddress": "", "ServicePort": 80, "ServiceTags": null},
        {"Address": "10.0.0.1", "ServiceAddress": "Web.Test", "ServicePort": 81},
        {"Address": "", "ServicePort": 80}, {"ServicePort": 80}, {},
        {"Address": "10.0.0.1", "ServicePort": 0}, {"Address": "10.0.0.1", "ServicePort": 65536},
        {"Address": "10.0.0.1"}, {"Address": "http://x/", "ServicePort": 80}
    ]"#;
    check_instances(&settings(), body, &["10.0.0.1 80 1", "web.test 81 1"]);
}

#[test]
fn the_greatest_weight_among_the_tags_counts() {
    let weight = |tag: &str, weight| (tag.to_owned(), Weight::new(weight).unwrap());
    let settings = Consul { weights: vec![weight("a", 0.5), weight("b", 7.0)], ..settings() };
    let body = r#"[
        {"Address": "10.0.0.1", "ServicePort": 80, "ServiceTags": ["b", "a", "z"]},
        {"Address": "10.0.0.2", "ServicePort": 80, "ServiceTags": ["a"]},
        {"Address": "10.0.0.3", "ServicePort": 80, "ServiceTags": ["z"]}
    ]"#;
    check_instances(&settings, body, &["10.0.0.1 80 7", "10.0.0.2 80 0.5", "10.0.0.3 80 1"]);
}

#[test]
fn the_worst_check_decides() {
    let entry = |ip: &str, checks: &str| {
        format!(r#"{{"Node": {{"Address": "{ip}"}}, "Service": {{"Port": 80}}, "Checks": {checks}}}"#)
    };
    let body = format!(
        "[{}, {}, {}, {}, {}]",
        entry("10.0.0.1", "null"),
        entry("10.0.0.2", r#"[{"Status": "passing"}, {"Status": "warning"}]"#),
        entry("10.0.0.3", r#"[{"Status": "critical"}, {"Status": "passing"}]"#),
        entry("10.0.0.4", r#"[{"CheckID": "_node_maintenance", "Status": "critical"}]"#),
        entry("10.0.0.5", r#"[{"Status": "unheard of"}]"#),
    );
    for (wanted, expected) in [
        (vec![HealthStatus::Passing], vec!["10.0.0.1 80 1"]),
        (vec![HealthStatus::Passing, HealthStatus::Warning], vec!["10.0.0.1 80 1", "10.0.0.2 80 1"]),
        (vec![HealthStatus::Critical], vec!["10.0.0.3 80 1", "10.0.0.5 80 1"]),
        (vec![HealthStatus::Maintenance], vec!["10.0.0.4 80 1"]),
    ] {
        check_instances(&Consul { health: Some(wanted), ..settings() }, &body, &expected);
    }
}

#[test]
fn instances_end_at_their_limit() {
    let body = |count| format!("[{}]", vec![r#"{"Address":"10.0.0.1","ServicePort":80}"#; count].join(","));
    assert_eq!(instances(body(INSTANCES_MAX).as_bytes(), &settings()).map(|all| all.len()), Ok(INSTANCES_MAX));
    assert!(instances(body(INSTANCES_MAX + 1).as_bytes(), &settings()).is_err());
}

#[test]
fn an_index_only_ever_grows_or_begins_anew() {
    for (asked, answered, expected) in [(0, 5, 5), (5, 5, 5), (5, 9, 9), (9, 5, 0), (5, 0, 0), (0, 0, 0)] {
        assert_eq!(next_index(asked, answered), expected, "{asked}, then {answered}");
    }
}

#[test]
fn names_are_asked_for_in_lower_case() {
    let check = |name: &str, tagged, datacenter: Option<&str>, tag: Option<&str>, service: &str| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let expected = Asked { datacenter: owned(datacenter), tag: owned(tag), service: service.to_owned() };
        assert_eq!(Asked::new(&name.parse().unwrap(), tagged), Some(expected));
    };
    check("/DC1/Web", false, Some("DC1"), None, "web");
    check("/.local/Big/Web", true, None, Some("big"), "web");
    assert_eq!(Asked::new(&"/dc1/\\xff".parse().unwrap(), false), None);
}

#[test]
fn the_domain_of_the_agent_is_where_its_version_has_it() {
    let read = |body: &str| Agent::read(body.as_bytes()).map(|agent| format!("{} {}", agent.datacenter, agent.domain));
    assert_eq!(read(r#"{"Config": {"Datacenter": "dc1", "Domain": "acme.test."}}"#), Ok("dc1 acme.test".to_owned()));
    let newer = r#"{"Config": {"Datacenter": "dc1"}, "DebugConfig": {"DNSDomain": "consul."}}"#;
    assert_eq!(read(newer), Ok("dc1 consul".to_owned()));
    assert_eq!(read(r#"{"Config": {"Datacenter": "dc1"}}"#), Ok("dc1 consul".to_owned()));
    assert!(read("{}").is_err());
}

proptest! {
    #[test]
    fn any_body_is_judged_without_panic(body in any::<Vec<u8>>(), health in any::<bool>()) {
        let settings = Consul { health: health.then(|| vec![HealthStatus::Passing]), ..settings() };
        let _ = instances(&body, &settings);
        let _ = Agent::read(&body);
    }
}
