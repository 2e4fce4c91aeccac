//! Weighted unions: who gets how much, who stays where, and what happens when a branch has nobody.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::support::h2peer::{block_on, call, connect, get as h2_get};
use super::support::ports::free_port;
use super::support::scrape::Scrape;
use super::support::serin::run;
use super::support::upstream::{next_request, reply};
use super::support::{Client, Response, Serin, Setup, Upstream, eventually, outside};

/// Three origins as clusters `a`, `b`, `c`; `empty` has nobody.
struct World {
    _origins: [Upstream; 3],
    setup: Setup,
}

fn world(dtab: &str) -> World {
    let origins = [Upstream::named("a"), Upstream::named("b"), Upstream::named("c")];
    let mut setup = Setup::new().cluster("empty", &[]).dtab(dtab);
    for (name, origin) in ["a", "b", "c"].into_iter().zip(&origins) {
        setup = setup.cluster(name, &[&origin.endpoint()]);
    }
    World { _origins: origins, setup }
}

/// `/svc/web` as this union.
fn web(union: &str) -> World {
    world(&web_dtab(union))
}

fn web_dtab(union: &str) -> String {
    format!("/s => /#/clusters ; /svc/web => {union}")
}

fn place(response: &Response) -> String {
    response.field("x-origin").unwrap_or_else(|| response.status.to_string())
}

type Counts = BTreeMap<String, u32>;

/// Where `count` requests with these lines end, on one connection.
fn counts(serin: &Serin, lines: &[&str], count: u32) -> Counts {
    let mut client = Client::connect(serin.address());
    let mut places = Counts::new();
    for _ in 0..count {
        *places.entry(place(&client.get("web", "/", lines))).or_default() += 1;
    }
    places
}

/// Each share of the requests must be there within six standard deviations, and no other place.
#[track_caller]
fn check_shares(places: &Counts, shares: &[(&str, f64)]) {
    let total: u32 = places.values().sum();
    for (name, share) in shares {
        let seen = f64::from(places.get(*name).copied().unwrap_or(0));
        let mean = f64::from(total) * share;
        let sigma = (mean * (1.0 - share)).sqrt();
        assert!((seen - mean).abs() <= 6.0 * sigma, "{name} got {seen} of {total}, expected about {mean}: {places:?}");
    }
    let known: u32 = shares.iter().filter_map(|(name, _)| places.get(*name)).sum();
    assert_eq!(known, total, "nothing else: {places:?}");
}

fn check_union(union: &str, shares: &[(&str, f64)]) {
    let world = web(union);
    check_shares(&counts(&world.setup.start(), &[], REQUESTS), shares);
}

#[test]
fn requests_are_drawn_by_weight() {
    check_union("9 * /s/a & 1 * /s/b", &[("a", 0.9), ("b", 0.1)]);
    check_union("/s/a & /s/b & 0.5 * /s/c", &[("a", 0.4), ("b", 0.4), ("c", 0.2)]);
}

#[test]
fn http2_streams_are_drawn_by_weight() {
    let world = web("1 * /s/a & 4 * /s/b");
    let serin = world.setup.start();
    let places = block_on(async {
        let mut connection = connect(serin.address()).await;
        let mut places = Counts::new();
        for _ in 0..REQUESTS {
            let answer = call(&mut connection, h2_get("web", "/").body(()).unwrap(), None).await.unwrap();
            *places.entry(answer.header("x-origin").unwrap()).or_default() += 1;
        }
        places
    });
    check_shares(&places, &[("a", 0.2), ("b", 0.8)]);
}

#[test]
fn nested_unions_multiply() {
    let shares = [("a", 0.375), ("b", 0.375), ("c", 0.25)];
    check_union("3 * (/s/a & /s/b) & 1 * /s/c", &shares);
    check_union("3 * /svc/ab & 1 * /s/c ; /svc/ab => 5 * /s/a & 5 * /s/b", &shares);
    check_union("0.5 * (/s/none | /s/a) & 0.5 * (/s/none | /s/b)", &[("a", 0.5), ("b", 0.5)]);
}

#[test]
fn a_missing_name_takes_no_share() {
    check_union("1 * /s/a & 9 * /s/none", &[("a", 1.0)]);
}

#[test]
fn weight_0_means_none() {
    check_union("0 * /s/a & 1 * /s/b", &[("b", 1.0)]);
    check_union("1 * /s/a & 0.0 * /s/b & 1 * (0 * /s/b & 1 * /s/c)", &[("a", 0.5), ("c", 0.5)]);
}

#[test]
fn weight_0_means_none_even_when_nobody_else_is_there() {
    check_union("0 * /s/a & 1 * /s/empty", &[("503", 1.0)]);
}

#[test]
fn a_union_of_zeros_is_refused_in_the_file_and_leads_nowhere_in_a_header() {
    let world = web("/s/a");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zeros.yaml");
    for union in ["0 * /s/a & 0 * /s/b", "1 * /s/a & 1 * (0 * /s/b & 0.0 * /s/c)"] {
        std::fs::write(&file, world.setup.clone().dtab(&web_dtab(union)).text()).unwrap();
        let output = run(&["validate", file.to_str().unwrap()]);
        let said = outside::both(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("zeros.yaml:") && said.contains('^'), "{said}");
    }
    let serin = world.setup.start();
    let line = "l5d-dtab: /svc/web => ! ; /svc/web => 0 * /s/b & 0 * /s/c";
    assert_eq!(place(&serin.get_with("web", "/", &[line])), "404");
    assert_eq!(place(&serin.get_with("web", "/", &["l5d-dtab: /svc/web => 0 * /s/b & 0 * /s/c"])), "a");
}

#[test]
fn an_override_may_split_too() {
    let world = web("/s/a");
    let serin = world.setup.start();
    check_shares(&counts(&serin, &["l5d-dtab: /svc/web => 3 * /s/b & 1 * /s/c"], 400), &[("b", 0.75), ("c", 0.25)]);
}

#[test]
fn draws_are_counted_by_branch() {
    let world = web("3 * /s/a & 1 * /s/b");
    let serin = world.setup.clone().router("splits:\n- path: /svc/web").start();
    counts(&serin, &[], 40);
    eventually("every draw is counted", || {
        (Scrape::of(&serin).sum("serin_split_choices_total", &[("split", "/svc/web")]) - 40.0).abs() < 0.5
    });
    let scrape = Scrape::of(&serin);
    let weights = scrape.find("serin_split_weight", &[("router", "outgoing"), ("split", "/svc/web")]);
    let mut shares: Vec<f64> = weights.iter().map(|series| series.value).collect();
    shares.sort_by(f64::total_cmp);
    assert_eq!(shares, [0.25, 0.75]);
}

// --- stickiness

fn sticky(union: &str, stickiness: &str) -> World {
    let mut world = web(union);
    world.setup = with_stickiness(world.setup, stickiness);
    world
}

fn with_stickiness(setup: Setup, stickiness: &str) -> Setup {
    setup.router(&format!("splits:\n- path: /svc/web\n  stickiness: {{{stickiness}}}"))
}

/// Where each user goes whom this line names; every user asks twice, on two connections.
fn assignment(serin: &Serin, line: impl Fn(usize) -> String) -> Vec<String> {
    let round = || -> Vec<String> {
        let mut client = Client::connect(serin.address());
        (0..USERS).map(|user| place(&client.get("web", "/", &[&line(user)]))).collect()
    };
    let (first, second) = (round(), round());
    assert_eq!(first, second, "a user stays");
    first
}

fn check_sticky(stickiness: &str, line: impl Fn(usize) -> String) {
    let world = sticky("7 * /s/a & 3 * /s/b", stickiness);
    let serin = world.setup.start();
    let users = assignment(&serin, &line);
    check_shares(&tally(&users), &[("a", 0.7), ("b", 0.3)]);
    check_shares(&counts(&serin, &["x-nobody: 1"], 200), &[("a", 0.7), ("b", 0.3)]);
    drop(serin);
    assert_eq!(assignment(&world.setup.start(), &line), users, "the same after a restart");
}

fn tally(users: &[String]) -> Counts {
    let mut places = Counts::new();
    for place in users {
        *places.entry(place.clone()).or_default() += 1;
    }
    places
}

fn user_cookie(user: usize) -> String {
    format!("Cookie: theme=dark; user=u{user}; lang=de")
}

#[test]
fn a_cookie_keeps_a_user_on_a_branch() {
    check_sticky("cookie: user", user_cookie);
}

#[test]
fn a_header_keeps_a_user_on_a_branch() {
    check_sticky("header: X-User", |user| format!("x-user: u{user}"));
}

#[test]
fn other_cookies_and_protocols_do_not_matter() {
    let world = sticky("1 * /s/a & 1 * /s/b", "cookie: user");
    let serin = world.setup.start();
    let users = assignment(&serin, user_cookie);
    assert_eq!(assignment(&serin, |user| format!("Cookie: user=u{user}")), users);
    let over_h2: Vec<String> = block_on(async {
        let mut connection = connect(serin.address()).await;
        let mut places = Vec::new();
        for user in 0..USERS {
            let request = h2_get("web", "/").header("cookie", "a=b").header("cookie", format!("user=u{user}"));
            let answer = call(&mut connection, request.body(()).unwrap(), None).await.unwrap();
            places.push(answer.header("x-origin").unwrap());
        }
        places
    });
    assert_eq!(over_h2, users);
}

#[test]
fn an_address_keeps_a_user_on_a_branch() {
    let world = sticky("1 * /s/a & 1 * /s/b", "source: address");
    let serin = world.setup.start();
    let ask = |user: u8| {
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 9, user));
        place(&Client::connect_from(source, serin.address()).get("web", "/", &["X-Forwarded-For: 192.0.2.1"]))
    };
    let first: Vec<String> = (1..=100).map(ask).collect();
    let second: Vec<String> = (1..=100).map(ask).collect();
    assert_eq!(first, second);
    check_shares(&tally(&first), &[("a", 0.5), ("b", 0.5)]);
}

#[test]
fn two_splits_draw_one_user_independently() {
    let world = world("/s => /#/clusters ; /svc/web => /s/a & /s/b ; /svc/two => /s/a & /s/b");
    let splits =
        "splits:\n- path: /svc/web\n  stickiness: {cookie: user}\n- path: /svc/two\n  stickiness: {cookie: user}";
    let serin = world.setup.clone().router(splits).start();
    let mut client = Client::connect(serin.address());
    let same = (0..USERS).filter(|&user| {
        let line = user_cookie(user);
        place(&client.get("web", "/", &[&line])) == place(&client.get("two", "/", &[&line]))
    });
    let same = same.count(); // half of them, give or take six standard deviations
    assert!((98..=202).contains(&same), "{same} of {USERS} users have the same branch in both");
}

#[test]
fn users_move_only_towards_the_branch_that_grows() {
    let world = sticky("9 * /s/a & 1 * /s/b", "cookie: user");
    let serin = world.setup.start();
    let mut last = assignment(&serin, user_cookie);
    let first = last.clone();
    for (a, b) in [(8, 2), (5, 5), (1, 9), (0, 1)] {
        reload(&serin, &world, &format!("{a} * /s/a & {b} * /s/b"));
        let next = assignment(&serin, user_cookie);
        for (user, (before, after)) in last.iter().zip(&next).enumerate() {
            assert!(before == after || (before == "a" && after == "b"), "user {user} went from {before} to {after}");
        }
        assert_ne!(last, next, "some moved");
        check_shares(&tally(&next), &[("a", f64::from(a) / f64::from(a + b)), ("b", f64::from(b) / f64::from(a + b))]);
        last = next;
    }
    reload(&serin, &world, "9 * /s/a & 1 * /s/b");
    assert_eq!(assignment(&serin, user_cookie), first, "the same weights, the same branches");
}

/// Replaces the union and waits until it is in force.
fn reload(serin: &Serin, world: &World, union: &str) {
    let applied = || Scrape::of(serin).sum("serin_config_reloads_total", &[("outcome", "applied")]);
    let before = applied();
    serin.rewrite(&world.setup.clone().dtab(&web_dtab(union)).text());
    eventually("the file is applied", || applied() > before);
}

#[test]
fn new_weights_are_in_force_after_a_reload() {
    let world = web("1 * /s/a & 0 * /s/b");
    let serin = world.setup.start();
    check_shares(&counts(&serin, &[], 50), &[("a", 1.0)]);
    reload(&serin, &world, "1 * /s/a & 1 * /s/b");
    check_shares(&counts(&serin, &[], 400), &[("a", 0.5), ("b", 0.5)]);
    reload(&serin, &world, "0 * /s/a & 1 * /s/b");
    check_shares(&counts(&serin, &[], 50), &[("b", 1.0)]);
}

// --- a branch without usable endpoints

fn check_unhealthy(keys: &str, union: &str, shares: &[(&str, f64)]) {
    let world = web(union);
    let setup = if keys.is_empty() { world.setup.clone() } else { world.setup.clone().router(keys) };
    check_shares(&counts(&setup.start(), &[], 400), shares);
}

#[test]
fn a_branch_without_endpoints_gives_its_share_to_the_others() {
    check_unhealthy("", "2 * /s/empty & 1 * /s/a & 3 * /s/b", &[("a", 0.25), ("b", 0.75)]);
    check_unhealthy("onUnhealthy: redistribute", "1 * /s/empty & 1 * /s/a", &[("a", 1.0)]);
    check_unhealthy("", "1 * /s/empty & 1 * /s/empty", &[("503", 1.0)]);
}

#[test]
fn with_fail_a_branch_without_endpoints_keeps_its_share() {
    let (union, shares) = ("1 * /s/empty & 1 * /s/a", [("503", 0.5), ("a", 0.5)]);
    check_unhealthy("onUnhealthy: fail", union, &shares);
    check_unhealthy("splits:\n- {path: /svc/web, onUnhealthy: fail}", union, &shares);
    check_unhealthy("onUnhealthy: fail\nsplits:\n- {path: /svc/web, onUnhealthy: redistribute}", union, &[("a", 1.0)]);
}

#[test]
fn an_explicit_nobody_keeps_its_share_always() {
    let shares = [("503", 0.5), ("a", 0.5)];
    check_unhealthy("onUnhealthy: redistribute", "1 * $ & 1 * /s/a", &shares);
    check_unhealthy("onUnhealthy: redistribute", "1 * /$/nil & 1 * /s/a", &shares);
}

#[test]
fn redistributed_requests_are_counted_for_the_branch_that_could_not_serve() {
    let world = web("1 * /s/empty & 1 * /s/a");
    let serin = world.setup.clone().router("splits:\n- path: /svc/web").start();
    counts(&serin, &[], 400);
    let name = "serin_split_redistributed_total";
    eventually("redistributed requests are counted", || Scrape::of(&serin).sum(name, &[]) > 115.0);
    let scrape = Scrape::of(&serin);
    let counted: Vec<_> = scrape.find(name, &[]).into_iter().filter(|series| series.value > 0.0).collect();
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert!(counted[0].labels["branch"].contains("empty"), "{counted:?}");
    assert!(counted[0].value < 285.0, "about half of 400: {counted:?}");
}

#[test]
fn an_ejected_branch_gives_its_share_to_the_others() {
    let world = web("1 * /s/dead & 1 * /s/a");
    let accrual = "client: {failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 1, backoff: {kind: constant, ms: 60000}}}";
    let dead = format!("127.0.0.1:{}", free_port());
    let serin = world.setup.clone().top("workers: 1").cluster("dead", &[&dead]).router(accrual).start();
    eventually("the dead endpoint is found out", || counts(&serin, &[], 20) == Counts::from([("a".to_owned(), 20)]));
    check_shares(&counts(&serin, &[], 100), &[("a", 1.0)]);
}

/// Closes its first connection without an answer, and serves from then on.
fn late_riser() -> Upstream {
    Upstream::raw(|wire, seen, index| {
        while next_request(wire, seen, index).is_some() && index > 0 {
            wire.send(reply(200, &[], "")).unwrap();
        }
    })
}

#[test]
fn when_all_are_ejected_one_is_tried_all_the_same() {
    for tree in ["1 * /s/x & 1 * /s/y", "/s/x | /s/y"] {
        let origins = [late_riser(), late_riser()];
        let accrual = "client: {failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 1, backoff: {kind: constant, ms: 60000}}}";
        let setup = web(tree).setup.cluster("x", &[&origins[0].endpoint()]).cluster("y", &[&origins[1].endpoint()]);
        let serin = setup.top("workers: 1").router(accrual).start();
        eventually(&format!("{tree} is served"), || serin.get("web", "/").status == 200);
        let failed: usize = origins.iter().map(|origin| origin.connections().min(1)).sum();
        assert_eq!(failed, 2, "each was tried, and each failed first");
    }
}

#[test]
fn a_sticky_user_of_a_dead_branch_is_served_by_another() {
    let world = sticky("1 * /s/empty & 1 * /s/a & 1 * /s/b", "cookie: user");
    let users = assignment(&world.setup.start(), user_cookie);
    check_shares(&tally(&users), &[("a", 0.5), ("b", 0.5)]);
}

const REQUESTS: u32 = 1000;
const USERS: usize = 300;
