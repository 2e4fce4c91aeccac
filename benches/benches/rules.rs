//! Rules: what it costs to find the one that a request meets, for few and for many.
#![allow(clippy::expect_used, reason = "a benchmark that cannot go on stops loudly")]

use std::fmt::Write;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, Method, Version};
use serin::router::{Parts, RouteTable};
use serin_config::{Config, Source};

/// The same cost is claimed for all of them.
const SIZES: [usize; 3] = [10, 10_000, 50_000];

fn main() {
    let settings = Criterion::default().warm_up_time(Duration::from_millis(300)).sample_size(20);
    let mut criterion = settings.measurement_time(Duration::from_secs(1)).without_plots().configure_from_args();
    for size in SIZES {
        let by_host = table(size, |n| format!("{{host: [h{n}.test, '*.w{n}.test'], path: {{prefix: /v1}}}}"));
        let by_path = table(size, |n| format!("{{host: one.test, path: {{prefix: /team/s{n}}}, method: [GET, HEAD]}}"));
        find(&mut criterion, "host", size, &by_host, ("h7.test", "/v1/x/y"));
        find(&mut criterion, "wildcard", size, &by_host, ("a.b.w7.test:8080", "/v1/x"));
        find(&mut criterion, "no rule", size, &by_host, ("www.example.com", "/v1/x"));
        find(&mut criterion, "path", size, &by_path, ("one.test", "/team/s7/x/y?q=1"));
    }
    criterion.final_summary();
}

fn table(size: usize, one: impl Fn(usize) -> String) -> RouteTable {
    let mut text = "routers:\n- servers: [{port: 1}]\n  rules:\n".to_owned();
    for n in 0..size {
        // writing to a text cannot fail
        let _ = writeln!(text, "  - {{match: {}, name: /svc/s{n}}}", one(n));
    }
    let (config, _) = Config::parse(&Source::new("bench", text)).expect("a legal file");
    RouteTable::new(&config.routers[0].rules)
}

fn find(criterion: &mut Criterion, what: &str, size: usize, table: &RouteTable, (host, path): (&str, &str)) {
    let headers = HeaderMap::new();
    let parts = Parts {
        method: &Method::GET,
        version: Version::HTTP_11,
        host: Some(host.as_bytes()),
        path,
        query: None,
        headers: &headers,
        peer: SocketAddr::from(([127, 0, 0, 1], 1)),
    };
    criterion.benchmark_group("rules").bench_function(BenchmarkId::new(what, size), |bencher| {
        bencher.iter(|| black_box(table).find(black_box(&parts)));
    });
}
