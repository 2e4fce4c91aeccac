//! What is refused, with which code, and exactly where; and what is accepted with a warning.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use serin_config::limits::*;
use serin_config::model::Namerd;
use serin_config::{Config, Diagnostic, Severity, Source};

fn check(text: &str, expected: &[(&str, &str)], severity: Severity) {
    let source = Source::new("serin.yaml", text);
    let found = match Config::parse_with(&source, &|folder| folder.ends_with("there")) {
        Ok((_, warnings)) => warnings,
        Err(mistakes) => mistakes.to_vec(),
    };
    let place = |diagnostic: &Diagnostic| (diagnostic.code, diagnostic.position(&source).to_string());
    let places: Vec<_> = found.iter().filter(|found| found.severity == severity).map(place).collect();
    let expected: Vec<_> = expected.iter().map(|(code, place)| (*code, (*place).to_owned())).collect();
    assert_eq!(places, expected, "{text}\n{found:#?}");
}

/// Errors of a whole file, in its order.
fn check_refused(text: &str, expected: &[(&str, &str)]) {
    check(text, expected, Severity::Error);
}

/// Errors of a file whose first line is `line` and whose second is a small router.
fn check_top(line: &str, code: &str, column: usize) {
    check_line(&format!("{line}\nrouters: [{{servers: [{{port: 4140}}]}}]\n"), code, 1, column);
}

/// No error if the code is empty.
fn check_line(text: &str, code: &str, line: usize, column: usize) {
    let place = format!("{line}:{column}");
    let expected = [(code, place.as_str())];
    check_refused(text, if code.is_empty() { &[] } else { &expected });
}

/// Errors of `keys` on the third line of a file, in a router.
fn check_router(keys: &str, code: &str, column: usize) {
    check_line(&format!("routers:\n- servers: [{{port: 4140}}]\n  {keys}\n"), code, 3, column);
}

/// Errors of `keys` on the second line of a file, in a server.
fn check_server(keys: &str, code: &str, column: usize) {
    check_line(&format!("routers: [{{servers: [{{\n{keys}}}]}}]\n"), code, 2, column);
}

fn check_warned(text: &str, code: &str, place: &str) {
    check_refused(text, &[]);
    check(text, &[(code, place)], Severity::Warning);
}

fn check_warned_router(keys: &str, column: usize) {
    check_warned(
        &format!("routers:\n- servers: [{{port: 4140}}]\n  {keys}\n"),
        "config/no-effect",
        &format!("3:{column}"),
    );
}

#[test]
fn a_file_needs_a_router_and_a_router_a_server() {
    check_refused("admin: {port: 1}\n", &[("config/missing-key", "1:1")]);
    check_refused("routers: []\n", &[("config/missing-key", "1:1")]);
    check_refused("routers: [{protocol: http}]\n", &[("config/missing-key", "1:12")]);
    check_refused("routers: [{servers: []}]\n", &[("config/missing-key", "1:12")]);
    check_refused("just text\n", &[("config/wrong-value", "1:1")]);
    check_refused("routers: 5\n", &[("config/wrong-value", "1:10")]);
    check_refused("routers: [5]\n", &[("config/wrong-value", "1:11")]);
}

#[test]
fn unknown_and_repeated_keys_are_refused_at_every_level() {
    check_top("routerz: []", "config/unknown-key", 1);
    check_top("admin: {prot: 1}", "config/unknown-key", 9);
    check_top("drain: {delay: 1}", "config/unknown-key", 9);
    check_top("egress: {deny: []}", "config/unknown-key", 10);
    check_top("clusters: {a: {endpoints: [], weight: 1}}", "config/unknown-key", 31);
    check_top("clusters: {a: {endpoints: []}, a: {endpoints: []}}", "config/duplicate-key", 32);
    check_top("admin: {port: 1, port: 2}", "config/duplicate-key", 18);
    check_router("dtap: ''", "config/unknown-key", 3);
    check_server("prot: 1", "config/unknown-key", 1);
}

#[test]
fn a_key_without_value_is_refused() {
    check_top("admin:", "config/no-value", 1);
    check_top("admin: {port: }", "config/no-value", 9);
    check_router("dtab: ~", "config/no-value", 3);
}

#[test]
fn wrong_scalars_are_refused_where_they_stand() {
    check_top("admin: {port: 65536}", "config/wrong-value", 15);
    check_top("admin: {ip: localhost}", "config/wrong-value", 13);
    check_top("admin: {port: [1]}", "config/wrong-value", 15);
    check_top("admin: 9990", "config/wrong-value", 8);
    check_top("workers: 0", "config/wrong-value", 10);
    check_top("drain: {delayMs: 5s}", "config/wrong-value", 18);
    check_top("egress: {allow: [10.0.0.1/8]}", "config/wrong-value", 18);
    check_router("failover: on", "config/wrong-value", 13);
    check_router("onUnhealthy: ignore", "config/wrong-value", 16);
    check_router("dstPrefix: svc", "config/wrong-value", 14);
    check_router("protocol: htpp", "config/wrong-value", 13);
    check_router("bindingTimeoutMs: 0", "config/wrong-value", 21);
    check_router("label: \"\"", "config/wrong-value", 10);
    check_router("identifier: {kind: io.l5d.header.token, header: ':scheme'}", "config/wrong-value", 51);
    check_server("clearContext: yes", "config/wrong-value", 15);
    check_server("exposure: public", "config/wrong-value", 11);
    check_server("trustedSources: 10.0.0.0/8", "config/wrong-value", 17);
}

#[test]
fn clusters_and_namers_are_checked() {
    check_top("clusters: {a b: {endpoints: []}}", "config/cluster-name", 12);
    check_top("clusters: {a/b: {endpoints: []}}", "config/cluster-name", 12);
    check_top("clusters: {a: {}}", "config/missing-key", 12);
    check_top("clusters: {a: {endpoints: ['x:0']}}", "config/wrong-value", 28);
    check_top("clusters: {a: {endpoints: ['x:1', 'X:1']}}", "config/duplicate-endpoint", 35);
    check_top("namers: [{kind: io.l5d.fs}]", "config/missing-key", 11);
    check_top("namers: [{rootDir: there}]", "config/missing-key", 11);
    check_top("namers: [{kind: io.l5d.fs, rootDir: gone}]", "config/no-folder", 37);
    check_top("namers: [{kind: io.l5d.fs, rootDir: there, prefix: clusters}]", "config/wrong-value", 52);
    check_top("namers: [{kind: io.l5d.ff, rootDir: there}]", "config/wrong-value", 17);
    check_top("namers: [{kind: io.l5d.fs, rootDir: there}]", "", 0);
}

#[test]
fn listeners_do_not_clash() {
    check_refused("routers: [{servers: [{port: 5}, {port: 5}]}]", &[("config/address-in-use", "1:34")]);
    check_refused("routers: [{servers: [{port: 9990}]}]", &[("config/address-in-use", "1:23")]);
    check_refused(
        "admin: {port: 7}\nrouters: [{servers: [{ip: 0.0.0.0, clearContext: true, port: 7}]}]",
        &[("config/address-in-use", "2:56")],
    );
    check_refused(
        "routers: [{servers: [{port: 5}]}, {label: b, servers: [{ip: 0.0.0.0, port: 5}]}]",
        &[("config/address-in-use", "1:70")],
    );
    let labels = "routers: [{servers: [{port: 5}]}, {servers: [{port: 6}]}]";
    check_refused(labels, &[("config/duplicate-label", "1:36")]);
    check_server("clearContext: true, trustedSources: [10.0.0.0/8]", "config/conflict", 21);
}

#[test]
fn dtab_mistakes_point_into_every_style_of_text() {
    check_router("dtab: /a = /b", "dtab/syntax", 13);
    check_router("dtab: '/a => /é'", "dtab/syntax", 17);
    check_router("dtab: \"/a \\u003d /b\"", "dtab/syntax", 19);
    check_refused(
        "routers:\n- servers: [{port: 1}]\n  dtab: |\n\n    /a => /b ;\n\n    /c =\n",
        &[("dtab/syntax", "7:9")],
    );
    check_refused(
        "routers:\n- servers: [{port: 1}]\n  dtab: >\n    /a => /b ;\n    /c => (/d\n",
        &[("dtab/syntax", "5:14")],
    );
    let two = "routers:\n- servers: [{port: 1}]\n  dtab: |\n    /a = /b ;\n    /c => /d ;\n    e => /f\n";
    check_refused(two, &[("dtab/syntax", "4:9"), ("dtab/syntax", "6:5")]);
    check_router("dtab: [/a]", "config/wrong-value", 9);
}

#[test]
fn names_nobody_answers_for_are_found_in_the_dtab() {
    check_router("dtab: /a => /b | /#/clusters/web/x", "dtab/unknown-cluster", 20);
    check_router("dtab: /a => /#/io.l5d.fs/web", "dtab/unknown-namer", 15);
    check_router("dtab: /a => /$/inett/web/80", "dtab/unknown-namer", 15);
    check_router("dtab: /a => 0 * /b & 0 * /c", "dtab/zero-union", 15);
    check_router("dtab: /a => /x | (0*/b & (/e & 0.0*/d) & 0*/c)", "", 0);
    check_router("dtab: /a => /x & 0*(0*/b & 0*/c)", "dtab/zero-union", 23);
}

#[test]
fn override_rules_need_a_condition_and_a_dentry() {
    check_router("overrides: [{dtab: /a => /b}]", "config/missing-key", 16);
    check_router("overrides: [{when: {}, dtab: /a => /b}]", "config/no-condition", 16);
    check_router("overrides: [{when: {cookie: {}, method: []}, dtab: /a => /b}]", "config/no-condition", 16);
    check_router("overrides: [{when: {method: GET}}]", "config/missing-key", 16);
    check_router("overrides: [{when: {method: GET}, dtab: ''}]", "config/empty-override", 43);
    check_router("overrides: [{when: {method: GET}, dtab: /a => /#/clusters/x}]", "dtab/unknown-cluster", 49);
    check_router("overrides: [{when: {method: get}, dtab: /a => /b}]", "config/wrong-value", 31);
    check_router("overrides: [{when: {pathPrefix: a}, dtab: /a => /b}]", "config/wrong-value", 35);
    check_router("overrides: [{when: {pathPrefix: /a?b}, dtab: /a => /b}]", "config/wrong-value", 35);
    check_router("overrides: [{when: {cookie: {a: 'b;c'}}, dtab: /a => /b}]", "config/wrong-value", 35);
    check_router("overrides: [{when: {cookie: {'a b': c}}, dtab: /a => /b}]", "config/wrong-value", 32);
    check_router("overrides: [{when: {header: {a: b, A: c}}, dtab: /a => /b}]", "config/duplicate-key", 31);
    check_router("overrides: [{when: {header: {a: ' b'}}, dtab: /a => /b}]", "config/wrong-value", 35);
    check_router("overrides: [{when: {source: [1.2.3.4, x]}, dtab: /a => /b}]", "config/wrong-value", 41);
}

#[test]
fn split_rules_need_a_dentry_with_a_union() {
    check_router("splits: [{path: /a}]", "config/no-split", 19);
    check_refused(
        "routers:\n- servers: [{port: 1}]\n  dtab: /a => /b ; /c => /d & /e\n  splits: [{path: /a}, {path: /c}, {path: /c}, {}]\n",
        &[("config/no-split", "4:19"), ("config/duplicate-split", "4:43"), ("config/missing-key", "4:48")],
    );
    let sticky = |stickiness: &str, code: &str, column: usize| {
        let text = format!(
            "routers:\n- servers: [{{port: 1}}]\n  dtab: /a => /b & /c\n  splits: [{{path: /a, stickiness: {stickiness}}}]\n"
        );
        check_refused(&text, &[(code, &format!("4:{column}"))]);
    };
    sticky("{cookie: a, header: b}", "config/stickiness", 36);
    sticky("{}", "config/stickiness", 35);
    sticky("{source: port}", "config/wrong-value", 44);
}

#[test]
fn what_is_not_built_is_refused_and_says_so() {
    check_top("announcers: []", "config/not-built", 1);
    check_top("namers: [{kind: io.l5d.k8s}]", "config/not-built", 17);
    check_top("telemetry: [{kind: io.l5d.zipkin}]", "config/not-built", 20);
    check_top("telemetry: [{kind: io.l5d.prometheus, path: /x}]", "config/not-built", 39);
    check_top("admin: {tls: {}}", "config/not-built", 9);
    for key in ["tls: {}", "httpAccessLog: x", "originator: true", "streamingEnabled: false", "compressionLevel: 1"] {
        check_router(key, "config/not-built", 3);
    }
    check_router("protocol: thrift", "config/not-built", 13);
    check_router("identifier: {kind: io.l5d.ingress}", "config/not-built", 22);
    check_router("identifier: [{kind: io.l5d.header.token}, {kind: io.l5d.k8s.istio}]", "config/not-built", 52);
    check_router("interpreter: {kind: io.l5d.mesh}", "config/not-built", 23);
    check_router("client: {loadBalancer: {kind: heap}}", "config/not-built", 33);
    check_router("client: {loadBalancer: {kind: aperture}}", "config/not-built", 33);
    check_router("client: {loadBalancer: {kind: p2c, enableProbation: true}}", "config/not-built", 38);
    check_router("client: {forwardClientCert: true}", "config/not-built", 12);
    check_router("client: {hostConnectionPool: {maxSize: 1}}", "config/not-built", 33);
    check_router("client: {tls: {}}", "config/not-built", 12);
    for key in ["tls: {}", "label: x", "timeoutMs: 1", "announce: []"] {
        check_server(key, "config/not-built", 1);
    }
    check_server("socketOptions: {backlog: 1}", "config/not-built", 17);
    check_server("socketOptions: {noDelay: false}", "config/not-built", 17);
}

#[test]
fn headers_that_are_written_are_checked() {
    check_router("tracePropagator: {}", "config/missing-key", 20);
    check_router("tracePropagator: {kind: io.l5d.zipkins}", "config/wrong-value", 27);
    check_router("tracePropagator: {kind: io.l5d.zipkin}", "", 0);
    check_server("addForwardedHeader: {}", "", 0);
    check_server("addForwardedHeader: {by: {kind: ips}}", "config/wrong-value", 33);
    check_server("addForwardedHeader: {for: {kind: static}}", "config/missing-key", 28);
    check_server("addForwardedHeader: {for: {kind: static, label: 'a b'}}", "config/wrong-value", 49);
    check_server(&format!("addForwardedHeader: {{for: {{kind: static, label: {}}}}}", "a".repeat(128)), "", 0);
    let long = format!("addForwardedHeader: {{for: {{kind: static, label: {}}}}}", "a".repeat(129));
    check_server(&long, "config/wrong-value", 49);
    check_server("timestampHeader: X-Start", "", 0);
    check_server("timestampHeader: 'a b'", "config/wrong-value", 18);
    let taken = [
        "Host",
        "content-length",
        "l5d-at",
        "l5d_at",
        "X-B3-At",
        "via",
        "Authorization",
        "cookie",
        "X-Forwarded-For",
        "x_forwarded_proto",
        "forwarded",
        "expect",
        "max-forwards",
        "proxy-authorization",
        "grpc-timeout",
        "content-type",
    ];
    for name in taken {
        check_server(&format!("timestampHeader: {name}"), "config/wrong-value", 18);
    }
}

#[test]
fn backoffs_are_checked() {
    let backoff = |backoff: &str, code: &str, column: usize| {
        check_router(
            &format!("client: {{failureAccrual: {{kind: io.l5d.consecutiveFailures, backoff: {backoff}}}}}"),
            code,
            column,
        );
    };
    backoff("{kind: jittered, minMs: 1}", "config/missing-key", 73);
    backoff("{kind: jittered, minMs: 2, maxMs: 1}", "config/wrong-value", 73);
    backoff("{minMs: 2, maxMs: 1}", "config/missing-key", 73);
    backoff("{kind: exponential}", "config/wrong-value", 79);
}

#[test]
fn keys_without_effect_are_accepted_with_a_warning() {
    check_warned("usage: {orgId: x}\nrouters: [{servers: [{port: 1}]}]", "config/no-effect", "1:1");
    check_warned("admin: {workerThreads: 2}\nrouters: [{servers: [{port: 1}]}]", "config/no-effect", "1:9");
    check_warned_router("maxRequestKB: 5120", 3);
    check_warned_router("streamingEnabled: true", 3);
    check_warned_router("bindingCache: {paths: 5, trees: 5}", 28);
    check_warned_router("client: {loadBalancer: {kind: p2c, maxEffort: 5}}", 38);
    check_warned_router("client: {socketOptions: {noDelay: true}}", 28);
    check_warned_router("client: {failureAccrual: {kind: none, failures: 3}}", 41);
}

#[test]
fn an_open_listener_without_clear_context_is_warned_about() {
    check_warned("routers: [{servers: [{ip: 0.0.0.0, port: 1}]}]", "config/clear-context", "1:36");
    check("routers: [{servers: [{ip: 127.0.0.2, port: 1}]}]", &[], Severity::Warning);
    check("routers: [{servers: [{ip: 0.0.0.0, port: 1, clearContext: true}]}]", &[], Severity::Warning);
    check("routers: [{servers: [{ip: 0.0.0.0, port: 1, trustedSources: []}]}]", &[], Severity::Warning);
}

#[test]
fn numbers_end_at_their_limits() {
    let at_and_beyond = |key: &str, max: u64, column: usize| {
        check_router(&key.replace('N', &max.to_string()), "", 0);
        check_router(&key.replace('N', &(max + 1).to_string()), "config/wrong-value", column);
    };
    at_and_beyond("bindingTimeoutMs: N", DURATION_MS_MAX, 21);
    at_and_beyond("bindingCache: {paths: N}", BINDING_NAMES_MAX, 25);
    at_and_beyond(
        "client: {failureAccrual: {kind: io.l5d.consecutiveFailures, failures: N}}",
        ACCRUAL_FAILURES_MAX,
        73,
    );
    check_top(&format!("workers: {WORKERS_MAX}"), "", 0);
    check_top(&format!("workers: {}", WORKERS_MAX + 1), "config/wrong-value", 10);
    check_server(&format!("maxCallDepth: {CALL_DEPTH_MAX}"), "", 0);
    check_server(&format!("maxCallDepth: {}", CALL_DEPTH_MAX + 1), "config/wrong-value", 15);
    check_router(&format!("label: {}", "x".repeat(LABEL_BYTES_MAX)), "", 0);
    check_router(&format!("label: {}", "x".repeat(LABEL_BYTES_MAX + 1)), "config/wrong-value", 10);
    let cookie = |length| format!("overrides: [{{when: {{cookie: {{a: {}}}}}, dtab: /a => /b}}]", "x".repeat(length));
    check_router(&cookie(VALUE_BYTES_MAX), "", 0);
    check_router(&cookie(VALUE_BYTES_MAX + 1), "config/wrong-value", 35);
}

#[test]
fn override_rules_end_at_their_limit() {
    let rules = |count| format!("overrides: [{}]", vec!["{when: {method: GET}, dtab: /a => /b}"; count].join(", "));
    check_router(&rules(OVERRIDES_MAX), "", 0);
    check_router(&rules(OVERRIDES_MAX + 1), "config/too-many", 3);
}

#[test]
fn diagnostics_end_at_their_limit_and_errors_go_before_warnings() {
    let file = |unknown: usize| {
        let keys: Vec<String> = (0..unknown).map(|n| format!("unknown{n}: 1\n")).collect();
        format!("routers: [{{servers: [{{port: 1, ip: 0.0.0.0}}]}}]\n{}", keys.concat())
    };
    let at = Config::parse(&Source::new("t", file(DIAGNOSTICS_MAX - 1))).unwrap_err();
    assert_eq!((at.len(), at.omitted()), (DIAGNOSTICS_MAX, 0));
    let beyond = Config::parse(&Source::new("t", file(DIAGNOSTICS_MAX + 5))).unwrap_err();
    assert_eq!((beyond.len(), beyond.omitted()), (DIAGNOSTICS_MAX, 5));
    assert!(beyond.iter().all(|diagnostic| diagnostic.severity == Severity::Error));
}

#[test]
fn one_mistake_is_said_once() {
    let text = "namers: [{kind: io.l5d.k8s}]\nrouters:\n- servers: [{port: 1}]\n  dtab: /a => /#/io.l5d.k8s/x\n";
    check_refused(text, &[("config/not-built", "1:17")]);
    let text = "clusters: {a: 5}\nrouters:\n- servers: [{port: x}, {port: y}]\n  dtab: /a => /#/clusters/a\n";
    check_refused(
        text,
        &[("config/wrong-value", "1:15"), ("config/wrong-value", "3:20"), ("config/wrong-value", "3:31")],
    );
    check_refused("admin: {port: x}\nrouters: [{servers: [{port: 9990}]}]\n", &[("config/wrong-value", "1:15")]);
    let text = "routers:\n- servers: [{port: 1}]\n  dtab: /a = /b\n  splits: [{path: /a}]\n";
    check_refused(text, &[("dtab/syntax", "3:13")]);
}

#[test]
fn a_dtab_that_goes_to_a_namerd_ends_where_a_question_does() {
    let text = |last: usize| {
        // beside its n a dentry has 19 octets as it is sent, and `;` is 3
        let dentry = |n: usize| format!("/svc/{}=>/b", "n".repeat(n));
        let rest = Namerd::DTAB_OCTETS_MAX - 4 * 19 - 3 * 3 - 3 * 12_000;
        let dtab = [12_000, 12_000, 12_000, rest + last].map(dentry).join(";");
        let interpreter = "interpreter: {kind: io.l5d.namerd.http, dst: /$/inet/127.0.0.1/4180}";
        format!("routers:\n- servers: [{{port: 4140}}]\n  {interpreter}\n  dtab: {dtab}\n")
    };
    check_refused(&text(0), &[]);
    check_refused(&text(1), &[("config/too-long", "4:9")]);
}

#[test]
fn stored_dtabs_need_a_storage_and_a_name_that_can_be_a_file() {
    check_router("interpreter: {kind: default, namespace: web}", "config/no-storage", 32);
    check_top("interfaces: [{kind: io.l5d.httpController}]", "config/no-storage", 15);
    let with = |keys: &str| format!("storage: {{kind: memory}}\nrouters: [{{servers: [{{port: 4140}}], {keys}}}]\n");
    check_line(&with("interpreter: {kind: default, namespace: web}"), "", 2, 1);
    check_line(&with("interpreter: {kind: default, namespace: a/b}"), "config/wrong-value", 2, 77);
    check_line(&with("interpreter: {kind: io.l5d.fs}"), "config/not-built", 2, 57);
    check_line(&with("interpreter: {kind: default, namespaces: web}"), "config/unknown-key", 2, 66);
}

#[test]
fn interfaces_are_those_of_namerd_that_there_are() {
    let with = |list: &str| {
        format!("storage: {{kind: memory}}\ninterfaces: {list}\nrouters: [{{servers: [{{port: 4140}}]}}]\n")
    };
    check_line(&with("[{kind: io.l5d.httpController}]"), "", 2, 1);
    check_line(&with("[{kind: io.l5d.mesh}]"), "config/not-built", 2, 21);
    check_line(&with("[{kind: io.l5d.httpController, tls: {}}]"), "config/not-built", 2, 44);
    check_line(&with("[{kind: io.l5d.httpController, port: 9990}]"), "config/address-in-use", 2, 50);
    check_line(&with("[{kind: io.l5d.httpController, port: 4140}]"), "config/address-in-use", 2, 50);
    let many = |count: usize| with(&format!("[{}]", vec!["{kind: io.l5d.httpController, port: 0}"; count].join(", ")));
    check_line(&many(INTERFACES_MAX), "", 2, 1);
    check_line(&many(INTERFACES_MAX + 1), "config/too-many", 2, 1);
}

#[test]
fn a_router_has_a_bounded_number_of_identifiers() {
    let list = |count| format!("identifier: [{}]", vec!["{kind: io.l5d.path}"; count].join(", "));
    check_router(&list(IDENTIFIERS_MAX), "", 0);
    check_router(&list(IDENTIFIERS_MAX + 1), "config/too-many", 3);
}
