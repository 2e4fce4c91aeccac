//! Whole requests over loopback: client, proxy with one worker, upstream. On a small machine they share cores, so
//! compare lines of one run with each other, not with those of another machine.

use std::net::SocketAddr;
use std::time::Duration;

use criterion::Criterion;
use serin_benches::client::{self, Http1, Http2};
use serin_benches::proxy::{self, Proxy};
use serin_benches::{tables, upstream};

/// A table as people write it, and a very large one.
const SIZES: [usize; 2] = [10, 100_000];
/// Names asked for in turn where the name is not always the same.
const NAMES_IN_TURN: usize = 1_000;

fn main() {
    let settings = Criterion::default().warm_up_time(Duration::from_millis(500)).sample_size(20);
    let mut criterion = settings.measurement_time(Duration::from_secs(3)).without_plots().configure_from_args();
    let upstreams = (upstream::http1(), upstream::grpc());
    for dentries in SIZES {
        let text = tables::text(dentries, tables::services(dentries).min(100));
        let proxy = Proxy::start(proxy::config(&text, upstreams.0, upstreams.1));
        http1(&mut criterion, dentries, proxy.address);
        http2(&mut criterion, dentries, proxy.address);
        proxy.stop();
    }
    criterion.final_summary();
}

fn http1(criterion: &mut Criterion, dentries: usize, address: SocketAddr) {
    let mut client = Http1::connect(address);
    let services = tables::services(dentries);
    let one = client::get(&format!("service-{}", services / 2), 128);
    criterion.bench_function(&format!("requests/http1_get/{dentries}"), |bencher| {
        bencher.iter(|| client.round_trip(&one));
    });
    let many = (0..services.min(NAMES_IN_TURN)).map(|name| client::get(&format!("service-{name}"), 128));
    let many: Vec<_> = many.collect();
    let mut turn = 0;
    criterion.bench_function(&format!("requests/http1_get_names_in_turn/{dentries}"), |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % many.len();
            client.round_trip(&many[turn])
        });
    });
    let post = client::post("hello", 10 << 10, 128);
    criterion.bench_function(&format!("requests/http1_post_10k/{dentries}"), |bencher| {
        bencher.iter(|| client.round_trip(&post));
    });
}

fn http2(criterion: &mut Criterion, dentries: usize, address: SocketAddr) {
    let client = Http2::connect(address, 1);
    let service = format!("service-{}", tables::services(dentries) / 2);
    criterion.bench_function(&format!("requests/h2_get_from_http1/{dentries}"), |bencher| {
        bencher.iter(|| client.get(0, &service, 128));
    });
    criterion.bench_function(&format!("requests/grpc_unary/{dentries}"), |bencher| {
        bencher.iter(|| client.call(0, "grpc"));
    });
}
