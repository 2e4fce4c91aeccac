use std::net::SocketAddr;
use std::sync::Arc;

use http::Method;
use proptest::prelude::*;
use serin_config::dtab::{Branch, LeafState, NameTree, Outcome, Path, Rules, Union, Weights, pick};
use serin_config::model::{OnUnhealthy, StickyKey, Strategy, TextMatch, When};

use super::*;
use crate::evidence::SplitEvidence;
use crate::snapshot::{Arms, RolloutSplit};

fn split(strategy: Strategy, affinity: Option<&str>, sticky: Option<StickyKey>) -> SplitInfo {
    let affinity = affinity.map(|cookie| Affinity { cookie: cookie.into(), attributes: "; Max-Age=60; Path=/".into() });
    let path = |text: &str| Path::parse(text).unwrap();
    let arms = Arms { primary: path("/#/clusters/v1"), canary: path("/#/clusters/v2") };
    let evidence = Arc::new(SplitEvidence::new(1));
    SplitInfo {
        router: "out".into(),
        name: "/host/x".into(),
        branches: vec!["/#/clusters/v2".into(), "/#/clusters/v1".into()],
        sticky,
        on_unhealthy: OnUnhealthy::default(),
        rollout: Some(Arc::new(RolloutSplit { name: "x".into(), arms, strategy, affinity, evidence })),
    }
}

fn request(target: &str, fields: &[(&'static str, &str)]) -> (http::Uri, HeaderMap) {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap());
    }
    (target.parse().unwrap(), headers)
}

fn with_asked<R>(request: &(http::Uri, HeaderMap), f: impl FnOnce(&Asked<'_>) -> R) -> R {
    let (uri, headers) = request;
    let peer = SocketAddr::from(([10, 0, 0, 1], 1));
    let parts = Parts {
        method: &Method::GET,
        version: http::Version::HTTP_11,
        host: Some(b"shop"),
        path: uri.path(),
        query: uri.query(),
        headers,
        peer,
    };
    let copied = headers.contains_key("l5d-mirrored");
    f(&Asked { parts, peer: &PeerKey::from(peer.ip()), copied })
}

const RANDOM: u64 = 4711;
const BITS: [u64; 2] = [0x0123_4567_89ab_cdef, 7];
const VALUE: &str = "0123456789abcdef0000000000000007";

/// The draw, and the cookies issued with it.
fn draw(info: &SplitInfo, share_ppm: u32, request: &(http::Uri, HeaderMap)) -> (Chosen, Vec<String>) {
    let mut session = None;
    let chosen =
        with_asked(request, |asked| choose(info, &weights(share_ppm).0, asked, &mut session, &|| BITS, &mut || RANDOM));
    let cookies = session.iter().flat_map(|session| session.cookies());
    (chosen, cookies.map(|line| line.to_str().unwrap().to_owned()).collect())
}

struct Shares([Weight; 2]);

impl Weights for Shares {
    fn weight(&self, _: SplitId, index: u16) -> Option<Weight> {
        self.0.get(usize::from(index)).copied()
    }
}

fn weights(share_ppm: u32) -> Shares {
    Shares([share_ppm, 1_000_000 - share_ppm].map(|part| Weight::new(f64::from(part)).unwrap()))
}

/// Does this draw go to the canary, by the pick that serves requests.
fn is_canary(draw: u64, share_ppm: u32) -> bool {
    let branch = |index| Branch { weight: Weight::ONE, index, tree: NameTree::Leaf(index) };
    let tree = NameTree::Union(Union { split: Some(SplitId(0)), branches: vec![branch(0), branch(1)] });
    let usable = |_: &u16| LeafState::Usable;
    let picked = pick(&tree, &mut |_| draw, &weights(share_ppm), &usable, &Rules::default());
    picked.outcome == Outcome::Leaf(&0)
}

fn text(rule: &str) -> TextMatch {
    match rule.split_once(':').unwrap() {
        ("exact", text) => TextMatch::Exact(text.into()),
        ("prefix", text) => TextMatch::Prefix(text.into()),
        ("suffix", text) => TextMatch::Suffix(text.into()),
        (_, text) => TextMatch::Regex(regex::bytes::Regex::new(&format!("^(?:{text})$")).unwrap()),
    }
}

fn rule(headers: &[(&str, &str)], query: &[(&str, &str)]) -> MatchRule {
    let list = |list: &[(&str, &str)]| list.iter().map(|(name, rule)| ((*name).to_owned(), text(rule))).collect();
    MatchRule { headers: list(headers), query: list(query), when: When::default() }
}

#[track_caller]
fn check_match(rules: &[MatchRule], target: &str, fields: &[(&'static str, &str)], matched: bool) {
    let info = split(Strategy::Match(rules.to_vec()), None, None);
    let (chosen, cookies) = draw(&info, 500_000, &request(target, fields));
    assert_eq!(chosen, Chosen { draw: if matched { 0 } else { u64::MAX }, basis: Basis::Apart });
    assert!(cookies.is_empty());
    assert_eq!(is_canary(chosen.draw, 500_000), matched);
    assert!(!is_canary(chosen.draw, 0), "nobody goes to a canary that has no share");
}

#[test]
fn ab_sends_who_matches_to_the_canary_and_all_others_to_the_primary() {
    for (condition, value, matched) in [
        ("exact:insider", "insider", true),
        ("exact:insider", "Insider", false),
        ("exact:insider", "insiders", false),
        ("prefix:in", "insider", true),
        ("suffix:der", "insider", true),
        ("suffix:in", "insider", false),
        ("regex:in.*", "insider", true),
        ("regex:side", "insider", false),
        ("regex:a|b", "b", true),
        ("regex:a|b", "bc", false),
    ] {
        check_match(&[rule(&[("x-group", condition)], &[])], "/", &[("x-group", value)], matched);
    }
    check_match(&[rule(&[("x-group", "regex:.*")], &[])], "/", &[], false);
}

#[test]
fn a_rule_wants_all_of_its_conditions_and_one_rule_is_enough() {
    let rules = [
        rule(&[("x-group", "exact:insider"), ("host", "exact:shop")], &[("v", "exact:2")]),
        rule(&[("x-always", "exact:canary")], &[]),
    ];
    check_match(&rules, "/?v=2", &[("x-group", "insider")], true);
    check_match(&rules, "/?v=3", &[("x-group", "insider")], false);
    check_match(&rules, "/", &[("x-group", "insider")], false);
    check_match(&rules, "/?v=2", &[], false);
    check_match(&rules, "/", &[("x-always", "canary")], true);
    let posts = MatchRule {
        when: When { methods: vec!["POST".into()], ..When::default() },
        ..rule(&[("x-group", "exact:insider")], &[])
    };
    check_match(&[posts], "/", &[("x-group", "insider")], false);
}

#[test]
fn cookies_are_matched_as_one_field_whatever_lines_they_came_in() {
    let rules = [rule(&[("cookie", "regex:(.*?; )?(canary=always)(;.*)?")], &[])];
    check_match(&rules, "/", &[("cookie", "a=1; canary=always; b=2")], true);
    check_match(&rules, "/", &[("cookie", "a=1"), ("cookie", "canary=always"), ("cookie", "b=2")], true);
    check_match(&rules, "/", &[("cookie", "a=1; canary=never")], false);
    check_match(&rules, "/", &[("cookie", "xcanary=always")], false);
    check_match(&[rule(&[("x-list", "exact:a, b")], &[])], "/", &[("x-list", "a"), ("x-list", "b")], true);
}

#[test]
fn query_parameters_are_decoded_and_the_first_of_a_name_counts() {
    let rules = [rule(&[], &[("user name", "exact:jo+é")])];
    check_match(&rules, "/?user+name=jo%2B%C3%A9", &[], true);
    check_match(&rules, "/?a=1&user%20name=jo%2b%c3%a9&user+name=no", &[], true);
    check_match(&rules, "/?user+name=no&user+name=jo%2B%C3%A9", &[], false);
    check_match(&[rule(&[], &[("flag", "exact:")])], "/?flag", &[], true);
    check_match(&[rule(&[], &[("flag", "exact:")])], "/?flags", &[], false);
    check_match(&[rule(&[], &[("odd", "exact:%4g%")])], "/?odd=%4g%", &[], true);
}

#[test]
fn a_user_without_the_cookie_gets_one_and_is_drawn_by_it() {
    let info = split(Strategy::Weights, Some("id"), None);
    let (first, cookies) = draw(&info, 100_000, &request("/", &[("cookie", "other=1")]));
    assert_eq!(cookies, [format!("id={VALUE}; Max-Age=60; Path=/")]);
    let again = format!("other=1; id={VALUE}");
    let (second, cookies) = draw(&info, 100_000, &request("/", &[("cookie", &again)]));
    assert_eq!((first, cookies.len()), (second, 0));
    assert_eq!(first.basis, Basis::Session(sticky::draw(b"/host/x", VALUE.as_bytes())));
}

#[test]
fn nothing_is_issued_where_there_is_nothing_to_stay_at() {
    let info = split(Strategy::Weights, Some("id"), None);
    for share_ppm in [0, 1_000_000] {
        let (chosen, cookies) = draw(&info, share_ppm, &request("/", &[]));
        assert_eq!((chosen, cookies.len()), (Chosen { draw: RANDOM, basis: Basis::Chance }, 0));
    }
    assert_eq!(draw(&info, 1, &request("/", &[])).1.len(), 1);
    assert_eq!(draw(&info, 999_999, &request("/", &[])).1.len(), 1);
}

#[test]
fn any_value_names_a_session_up_to_its_bound() {
    let info = split(Strategy::Weights, Some("id"), None);
    let bring = |length: usize| draw(&info, 1, &request("/", &[("cookie", &format!("id={}", "x".repeat(length)))]));
    let ((at, none), (beyond, one)) = (bring(SESSION_MAX), bring(SESSION_MAX + 1));
    assert_eq!((none.len(), one.len()), (0, 1));
    assert_eq!(at.basis, Basis::Session(sticky::draw(b"/host/x", &[b'x'; SESSION_MAX])));
    assert_eq!(beyond.basis, Basis::Session(sticky::draw(b"/host/x", VALUE.as_bytes())));
    assert_eq!(bring(0).1.len(), 1, "an empty value names nobody");
}

#[test]
fn a_written_key_goes_before_the_cookie() {
    let info = split(Strategy::Weights, Some("id"), Some(StickyKey::Header("x-user".into())));
    let (chosen, cookies) = draw(&info, 100_000, &request("/", &[("x-user", "jo"), ("cookie", "id=1")]));
    assert_eq!((chosen.basis, cookies.len()), (Basis::Session(sticky::draw(b"/host/x", b"jo")), 0));
    let (chosen, cookies) = draw(&info, 100_000, &request("/", &[("cookie", "id=1")]));
    assert_eq!((chosen.basis, cookies.len()), (Basis::Session(sticky::draw(b"/host/x", b"1")), 0));
}

#[test]
fn a_copy_is_no_evidence_and_gets_no_cookie() {
    let info = split(Strategy::Weights, Some("id"), None);
    for fields in [&[("l5d-mirrored", "1")][..], &[("l5d-mirrored", "1"), ("cookie", "id=1")]] {
        let (chosen, cookies) = draw(&info, 100_000, &request("/", fields));
        assert_eq!((chosen.basis, cookies.len()), (Basis::Apart, 0));
    }
}

#[test]
fn one_session_serves_all_splits_of_a_request_and_keeps_its_name_over_a_wait() {
    let (outer, inner) = (split(Strategy::Weights, Some("a"), None), split(Strategy::Weights, Some("b"), None));
    let request = request("/", &[]);
    let mut session = None;
    let mut bits = BITS;
    for _ in 0..2 {
        session.iter_mut().for_each(|session: &mut Box<Session>| session.restart());
        for info in [&outer, &inner] {
            let weights = weights(1).0;
            with_asked(&request, |asked| choose(info, &weights, asked, &mut session, &|| bits, &mut || RANDOM));
        }
        bits = [9, 9];
    }
    let session = session.unwrap();
    let lines: Vec<_> = session.cookies().iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!(lines, [format!("a={VALUE}; Max-Age=60; Path=/"), format!("b={VALUE}; Max-Age=60; Path=/")]);
}

#[test]
fn cookies_of_one_response_are_bounded() {
    let mut session = Session::new(BITS);
    let affinity = Affinity { cookie: "id".into(), attributes: String::new() };
    for count in 1..=COOKIES_MAX + 1 {
        session.issue(&affinity);
        assert_eq!(session.cookies().len(), count.min(COOKIES_MAX));
    }
}

#[test]
fn bases_are_told_apart_by_split() {
    let mut bases = Bases::default();
    for split in 0..=Draws::MAX as u32 {
        bases.note(SplitId(split), Basis::Session(split.into()));
    }
    assert_eq!(bases.of(SplitId(1)), Basis::Session(1));
    assert_eq!(bases.of(SplitId(Draws::MAX as u32)), Basis::Chance);
    assert_eq!(bases.of(SplitId(99)), Basis::Chance);
}

proptest! {
    /// For every user with a key: by cookie that was issued or brought, by header, or by address.
    #[test]
    fn raising_the_share_moves_users_only_from_the_primary_to_the_canary(
        user in "[!-:<-~]{1,40}",
        mut shares in proptest::collection::vec(0..=1_000_000_u32, 2..8),
    ) {
        shares.sort_unstable();
        let cookie = format!("id={}", user.replace(['"', '\\'], "_"));
        let by_cookie = (split(Strategy::Weights, Some("id"), None), request("/", &[("cookie", &cookie)]));
        let by_header = split(Strategy::Weights, None, Some(StickyKey::Header("x-user".into())));
        let by_address = split(Strategy::Weights, None, Some(StickyKey::Source));
        for (info, request) in
            [by_cookie, (by_header, request("/", &[("x-user", &user)])), (by_address, request("/", &[]))]
        {
            let seen: Vec<bool> =
                shares.iter().map(|&share| is_canary(draw(&info, share, &request).0.draw, share)).collect();
            prop_assert!(seen.is_sorted(), "{seen:?}");
        }
    }

    #[test]
    fn the_request_that_is_issued_a_cookie_goes_where_its_cookie_will_go(high: u64, low: u64, share in 1..1_000_000_u32) {
        let info = split(Strategy::Weights, Some("id"), None);
        let mut session = None;
        let first = with_asked(&request("/", &[]), |asked| {
            choose(&info, &weights(share).0, asked, &mut session, &|| [high, low], &mut || RANDOM)
        });
        let line = session.unwrap().cookies()[0].to_str().unwrap().to_owned();
        let cookie = line.split(';').next().unwrap().to_owned();
        let (next, none) = draw(&info, share, &request("/", &[("cookie", &cookie)]));
        prop_assert_eq!((first, none.len()), (next, 0));
    }

    #[test]
    fn any_query_is_read(query in "\\PC{0,60}", name in "\\PC{0,8}") {
        let headers = HeaderMap::new();
        let parts = Parts {
            method: &Method::GET,
            version: http::Version::HTTP_11,
            host: None,
            path: "/",
            query: Some(&query),
            headers: &headers,
            peer: SocketAddr::from(([10, 0, 0, 1], 1)),
        };
        router::has_parameter(&parts, &name, &TextMatch::Exact("x".into()));
    }
}

#[test]
fn issued_sessions_share_the_users_by_weight() {
    let info = split(Strategy::Weights, Some("id"), None);
    let mut rng = fastrand::Rng::with_seed(11);
    let canaries = (0..20_000)
        .filter(|_| {
            let bits = [rng.u64(..), rng.u64(..)];
            let mut session = None;
            let chosen = with_asked(&request("/", &[]), |asked| {
                choose(&info, &weights(100_000).0, asked, &mut session, &|| bits, &mut || RANDOM)
            });
            is_canary(chosen.draw, 100_000)
        })
        .count();
    assert!((1_850..2_150).contains(&canaries), "{canaries} of 20000 at a tenth");
}
