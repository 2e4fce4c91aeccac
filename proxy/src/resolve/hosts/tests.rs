use proptest::prelude::*;

use super::*;

fn user(n: u32) -> User {
    (format!("/#/clusters/{n}").parse().unwrap(), false)
}

fn found(ips: &[&str]) -> Family {
    Family::Found(ips.iter().map(|ip| ip.parse().unwrap()).collect())
}

fn nothing() -> Family {
    Family::Nothing("no such host".into())
}

fn failed() -> Family {
    Family::Failed("timed out".into())
}

/// A host `web.test` that was asked for the first time at moment 0.
fn asked() -> Hosts {
    let mut hosts = Hosts::new(HOSTS_MAX);
    hosts.add("web.test", &user(1), 0);
    assert_eq!(hosts.take_due(0).as_deref(), Some("web.test"));
    hosts
}

/// Takes answers at moment 0 one behind the other, then compares what is known and the wait until the next question.
#[track_caller]
fn check(answers: &[(Family, Family, u32)], known: &str, wait_ms: u64) {
    let mut hosts = asked();
    for (v4, v6, ttl_s) in answers {
        hosts.answered("web.test", Answer { v4: v4.clone(), v6: v6.clone(), ttl_s: *ttl_s }, 0);
    }
    assert_eq!(shown(&hosts), known);
    assert_eq!(hosts.next_due_ms(), Some(wait_ms));
}

fn shown(hosts: &Hosts) -> String {
    match hosts.known("web.test") {
        Known::Bad(why) => format!("bad: {why}"),
        Known::Good(ips) => ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Known::Unknown => "unknown".to_owned(),
    }
}

#[test]
fn a_new_name_is_due_at_once_and_asked_once() {
    let mut hosts = Hosts::new(HOSTS_MAX);
    hosts.add("web.test", &user(1), 7);
    hosts.add("web.test", &user(2), 8);
    assert_eq!(hosts.next_due_ms(), Some(7));
    assert!(hosts.take_due(6).is_none());
    assert!(hosts.take_due(7).is_some());
    assert!(hosts.take_due(8).is_none());
    assert_eq!(shown(&hosts), "unknown");
}

#[test]
fn both_families_are_known_until_their_ttl_ends() {
    check(&[(found(&["10.0.0.2", "10.0.0.1"]), found(&["fd00::1"]), 5)], "10.0.0.1 10.0.0.2 fd00::1", 5_000);
    check(&[(found(&["10.0.0.1"]), nothing(), 5)], "10.0.0.1", 5_000);
}

#[test]
fn the_ttl_has_a_floor_and_a_ceiling() {
    for (ttl_s, wait_ms) in [(0, 1_000), (1, 1_000), (2, 2_000), (300, 300_000), (301, 300_000), (u32::MAX, 300_000)] {
        check(&[(found(&["10.0.0.1"]), nothing(), ttl_s)], "10.0.0.1", wait_ms);
    }
}

#[test]
fn the_first_failure_is_told_and_retried_soon() {
    check(&[(failed(), failed(), 0)], "bad: timed out", 1_000);
    check(&[(nothing(), nothing(), 60)], "bad: no such host", 1_000);
}

#[test]
fn retries_back_off_to_a_ceiling() {
    let waits = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
    for (count, wait_ms) in waits.into_iter().enumerate() {
        check(&vec![(failed(), failed(), 0); count + 1], "bad: timed out", wait_ms);
    }
}

#[test]
fn last_good_addresses_outlive_failures_and_negative_answers() {
    let good = (found(&["10.0.0.1"]), found(&["fd00::1"]), 5);
    check(&[good.clone(), (failed(), failed(), 0)], "10.0.0.1 fd00::1", 1_000);
    check(&[good.clone(), (nothing(), nothing(), 0), (failed(), nothing(), 0)], "10.0.0.1 fd00::1", 2_000);
    check(&[good.clone(), (failed(), failed(), 0), good], "10.0.0.1 fd00::1", 5_000);
}

#[test]
fn one_family_failing_keeps_its_last_good_addresses() {
    let good = (found(&["10.0.0.1"]), found(&["fd00::1"]), 60);
    check(&[good.clone(), (failed(), found(&["fd00::2"]), 60)], "10.0.0.1 fd00::2", 1_000);
    check(&[good, (nothing(), found(&["fd00::2"]), 60)], "fd00::2", 60_000);
}

#[test]
fn rotated_answers_change_nothing() {
    let mut hosts = asked();
    let mut answer = |ips: &[&str]| hosts.answered("web.test", Answer { v4: found(ips), v6: nothing(), ttl_s: 1 }, 0);
    assert!(answer(&["10.0.0.1", "10.0.0.2"]));
    assert!(!answer(&["10.0.0.2", "10.0.0.1"]));
    assert!(answer(&["10.0.0.2"]));
}

#[test]
fn records_end_at_their_limit() {
    for (count, kept) in [(RECORDS_MAX, RECORDS_MAX), (RECORDS_MAX + 1, RECORDS_MAX)] {
        let mut hosts = asked();
        let ips = (0..count).map(|n| IpAddr::from((n as u32).to_be_bytes())).collect();
        hosts.answered("web.test", Answer { v4: Family::Found(ips), v6: nothing(), ttl_s: 1 }, 0);
        assert!(matches!(hosts.known("web.test"), Known::Good(ips) if ips.len() == kept));
    }
}

#[test]
fn names_end_at_their_limit() {
    let mut hosts = Hosts::new(2);
    for name in ["a.test", "b.test", "web.test"] {
        hosts.add(name, &user(1), 0);
    }
    assert_eq!(hosts.len(), 2);
    assert!(matches!(hosts.known("b.test"), Known::Unknown));
    assert_eq!(shown(&hosts), "bad: more than 2 DNS names");
}

#[test]
fn a_name_without_users_is_forgotten() {
    let mut hosts = asked();
    hosts.add("web.test", &user(2), 0);
    hosts.remove("web.test", &user(1));
    assert_eq!(hosts.len(), 1);
    hosts.remove("web.test", &user(2));
    assert_eq!((hosts.len(), hosts.next_due_ms()), (0, None));
    // An answer that comes too late finds nobody.
    assert!(!hosts.answered("web.test", Answer { v4: found(&["10.0.0.1"]), v6: nothing(), ttl_s: 1 }, 0));
}

#[test]
fn a_dormant_name_keeps_what_it_knows_and_wakes_at_once() {
    let mut hosts = asked();
    hosts.answered("web.test", Answer { v4: found(&["10.0.0.1"]), v6: nothing(), ttl_s: 1 }, 0);
    assert!(hosts.take_due(1_000).is_some());
    hosts.rest("web.test");
    assert_eq!(hosts.next_due_ms(), None);
    assert_eq!(shown(&hosts), "10.0.0.1");
    hosts.add("web.test", &user(1), 9_000);
    assert_eq!(hosts.next_due_ms(), Some(9_000));
}

proptest! {
    #[test]
    fn queue_and_names_agree_whatever_happens(steps in prop::collection::vec((0u8..6, 0u32..4, 0u32..3), 0..200)) {
        let mut hosts = Hosts::new(3);
        let mut now_ms = 0;
        for (step, name, by) in steps {
            let name = format!("{name}.test");
            match step {
                0 => hosts.add(&name, &user(by), now_ms),
                1 => hosts.remove(&name, &user(by)),
                2 => drop(hosts.take_due(now_ms)),
                3 => hosts.rest(&name),
                4 => drop(hosts.answered(&name, Answer { v4: found(&["10.0.0.1"]), v6: failed(), ttl_s: by }, now_ms)),
                _ => now_ms += 700,
            }
            prop_assert!(hosts.len() <= 3);
            let due = hosts.hosts.iter().filter_map(|(name, host)| match host.phase {
                Phase::Due { at_ms } => Some((at_ms, Arc::clone(name))),
                Phase::Asked | Phase::Dormant => None,
            });
            prop_assert_eq!(due.collect::<BTreeSet<_>>(), hosts.due.clone());
            prop_assert!(hosts.hosts.values().all(|host| !host.users.is_empty()));
        }
    }
}
