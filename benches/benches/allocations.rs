//! Allocations per request of the proxy, and a failure when there are more than there were.
//!
//! The proxy runs in this process, under an allocator that counts; client and upstreams run in processes of their own.
//! A count does not wobble as a time does, so it is this that is held: exit code 1 above a bound.

use std::alloc::System;
use std::process::ExitCode;

use serin_benches::children::{self, Kind};
use serin_benches::proxy::{self, Proxy};
use serin_benches::{measures, tables};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests counted for each kind. So many that timers and sweeps, which allocate a little, do not show.
const REQUESTS: u64 = 5_000;
/// The same where nothing is measured.
const REQUESTS_CHECKED: u64 = 10;

/// Most allocations and reallocations together that one request may take: a little over what was counted (3.0, 3.0, 4.0,
/// 4.0 and 12.1). hyper and h2 make most of them; one is ours, the future at the end of the stack.
fn bound(kind: Kind) -> f64 {
    match kind {
        Kind::Get128 => 3.2,
        Kind::Get10K => 3.2,
        Kind::Post10K => 4.2,
        Kind::H2ToHttp1 => 4.2,
        Kind::GrpcUnary => 12.5,
    }
}

fn main() -> ExitCode {
    if children::run() {
        return ExitCode::SUCCESS;
    }
    let requests = if measures() { REQUESTS } else { REQUESTS_CHECKED };
    let (_upstreams, http1, grpc) = children::upstreams();
    let plain = proxy::config(&tables::text(100, 10), http1, grpc);
    let mut kept = true;
    // what the judge of a rollout is told costs no request an allocation either
    for (what, text) in [("without a rollout", plain.clone()), ("with a rollout", proxy::with_rollout(&plain))] {
        let proxy = Proxy::start(text);
        println!("{what:<24}{:>14}{:>16}{:>10}{:>9}", "allocations", "reallocations", "octets", "bound");
        for kind in Kind::ALL {
            let counted = count(kind, &proxy, requests);
            let within = counted.allocations + counted.reallocations <= bound(kind);
            kept &= within || !measures();
            let Counted { allocations, reallocations, octets } = counted;
            let verdict = if within { "" } else { "  too many" };
            let (label, bound) = (kind.label(), bound(kind));
            println!("{label:<24}{allocations:>14.2}{reallocations:>16.2}{octets:>10.0}{bound:>9.1}{verdict}");
        }
        proxy.stop();
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Of one request, on average.
struct Counted {
    allocations: f64,
    reallocations: f64,
    octets: f64,
}

fn count(kind: Kind, proxy: &Proxy, requests: u64) -> Counted {
    let mut load = children::load(kind, proxy.address);
    let region = Region::new(ALLOCATOR);
    load.send(requests);
    let change = region.change();
    let each = |total: usize| total as f64 / requests as f64;
    Counted {
        allocations: each(change.allocations),
        reallocations: each(change.reallocations),
        octets: each(change.bytes_allocated),
    }
}
