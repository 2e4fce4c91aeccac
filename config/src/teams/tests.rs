use std::fmt::Write as _;

use super::*;

mod ways;

const MAIN: &str = "\
clusters: {home: {endpoints: ['127.0.0.1:8080']}, spare: {endpoints: ['127.0.0.1:8081']}}
routers:
- {label: gateway, servers: [{port: 4140}], dtab: /svc => /host ; /host => /#/clusters}
storage: {kind: memory}
";

/// Owns `/host/<name>` and leads it to `to`.
fn owner(name: &str, to: &str) -> (String, String) {
    (
        name.to_owned(),
        format!("owns: {{prefixes: [/host/{name}]}}\nrouters: [{{label: gateway, dtab: /host/{name} => {to}}}]\n"),
    )
}

fn files(files: &[(String, String)]) -> Vec<TeamFile> {
    files.iter().map(|(name, text)| TeamFile::new(name, Source::new(format!("{name}.yaml"), text.as_str()))).collect()
}

fn good(texts: &[(String, String)]) -> BTreeMap<String, Arc<str>> {
    texts.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect()
}

#[track_caller]
fn merged(now: &[(String, String)], before: &[(String, String)]) -> Merged {
    merge(&Source::new("serin.yaml", MAIN), &files(now), &good(before), &|_| true, &|_| None).unwrap()
}

fn states(merged: &Merged) -> String {
    let mut text = String::new();
    for team in &merged.teams {
        write!(text, "{}={} ", team.name, team.state.as_str()).unwrap();
    }
    text.trim_end().to_owned()
}

#[track_caller]
fn check(now: &[(String, String)], before: &[(String, String)], expected: &str, dtab: &str) {
    let merged = merged(now, before);
    let reports: Vec<String> = merged.teams.iter().map(TeamOutcome::report).collect();
    assert_eq!(states(&merged), expected, "{}", reports.join("\n"));
    assert_eq!(merged.config.routers[0].dtab.to_string(), format!("/svc=>/host;/host=>/#/clusters{dtab}"));
    for team in &merged.teams {
        assert_eq!(team.findings.is_empty(), team.state == TeamState::Current);
        assert_eq!(team.text.is_none(), team.state == TeamState::Out);
    }
}

fn text(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

#[test]
fn teams_stand_behind_the_main_file_in_the_order_of_their_names() {
    let now = [owner("web", "/host/home"), owner("api", "/host/spare")];
    check(&now, &[], "api=current web=current", ";/host/api=>/host/spare;/host/web=>/host/home");
}

#[test]
fn a_broken_team_stays_on_its_last_good_version_and_nobody_else_is_touched() {
    let (web, api) = (owner("web", "/host/home"), owner("api", "/host/home"));
    for broken in ["", "owns: [", "owns: {prefixes: [/host/web]}\nnonsense: 1\n", "routers: []\n"] {
        let now = [text("web", broken), owner("api", "/host/spare")];
        let dtab = ";/host/api=>/host/spare;/host/web=>/host/home";
        check(&now, &[web.clone(), api.clone()], "api=current web=last-good", dtab);
        check(&now, &[], "api=current web=out", ";/host/api=>/host/spare");
    }
}

#[test]
fn what_cannot_be_read_is_a_broken_version() {
    let web = owner("web", "/host/home");
    let unreadable =
        TeamFile { unreadable: Some("cannot read web.yaml".to_owned()), ..files(std::slice::from_ref(&web)).remove(0) };
    let main = Source::new("serin.yaml", MAIN);
    let merged = merge(&main, &[unreadable], &good(&[web]), &|_| true, &|_| None).unwrap();
    assert_eq!(states(&merged), "web=last-good");
    assert!(merged.teams[0].report().contains("cannot read web.yaml"));
}

#[test]
fn at_a_cold_start_the_name_that_sorts_first_owns_what_two_want() {
    let b = text("b", "owns: {prefixes: [/host/a]}\n");
    check(&[b, owner("a", "/host/home")], &[], "a=current b=out", ";/host/a=>/host/home");
}

#[test]
fn who_owned_it_keeps_it_whatever_its_name() {
    let z = text("z", "owns: {prefixes: [/host/x]}\nrouters: [{label: gateway, dtab: /host/x => /host/home}]\n");
    let thief = text("a", "owns: {prefixes: [/host]}\n");
    check(&[z.clone(), thief.clone()], std::slice::from_ref(&z), "a=out z=current", ";/host/x=>/host/home");
    // Also if the owner edits its file in the same moment, and if the thief has served something else before.
    let edited = text("z", "owns: {prefixes: [/host/x]}\nrouters: [{label: gateway, dtab: /host/x => /host/spare}]\n");
    let before = [z.clone(), owner("a", "/host/home")];
    let dtab = ";/host/a=>/host/home;/host/x=>/host/spare";
    check(&[edited, thief.clone()], &before, "a=last-good z=current", dtab);
    // Also if the owner breaks its file in the same moment.
    let dtab = ";/host/a=>/host/home;/host/x=>/host/home";
    check(&[text("z", "owns: 1"), thief], &before, "a=last-good z=last-good", dtab);
}

#[test]
fn what_is_given_up_is_free_in_the_same_moment() {
    let before = owner("z", "/host/home");
    let now = [text("z", "owns: {prefixes: [/host/y]}\n"), text("a", "owns: {prefixes: [/host/z]}\n")];
    check(&now, std::slice::from_ref(&before), "a=current z=current", "");
    // But not if the version that gives it up is broken.
    let now = [text("z", "owns: {prefixes: [/host/y]}\nadmin: {}\n"), text("a", "owns: {prefixes: [/host/z]}\n")];
    check(&now, &[before], "a=out z=last-good", ";/host/z=>/host/home");
}

#[test]
fn a_host_and_the_name_that_stands_for_it_are_one_thing() {
    let a = text("a", "owns: {hosts: [web.example.com]}\n");
    for wanted in [
        "prefixes: [/svc/web.example.com]",
        "hosts: ['*.example.com']",
        "hosts: [WEB.example.com]",
        "hosts: [web.example.com.]",
    ] {
        check(&[a.clone(), text("b", &format!("owns: {{{wanted}}}\n"))], &[], "a=current b=out", "");
    }
    check(&[a, text("b", "owns: {hosts: ['*.web.example.com', example.com]}\n")], &[], "a=current b=current", "");
}

#[test]
fn what_the_main_file_writes_is_not_to_be_had() {
    for claim in ["prefixes: [/host]", "prefixes: [/svc]"] {
        check(&[text("a", &format!("owns: {{{claim}}}\n"))], &[], "a=out", "");
    }
}

/// The team `a` with what it owns and rules for the gateway, beside a main file with rules of its own.
#[track_caller]
fn check_rules(main: &str, owns: &str, rules: &str, expected: Result<&[&str], &str>) {
    let main = MAIN.replace(" /host => /#/clusters}", &format!(" /host => /#/clusters, rules: [{main}]}}"));
    let team = format!("owns: {{{owns}}}\nrouters: [{{label: gateway, rules: [{rules}]}}]\n");
    let main = Source::new("serin.yaml", main);
    let merged = merge(&main, &files(&[text("a", &team)]), &BTreeMap::new(), &|_| true, &|_| None).unwrap();
    let report = merged.teams[0].report();
    let rules = merged.config.routers[0].rules.iter();
    let names: Vec<String> = rules.filter_map(|rule| rule.name.as_ref()).map(ToString::to_string).collect();
    match expected {
        Ok(expected) => assert_eq!((names.join(" "), report.as_str()), (expected.join(" "), "")),
        Err(part) => assert!(merged.teams[0].state == TeamState::Out && report.contains(part), "{report}"),
    }
}

#[test]
fn rules_of_teams_stand_behind_those_of_the_main_file_and_lead_anywhere() {
    let main = "{match: {path: {prefix: /}}, name: /svc/home}";
    let rules = "{match: [{host: a.b}, {host: [x.shop.b, '*.y.shop.b'], method: GET}], name: /host/spare}, \
                 {match: {host: A.B., path: {exact: /x}}, name: /svc/home}";
    let owns = "hosts: [a.b, '*.shop.b']";
    check_rules(main, owns, rules, Ok(&["/svc/home", "/host/spare", "/svc/home"]));
    let two = |team: &str| {
        let rule = format!("{{match: {{host: {team}.b}}, name: /svc/{team}}}");
        text(team, &format!("owns: {{hosts: [{team}.b]}}\nrouters: [{{label: gateway, rules: [{rule}]}}]\n"))
    };
    let rules = merged(&[two("web"), two("api")], &[]).config.routers.remove(0).rules;
    let names: Vec<String> = rules.iter().filter_map(|rule| rule.name.as_ref()).map(ToString::to_string).collect();
    assert_eq!(names, ["/svc/api", "/svc/web"]);
}

#[test]
fn rules_of_teams_are_for_their_hosts_only() {
    for (owns, rules, expected) in [
        ("hosts: [a.b]", "{match: {host: c.b}, name: /svc/x}", "requests for `c.b` are not owned"),
        ("hosts: [a.b]", "{match: [{host: a.b}, {host: c.b}], name: /svc/x}", "requests for `c.b`"),
        ("hosts: [a.b]", "{match: {host: [a.b, c.b]}, redirect: {host: d.b}}", "requests for `c.b`"),
        ("hosts: [a.b]", "{match: {host: '*.a.b'}, name: /svc/x}", "requests for `*.a.b`"),
        ("hosts: ['*.a.b']", "{match: {host: a.b}, name: /svc/x}", "requests for `a.b`"),
        ("hosts: ['*.a.b']", "{match: {host: '*.b'}, name: /svc/x}", "requests for `*.b`"),
        ("prefixes: [/svc/a.b]", "{match: {host: a.b}, name: /svc/a.b}", "requests for `a.b`"),
        ("hosts: [a.b]", "{name: /svc/x}", "a rule for every host"),
        ("hosts: [a.b]", "{match: {path: {prefix: /x}}, name: /svc/x}", "a rule for every host"),
        ("hosts: [a.b]", "{match: [{host: a.b}, {method: GET}], name: /svc/x}", "a rule for every host"),
        ("hosts: [a.b]", "{match: , name: /svc/x}", "`match` has no value"),
        ("hosts: [a.b]", "{match: {host: }, name: /svc/x}", "`host` has no value"),
        ("hosts: [a.b]", "{match: {host: []}, name: /svc/x}", "`host` is empty"),
        ("hosts: [a.b]", "{match: [], name: /svc/x}", "`match` is empty"),
        ("hosts: [a.b]", "{match: {host: '*'}, name: /svc/x}", "allowed is a host without port"),
        ("hosts: [a.b]", "{match: {host: a.b, host: c.b}, name: /svc/x}", "`host` is written twice"),
        ("hosts: [a.b]", "5", "rules"),
    ] {
        check_rules("{match: {host: z.b}, name: /svc/home}", owns, rules, Err(expected));
    }
}

#[test]
fn hosts_that_the_main_file_has_rules_for_are_its_own() {
    let main = "{match: [{host: [home.b, '*.deep.b']}, {host: 'x.y.b'}], name: /svc/home}";
    for taken in ["home.b", "HOME.b.", "'*.b'", "'*.deep.b'", "x.y.b", "'*.y.b'"] {
        check_rules(main, &format!("hosts: [{taken}]"), "", Err("belongs to the main file, which has a rule for it"));
    }
    // A host below a wildcard is as a name below a dentry: the longer one may be had.
    for free in ["me.b", "a.deep.b", "deep.b", "'*.home.b'", "'*.a.deep.b'", "y.b", "ax.y.b"] {
        check_rules(main, &format!("hosts: [{free}]"), "", Ok(&["/svc/home"]));
    }
}

#[test]
fn a_team_does_not_live_from_what_another_brings() {
    let api = text("api", "owns: {clusters: ['api*']}\nclusters: {api: {endpoints: ['127.0.0.1:1']}}\n");
    check(&[owner("web", "/#/clusters/api"), api], &[], "api=current web=out", "");
}

#[test]
fn names_of_rollouts_belong_to_who_had_them_first() {
    let rollout = |team: &str| {
        let block = format!(
            "rollouts: [{{name: r, router: gateway, path: /host/{team}, primary: /#/clusters/home, canary: /#/clusters/spare}}]\n"
        );
        text(team, &format!("owns: {{prefixes: [/host/{team}]}}\n{block}"))
    };
    check(&[rollout("a"), rollout("b")], &[], "a=current b=out", "");
    check(&[rollout("a"), rollout("b")], &[rollout("b")], "a=out b=current", "");
}

/// Limits of the whole name no file: who comes last is refused, not who was there.
#[test]
fn a_limit_of_the_whole_is_passed_by_who_comes_last() {
    let many = |team: &str, rules: usize| {
        let rule = format!("{{when: {{cookie: {{a: b}}}}, dtab: /host/{team} => /host/home}},");
        let text = format!(
            "owns: {{prefixes: [/host/{team}]}}\nrouters: [{{label: gateway, overrides: [{}]}}]\n",
            rule.repeat(rules)
        );
        (team.to_owned(), text)
    };
    check(&[many("a", 500), many("b", 500)], &[], "a=current b=current", "");
    check(&[many("a", 501), many("b", 500)], &[], "a=current b=out", "");
    check(&[many("a", 501), many("b", 500)], &[many("b", 500)], "a=out b=current", "");
}

/// What a team wants in vain holds up nobody: neither who has it, nor who is new beside it.
#[test]
fn a_version_that_is_refused_holds_up_no_edit_of_another_team() {
    let rollout = |team: &str, name: &str, to: &str| {
        let block = format!(
            "rollouts: [{{name: {name}, router: gateway, path: /host/{team}, primary: /#/clusters/home, canary: {to}}}]\n"
        );
        text(team, &format!("owns: {{prefixes: [/host/{team}]}}\n{block}"))
    };
    let spare = "/#/clusters/spare";
    let before = [rollout("a", "a", spare), rollout("z", "z", spare)];
    let now = [rollout("a", "z", spare), rollout("z", "z", "/$/inet/127.1/1")];
    check(&now, &before, "a=last-good z=current", "");
    assert!(merged(&now, &before).teams[0].report().contains("two entries of `rollouts` are called `z`"));
    let now = [now[0].clone(), owner("b", "/host/home"), now[1].clone()];
    check(&now, &before, "a=last-good b=current z=current", ";/host/b=>/host/home");
    // What is handed over is, whoever else is refused.
    let now = [rollout("a", "z", spare), rollout("b", "y", spare), rollout("y", "y", spare), rollout("z", "x", spare)];
    let before = [before[0].clone(), rollout("y", "y", "/$/inet/127.1/1"), before[1].clone()];
    check(&now, &before, "a=current b=out y=current z=current", "");
    // Limits of the whole are no other matter.
    let tests = |team: &str, tests: usize| {
        let list = "{request: {host: x}, expect: {status: 404}},".repeat(tests);
        text(team, &format!("owns: {{prefixes: [/host/{team}]}}\ntests: [{list}]\n"))
    };
    check(&[tests("a", 995), tests("z", 7)], &[tests("a", 1), tests("z", 6)], "a=last-good z=current", "");
}

#[test]
fn a_hundred_teams_are_welcome_and_one_more_is_not() {
    let mut now: Vec<_> = (0..TEAMS_MAX).map(|n| owner(&format!("t{n:03}"), "/host/home")).collect();
    assert!(merged(&now, &[]).teams.iter().all(|team| team.state == TeamState::Current));
    now.push(owner("a-new-one", "/host/home"));
    let before = now[..TEAMS_MAX].to_vec();
    let merged = merged(&now, &before);
    let refused: Vec<&str> =
        merged.teams.iter().filter(|team| team.state != TeamState::Current).map(|team| team.name.as_str()).collect();
    assert_eq!(refused, ["a-new-one"]);
}

#[test]
fn names_of_teams_are_names_of_files() {
    let long = "a".repeat(TEAM_NAME_BYTES_MAX);
    check(&[text(&long, "owns: {prefixes: [/host/x]}\n")], &[], &format!("{long}=current"), "");
    for name in [format!("{long}a"), "a b".to_owned(), String::new(), "é".to_owned()] {
        check(&[text(&name, "owns: {prefixes: [/host/x]}\n")], &[], &format!("{name}=out"), "");
    }
}

#[test]
fn a_team_file_may_have_so_many_bytes_and_values() {
    let start = "owns: {prefixes: [/host/x]}\n";
    let padded = |bytes: usize| text("a", &format!("{start}#{}", "x".repeat(bytes - start.len() - 1)));
    use crate::limits::{TEAM_BYTES_MAX, TEAM_NODES_MAX};
    check(&[padded(TEAM_BYTES_MAX)], &[], "a=current", "");
    check(&[padded(TEAM_BYTES_MAX + 1)], &[], "a=out", "");
    let report =
        merged(&[text("a", &format!("{start}tests: [{}]\n", "1,".repeat(TEAM_NODES_MAX)))], &[]).teams[0].report();
    assert!(report.contains("more than 100000 values"), "{report}");
}

#[test]
fn a_broken_main_file_gives_nothing() {
    let main = Source::new("serin.yaml", "routers: []\n");
    let mistakes =
        merge(&main, &files(&[owner("a", "/host/home")]), &BTreeMap::new(), &|_| true, &|_| None).unwrap_err();
    assert!(mistakes.iter().all(|one| one.code == "config/missing-key"), "{mistakes}");
}

/// Any texts at all: teams that were good and are left alone stay as they are.
mod laws {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn strangers_do_not_move_a_team_that_serves(
            strange in "[a-z]{1,3}",
            claim in prop::sample::select(vec!["/host", "/host/mine", "/host/mine/x", "/svc", "/host/other", "/x"]),
            rest in prop::sample::select(vec!["", "routers: 1\n", "clusters: {home: {endpoints: []}}\n", "\u{1}", "rollouts: [{}]\n"]),
        ) {
            let mine = owner("mine", "/host/home");
            let other = text(&format!("{strange}x"), &format!("owns: {{prefixes: [{claim}]}}\n{rest}"));
            let merged = merged(&[mine.clone(), other], &[mine]);
            let state = merged.teams.iter().find(|team| team.name == "mine").map(|team| team.state);
            prop_assert_eq!(state, Some(TeamState::Current));
            prop_assert!(merged.config.routers[0].dtab.to_string().contains("/host/mine=>/host/home"));
        }
    }
}
