//! One worker between a primary, a canary, and whoever connects.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serin::assemble::{Parts, assemble};
use serin::endpoints::EndpointTable;
use serin::evidence::{Mirrored, Records};
use serin::handover::Handover;
use serin::listener::Listener;
use serin::resolve::{DnsConfig, Resolver};
use serin::snapshot::{Arms, Phase, Routing, Routings, Snapshot, World};
use serin::worker::{self, WorkerSeed};
use serin_config::dtab::{NameTree, Path};
use serin_config::model::{Affinity, Config, Judge, Rollout, StickyKey, Storage, Strategy};
use serin_config::source::Source;
use serin_metrics::{Format, Metrics, SERIES_MAX};
use serin_rollout::{Pace, Policy, Ppm};

/// Longer than anything takes that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(2);
const V1: &str = "/#/clusters/v1";
const V2: &str = "/#/clusters/v2";

pub(crate) struct Stand {
    pub(crate) address: SocketAddr,
    pub(crate) world: Arc<World>,
    metrics: Arc<Metrics>,
    worker: JoinHandle<()>,
}

/// What differs from test to test.
pub(crate) struct Setting {
    pub(crate) primary: Option<SocketAddr>,
    pub(crate) canary: Option<SocketAddr>,
    pub(crate) strategy: Strategy,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) stickiness: Option<StickyKey>,
    /// Keys of the router and of its server.
    pub(crate) router: &'static str,
    pub(crate) server: &'static str,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            primary: None,
            canary: None,
            strategy: Strategy::Weights,
            affinity: None,
            stickiness: None,
            router: "",
            server: "",
        }
    }
}

impl Setting {
    fn config(self) -> Arc<Config> {
        let list = |address: Option<SocketAddr>| address.map_or(String::new(), |address| format!("'{address}'"));
        let text = format!(
            "clusters: {{v1: {{endpoints: [{}]}}, v2: {{endpoints: [{}]}}}}\nrouters:\n- protocol: http\n  label: out\n  \
             servers: [{{port: 0{}}}]\n  dtab: /svc => /host\n{}",
            list(self.primary),
            list(self.canary),
            self.server,
            self.router
        );
        let mut config = Config::parse(&Source::new("t", text)).unwrap().0;
        config.workers = NonZeroUsize::new(1);
        config.storage = Some(Storage::Memory);
        config.rollouts.push(Rollout {
            name: "x".into(),
            router: "out".into(),
            path: path("/host/x"),
            primary: path(V1),
            canary: path(V2),
            revision: V2.parse().unwrap(),
            fallback: NameTree::Fail,
            pace: Pace::Evidence(Policy::default()),
            strategy: self.strategy,
            stickiness: self.stickiness,
            affinity: self.affinity,
            on_unhealthy: None,
            judge: Judge::Here,
            suspend: false,
            skip_analysis: false,
            progress_deadline: Duration::from_secs(600),
            metrics: Vec::new(),
            hooks: Vec::new(),
            alerts: Vec::new(),
        });
        Arc::new(config)
    }

    pub(crate) fn start(self) -> Stand {
        let config = self.config();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), 1).unwrap();
        let endpoints = Arc::new(EndpointTable::default());
        let mut resolver = Resolver::new(Arc::clone(&endpoints), DnsConfig::default());
        let names = resolver.configure(&config.clusters, &config.namers, &config.egress);
        let listeners = [Arc::clone(&listener)];
        let routings = Routings::default();
        let parts = Parts {
            config: &config,
            listeners: &listeners,
            admin: ([127, 0, 0, 1], 1).into(),
            names: &names,
            workers: 1,
            previous: None,
            routings: &routings,
            stored: &Default::default(),
            interfaces: &[],
        };
        let (structure, weights) = assemble(&parts);
        let world = World::new(Snapshot { version: 1, structure, weights }, routings);
        let metrics = Metrics::new(1, SERIES_MAX);
        let (handover, mut inboxes) = Handover::new(1);
        let seed = WorkerSeed {
            index: 0,
            workers: 1,
            world: Arc::clone(&world),
            metrics: Arc::clone(&metrics),
            endpoints,
            records: Arc::new(Records::new(1, Box::new(|| {}))),
            handover,
            inbox: inboxes.remove(0),
        };
        let worker = worker::spawn(seed).unwrap();
        Stand { address: listener.address, world, metrics, worker }
    }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

impl Stand {
    /// What a judge would want.
    pub(crate) fn route(&self, percent: u32, mirrored: bool) {
        let arms = Arms { primary: path(V1), canary: path(V2) };
        let share = Ppm::from_percent(percent).unwrap();
        let routing = Routing { origin: path(V1), proven: path(V1), arms, share, mirrored };
        assert!(self.world.publish_routing(&"x".into(), Some(&routing)));
    }

    pub(crate) fn mirrored(&self) -> Mirrored {
        self.world.load().structure.rollout("x").unwrap().1.evidence.mirrored()
    }

    /// The value of the one line that begins so; nothing if there is none.
    pub(crate) fn metric(&self, line: &str) -> Option<f64> {
        let page = self.metrics.encode(Format::Classic, 0);
        page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    /// Copies, by class of the counter.
    pub(crate) fn copies(&self, class: &str) -> f64 {
        let line = format!("serin_mirror_requests_total{{router=\"out\",split=\"/host/x\",class=\"{class}\"}}");
        self.metric(&line).unwrap_or(0.0)
    }

    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
            if condition(self) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        panic!("never: {what}\n{}", self.metrics.encode(Format::Classic, 0));
    }

    /// The worker ends without being cut.
    #[track_caller]
    pub(crate) fn check_drains(&self) {
        self.world.enter(Phase::Draining);
        self.eventually("an end of the worker", |stand| stand.worker.is_finished());
    }
}
