//! Claims are compared as far as the main file leads them.

use super::*;

/// A main file with this dtab, a cluster `home`, and what else stands there.
fn main_file(dtab: &str, router: &str, top: &str) -> Source {
    let text = format!(
        "clusters: {{home: {{endpoints: ['127.0.0.1:8080']}}}}\n\
         routers:\n- label: gateway\n  servers: [{{port: 4140}}]\n  dtab: '{dtab}'\n{router}\
         storage: {{kind: memory}}\n{top}"
    );
    Source::new("serin.yaml", text)
}

fn owns(team: &str, what: &str) -> (String, String) {
    text(team, &format!("owns: {{{what}}}\n"))
}

#[track_caller]
fn check_merged(main: &Source, teams: &[(String, String)], before: &[(String, String)], expected: &str) -> Vec<String> {
    let merged = merge(main, &files(teams), &good(before), &|_| true, &|_| None).unwrap();
    let reports: Vec<String> = merged.teams.iter().map(TeamOutcome::report).collect();
    assert_eq!(states(&merged), expected, "{}", reports.join("\n"));
    reports
}

/// Two teams; the first is the earlier one. Whoever comes second is told why.
#[track_caller]
fn check_pair(main: &Source, a: &str, b: &str, conflict: Option<&str>) {
    let expected = if conflict.is_some() { "a=current b=out" } else { "a=current b=current" };
    for (a, b) in [(a, b), (b, a)] {
        let reports = check_merged(main, &[owns("a", a), owns("b", b)], &[], expected);
        let part = conflict.unwrap_or_default();
        assert!(reports.iter().any(|report| report.contains(part)), "{part} in {reports:?}");
    }
}

#[track_caller]
fn check_alone(main: &Source, claim: &str, refused: Option<&str>) {
    let expected = if refused.is_some() { "a=out" } else { "a=current" };
    let reports = check_merged(main, &[owns("a", claim)], &[], expected);
    assert!(reports[0].contains(refused.unwrap_or_default()), "{refused:?} in {}", reports[0]);
}

const CHAIN: &str = "/srv => /#/clusters ; /host => /srv ; /svc => /host";

#[test]
fn a_name_that_the_main_file_leads_to_another_team_is_that_teams() {
    let main = main_file(CHAIN, "", "");
    let same = Some("belongs to another team already");
    for (one, two, conflict) in [
        ("prefixes: [/svc/web]", "prefixes: [/host/web]", same),
        ("prefixes: [/svc/web]", "prefixes: [/srv/web]", same),
        ("prefixes: [/svc/web/admin]", "prefixes: [/host/web]", same),
        ("prefixes: [/svc/web]", "prefixes: [/host/web/admin]", same),
        ("hosts: [web]", "prefixes: [/host/web]", same),
        ("hosts: [web.example.com]", "prefixes: [/srv/web.example.com/x]", same),
        ("hosts: ['*.example.com']", "prefixes: [/host/web.example.com]", same),
        ("hosts: ['*.example.com']", "prefixes: [/host/a.web.example.com, /host/c]", same),
        ("hosts: ['*.example.com']", "prefixes: [/host/example.com]", None),
        ("prefixes: [/svc/web]", "prefixes: [/host/webshop]", None),
        ("prefixes: [/svc/web/a]", "prefixes: [/host/web/b]", None),
        ("prefixes: [/host/web]", "clusters: [web]", same),
        ("prefixes: [/svc/web]", "clusters: ['we*']", same),
        ("hosts: [web]", "clusters: [web]", same),
        ("hosts: ['*.shop.example.com']", "clusters: ['shop-*', 'web*']", None),
        ("hosts: ['*.shop.example.com']", "clusters: [eu.shop.example.com]", same),
        ("prefixes: [/host/web]", "clusters: ['web-*']", None),
        ("prefixes: [/other/web]", "prefixes: [/host/web]", None),
    ] {
        check_pair(&main, one, two, conflict);
    }
    // One team may have all of them.
    check_alone(&main, "prefixes: [/svc/web, /host/web], hosts: [web], clusters: [web]", None);
}

#[test]
fn a_conflict_tells_both_places_and_where_they_meet() {
    let teams = [owns("a", "prefixes: [/host/web]"), owns("b", "hosts: [x], prefixes: [/svc/web]")];
    let report = check_merged(&main_file(CHAIN, "", ""), &teams, &[], "a=current b=out").remove(1);
    for part in ["`/svc/web` belongs to another team already", "b.yaml:1:31", "a.yaml:1:19"] {
        assert!(report.contains(part), "{part} in {report}");
    }
    let teams = [owns("a", "clusters: [web]"), owns("b", "prefixes: [/svc/web]")];
    let report = check_merged(&main_file(CHAIN, "", ""), &teams, &[], "a=current b=out").remove(1);
    assert!(report.contains("the main file leads requests for both to `/#/clusters/web`"), "{report}");
}

#[test]
fn whoever_served_first_keeps_names_that_lead_to_its_own() {
    let z = owns("z", "prefixes: [/host/web]");
    let thief = owns("a", "prefixes: [/svc/web]");
    let main = main_file(CHAIN, "", "");
    check_merged(&main, &[z.clone(), thief.clone()], std::slice::from_ref(&z), "a=out z=current");
    check_merged(&main, &[text("z", "owns: 1"), thief], &[z], "a=out z=last-good");
}

/// The cluster is not claimed, and it is there.
#[test]
fn a_cluster_must_not_answer_for_hosts_of_another_team() {
    let has = |name: &str| format!("clusters: {{{name}: {{endpoints: ['127.0.0.1:1']}}}}\n");
    let mut thief = owns("b", "clusters: ['web-*']");
    thief.1.push_str(&has("web-x.shop.example.com"));
    let shop = owns("a", "hosts: ['*.shop.example.com'], clusters: ['shop-*']");
    let main = main_file(CHAIN, "", "");
    let report = check_merged(&main, &[shop.clone(), thief], &[], "a=current b=out").remove(1);
    assert!(report.contains("`web-x.shop.example.com` belongs to another team already"), "{report}");
    let mut web = owns("b", "clusters: ['web-*']");
    web.1.push_str(&has("web-1"));
    check_merged(&main, &[shop, web], &[], "a=current b=current");
}

#[test]
fn every_kind_of_dentry_is_followed() {
    for (dtab, one, two, conflict) in [
        ("/svc => /a | /b", "/svc/x", "/b/x", true),
        ("/svc => 9 * /a & 0 * /b", "/svc/x", "/b/x", true),
        ("/svc => /b ; /svc => !", "/svc/x", "/b/x", true),
        ("/svc/*/v1 => /b", "/svc/x", "/b", true),
        ("/svc/*/v1 => /b", "/svc/x/v1/y", "/b/y", true),
        ("/svc/*/v1 => /b", "/svc/x/v2", "/b", false),
        ("/svc/* => /b", "/svc/x/y", "/b/y", true),
        ("/svc/* => /b", "/svc/x/y", "/b/z", false),
        ("/svc => /$/io.buoyant.http.anyHostPfx/b", "/svc/x/y", "/b/y", true),
        ("/svc => /$/io.buoyant.hostportPfx/b", "/svc/x:80", "/b/x/80", true),
        ("/svc => /$/io.buoyant.porthostPfx/b", "/svc/x:80", "/b/81/x", false),
        ("/svc => /$/io.buoyant.http.domainToPathPfx/b", "/svc/x.org", "/b/org/x", true),
        ("/svc => /$/io.buoyant.http.domainToPathPfx/b", "/svc/x.org", "/b/org/y", false),
        ("/svc => /$/io.buoyant.http.subdomainOfPfx/x.org/b", "/svc/w.x.org", "/b/w", true),
        ("/svc => /$/io.buoyant.http.subdomainOf/x.org ; /w => /b", "/svc/w.x.org/v", "/b/v", true),
        ("/svc => /#/books", "/svc/x/api", "/b/x", true),
        ("/svc => /#/books", "/svc/x", "/b/y", true), // nobody knows what follows
    ] {
        let namer =
            "namers: [{kind: io.l5d.rewrite, prefix: books, pattern: '/{service}/api', name: '/b/{service}'}]\n";
        let conflict = conflict.then_some("belongs to another team already");
        let claim = |name: &str| format!("prefixes: ['{name}']");
        check_pair(&main_file(dtab, "", namer), &claim(one), &claim(two), conflict);
    }
}

#[test]
fn hosts_are_followed_through_built_in_names() {
    for (kind, host, name, conflict) in [
        ("http.domainToPathPfx/b", "x.org", "/b/org/x", true),
        ("http.domainToPathPfx/b", "'*.x.org'", "/b/org/x/y", true),
        ("http.domainToPathPfx/b", "'*.x.org'", "/b/org/y", false),
        ("http.subdomainOfPfx/x.org/b", "w.x.org", "/b/w", true),
        ("http.subdomainOfPfx/x.org/b", "'*.x.org'", "/b/w", true),
        ("http.subdomainOfPfx/x.org/b", "'*.w.x.org'", "/b/v.w", true),
        ("http.subdomainOfPfx/x.org/b", "'*.w.x.org'", "/b/v", false),
        ("http.subdomainOfPfx/x.org/b", "w.y.org", "/b/w", false),
        ("http.anyHostPfx/b", "w.y.org", "/b/x", true),
        ("hostportPfx/b", "w.org", "/b/w.org/80", true),
        ("hostportPfx/b", "w.org", "/b/v.org", false),
        ("porthostPfx/b", "w.org", "/b/80/w.org", true),
        ("porthostPfx/b", "w.org", "/b/80/v.org", false),
    ] {
        let main = main_file(&format!("/svc => /$/io.buoyant.{kind}"), "", "");
        let conflict = conflict.then_some("belongs to another team already");
        check_pair(&main, &format!("hosts: [{host}]"), &format!("prefixes: ['{name}']"), conflict);
    }
}

#[test]
fn a_host_is_its_name_however_a_router_spells_it() {
    let taken = Some("belongs to another team already");
    let verbatim = main_file(CHAIN, "  identifier: {kind: io.l5d.header.token, host: verbatim}\n", "");
    for name in ["/svc/WEB.example.com", "/svc/web.example.com:8080", "/host/Web.Example.Com.:1"] {
        check_pair(&verbatim, "hosts: [web.example.com]", &format!("prefixes: ['{name}']"), taken);
    }
    let by_method = main_file(CHAIN, "  identifier: {kind: io.l5d.methodAndHost}\n", "");
    for name in ["/svc/1.1/GET/web.org", "/host/1.1/POST/web.org", "/svc/2", "/svc/1.1/GET"] {
        check_pair(&by_method, "hosts: [web.org]", &format!("prefixes: ['{name}']"), taken);
    }
    check_pair(&by_method, "hosts: [web.org]", "prefixes: [/svc/1.1/GET/api.org]", None);
    let mut web = owns("a", "hosts: [web.org]");
    web.1.push_str("routers: [{label: gateway, dtab: '/svc/*/GET/web.org => /#/clusters/home'}]\n");
    check_merged(&by_method, &[web], &[], "a=current");
}

#[test]
fn every_router_leads() {
    let second = "- {label: other, dstPrefix: /in, servers: [{port: 4141}], dtab: /in => /b}\n";
    let main = main_file("/svc => /a", second, "");
    for (one, two, conflict) in [
        ("prefixes: [/in/x]", "prefixes: [/b/x]", true),
        ("hosts: [x]", "prefixes: [/b/x]", true),
        ("hosts: [x]", "prefixes: [/c/x]", false),
    ] {
        check_pair(&main, one, two, conflict.then_some("belongs to another team already"));
    }
}

#[test]
fn overrides_and_rules_of_the_main_file_lead_too() {
    let overrides = main_file("/svc => /a", "  overrides: [{when: {cookie: {a: b}}, dtab: /svc/x => /b/x}]\n", "");
    check_pair(&overrides, "prefixes: [/svc/x]", "prefixes: [/b/x]", Some("belongs to another team already"));
    let rule = "  rules: [{match: {host: '*.shop.org'}, name: /svc/shop}]\n";
    let rules = main_file(CHAIN, rule, "");
    check_pair(&rules, "hosts: [eu.shop.org]", "prefixes: [/host/shop]", Some("belongs to another team already"));
    check_pair(&rules, "hosts: [eu.shop.com]", "prefixes: [/host/shop]", None);
    check_alone(&rules, "hosts: [eu.shop.org], prefixes: [/host/shop]", None);
}

#[test]
fn what_the_main_file_leads_to_its_own_is_its_own() {
    let fs = "namers: [{kind: io.l5d.fs, rootDir: disco}]\n";
    let cluster = Some("which leads it to its cluster `home`");
    let led = Some("which leads requests of its own there");
    for (dtab, claim, refused) in [
        (CHAIN, "prefixes: [/host/home]", cluster),
        (CHAIN, "prefixes: [/svc/home/x]", cluster),
        (CHAIN, "hosts: [home]", cluster),
        (CHAIN, "prefixes: [/host/web]", None),
        ("/svc => /#/clusters/home", "prefixes: [/svc/web]", None),
        (
            "/svc => /host ; /host/x => /#/clusters/home",
            "prefixes: [/svc/x]",
            Some("which leads it to `/host/x`, and writes"),
        ),
        ("/svc => /host ; /host/x => !", "prefixes: [/svc/x]", Some("and writes a name there")),
        ("/svc => /host ; /host/x => !", "prefixes: [/svc/x/y]", None),
        ("/svc/x => /y/home ; /y => /#/clusters", "prefixes: [/y/home]", cluster),
        ("/svc/x => /y/v1 ; /y => /z ; /z => /#/io.l5d.fs", "prefixes: [/y/v1]", led),
        ("/svc/x => /y/v1 ; /y => /z ; /z => /#/io.l5d.fs", "prefixes: [/z/v1]", led),
        ("/svc/x => /y/v1 ; /y => /z ; /z => /#/io.l5d.fs", "prefixes: [/z/v2]", None),
        ("/svc/x => ! | /y/v1 ; /y => /$/inet", "prefixes: [/y/v1]", None),
        ("/svc/x => ! | /y/v1/80 ; /y => /$/inet", "prefixes: [/y/v1]", led),
        ("/svc/x => /$/io.buoyant.http.anyHostPfx/y/v1/w ; /y/w => /#/io.l5d.fs/w", "prefixes: [/y/w/v]", None),
        ("/svc/x => /$/io.buoyant.hostportPfx/y/v1:80 ; /y => /$/inet", "prefixes: [/y/v1]", led),
        // How a team is attached: without it there would be nothing.
        ("/svc/x => /host/web ; /host => /#/clusters", "prefixes: [/host/web]", None),
        ("/svc/x => /team/web ; /host => /#/clusters", "prefixes: [/team/web]", None),
        ("/foo => /bar", "prefixes: [/svc]", Some("names of all requests begin so")),
        ("/foo => /bar", "prefixes: [/svc/x]", None),
    ] {
        check_alone(&main_file(dtab, "", fs), claim, refused);
    }
    let rollout = "rollouts: [{name: r, router: gateway, path: /host/x, primary: /a/home, canary: /a/next}]\n";
    let main = main_file("/svc => /host ; /a => /#/io.l5d.fs", "", &format!("{fs}{rollout}"));
    for (claim, refused) in [("/svc/x", Some("writes a name there")), ("/a/next", led), ("/a/other", None)] {
        check_alone(&main, &format!("prefixes: [{claim}]"), refused);
    }
}

/// A claim may be led through so many sets of names: itself and one for each alternative.
#[test]
fn what_leads_to_too_many_names_is_nobodys() {
    use crate::limits::WAYS_MAX;
    let to = |n: usize| (1..=n).map(|n| format!("/a{n}")).collect::<Vec<_>>().join(" | ");
    for (n, refused) in [(WAYS_MAX - 1, None), (WAYS_MAX, Some("to more than 256 names"))] {
        let main = main_file(&format!("/svc => {}", to(n)), "", "");
        check_alone(&main, "prefixes: [/svc/x]", refused);
    }
    // A circle that grows ends in the same way, one that does not is one name.
    check_alone(&main_file("/svc => /svc/a", "", ""), "prefixes: [/svc/x]", Some("to more than 256 names"));
    check_alone(&main_file("/svc => /host ; /host => /svc", "", ""), "prefixes: [/svc/x]", None);
}

mod laws {
    use proptest::prelude::*;

    use super::*;
    use crate::dtab::{Answer, Dtab, Layers, Limits, Names, Table, bind};

    /// Every cluster exists.
    struct Clusters;

    impl Names for Clusters {
        fn lookup(&self, path: &crate::dtab::Path) -> Answer {
            let is_cluster = path.label(0) == Some(b"#") && path.label(1) == Some(b"clusters") && path.len() > 2;
            if is_cluster { Answer::Bound { id_len: 3 } } else { Answer::Neg }
        }
    }

    fn name(dtab: &Dtab, name: &str) -> String {
        let table = Table::new(Arc::new(dtab.clone()));
        let layers = Layers { base: &table, written: &[], sent: &[] };
        bind(&layers, &Clusters, &name.parse().unwrap(), &Limits::default()).to_string()
    }

    fn label() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "c", "x.b", "c:1"])
    }

    fn path(most: usize) -> impl Strategy<Value = String> {
        prop::collection::vec(label(), 1..=most).prop_map(|labels| format!("/{}", labels.join("/")))
    }

    fn destination() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            6 => path(2),
            1 => Just("/#/clusters".to_owned()),
            1 => Just("/#/clusters/home".to_owned()),
            1 => Just("~".to_owned()),
            1 => prop::sample::select(vec![
                "/$/io.buoyant.http.subdomainOf/b",
                "/$/io.buoyant.http.subdomainOfPfx/b/a",
                "/$/io.buoyant.http.anyHostPfx/c",
                "/$/io.buoyant.http.domainToPathPfx/b",
                "/$/io.buoyant.hostportPfx/a",
            ])
            .prop_map(str::to_owned),
        ];
        let sign = prop::sample::select(vec![" | ", " & "]);
        (prop::collection::vec(leaf, 1..3), sign).prop_map(|(leaves, sign)| leaves.join(sign))
    }

    fn dtab() -> impl Strategy<Value = String> {
        let prefix = prop::collection::vec(prop_oneof![8 => label(), 1 => Just("*")], 1..3);
        let dentry = (prefix, destination()).prop_map(|(prefix, to)| format!("/{} => {to}", prefix.join("/")));
        prop::collection::vec(dentry, 0..6).prop_map(|dentries| dentries.join(" ; "))
    }

    /// What the team owns, and a dentry for it.
    fn team(name: &str, claim: &str, host: Option<&str>) -> (String, String) {
        let hosts = host.map(|host| format!(", hosts: ['{host}']")).unwrap_or_default();
        let dentry = match host {
            Some(host) if !host.starts_with('*') => format!("; /svc/{host} => /#/clusters/home/of/{name}"),
            _ => String::new(),
        };
        let text = format!(
            "owns: {{prefixes: ['{claim}']{hosts}}}\n\
             routers: [{{label: gateway, dtab: '{claim} => /#/clusters/home/of/{name} {dentry}'}}]\n"
        );
        (name.to_owned(), text)
    }

    fn host() -> impl Strategy<Value = Option<&'static str>> {
        prop::sample::select(vec![None, Some("a"), Some("x.b"), Some("*.b"), Some("b")])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever a team claims: if both are let in, names of the other are bound as they were without it.
        #[test]
        fn no_team_changes_what_another_owns(
            dtab in dtab(),
            svc in "(/svc => /a ; |/svc => /a/b ; |)",
            mine in path(2),
            my_host in host(),
            theirs in path(3),
            their_host in host(),
            rest in prop::collection::vec(path(2), 4),
            writes in any::<bool>(),
        ) {
            let main = main_file(&format!("{svc}{dtab}"), "", "");
            let teams = [team("me", &mine, my_host), team("them", &theirs, their_host)];
            let mut me = teams[0].clone();
            if !writes {
                me.1.truncate(me.1.find('\n').unwrap_or_default() + 1);
            }
            let Ok(with) = merge(&main, &files(&[me.clone(), teams[1].clone()]), &good(&[]), &|_| true, &|_| None) else { return Ok(()) };
            let without = merge(&main, &files(&[me]), &good(&[]), &|_| true, &|_| None).unwrap();
            prop_assume!(without.teams[0].state == TeamState::Current);
            let [with, without] = [with, without].map(|merged| merged.config.routers[0].dtab.clone());
            let host = my_host.map(|host| format!("/svc/{}", host.replace('*', "c")));
            for head in [Some(mine.clone()), host].into_iter().flatten() {
                for rest in rest.iter().map(String::as_str).chain([""]) {
                    let asked = format!("{head}{rest}");
                    prop_assert_eq!(name(&with, &asked), name(&without, &asked), "{}", asked);
                }
            }
        }

        /// And what the main file leads to a cluster of its own, and nowhere else, stays where it is.
        #[test]
        fn no_team_changes_names_of_clusters_of_the_main_file(
            leaves in prop::collection::vec(prop_oneof![2 => path(2), 1 => Just("/#/clusters".to_owned())], 4),
            claim in path(3),
        ) {
            let dentries = ["/d", "/a", "/b", "/c"].iter().zip(&leaves).map(|(head, leaf)| format!("{head} => {leaf}"));
            let main = main_file(&dentries.collect::<Vec<_>>().join(" ; "), "", "");
            let alone = Config::parse(&main).unwrap().0.routers.remove(0).dtab;
            let with = merge(&main, &files(&[team("them", &claim, None)]), &good(&[]), &|_| true, &|_| None).unwrap();
            for asked in ["/d/home", "/a/home", "/b/home/x"] {
                let bound = name(&alone, asked);
                if bound.starts_with("/#/clusters/home") {
                    prop_assert_eq!(name(&with.config.routers[0].dtab, asked), bound, "{}", asked);
                }
            }
        }
    }
}
