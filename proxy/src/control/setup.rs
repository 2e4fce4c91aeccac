//! From nothing to a running proxy: everything that can fail, in the order that leaves nothing behind.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use serin_config::model::Config;
use serin_metrics::{Metrics, Reload, SERIES_MAX, WORKERS_MAX};
use tokio::sync::Notify;

use super::doors::{Behind, Door, Doors};
use super::engine::{Engine, Facts};
use super::reading::{self, Loaded};
use super::reload::{self, Sockets};
use super::rollouts::{Front, Journals};
use super::teams::Teams;
use super::{ConfigSource, StartOptions, StartupError, folder, rollouts, sockets};
use crate::admin::office::Office;
use crate::admin::{self, AdminSeed};
use crate::assemble::{self, Parts};
use crate::endpoints::EndpointTable;
use crate::evidence::Records;
use crate::handover::Handover;
use crate::judge::{self, Judge, JudgeSeed, Waker};
use crate::resolve::Resolver;
use crate::snapshot::{Snapshot, World};
use crate::worker::{self, WorkerSeed};
use crate::{clock, world};

/// Reads, binds, assembles and spawns.
pub(super) fn setup(options: &StartOptions) -> Result<Engine, StartupError> {
    let files = reading::read(&options.source)?;
    let mut teams = Teams::at_start(&reading::main_text(&options.source, &files), &files);
    let loaded = reading::parse_or_text(&options.source, &files, teams.last_good());
    let loaded = loaded.map_err(|text| StartupError::Config(text.to_string()))?;
    reload::log_warnings(&loaded);
    teams.judge(&loaded).map_err(StartupError::Config)?;
    let Loaded { config, revision, .. } = loaded;
    let workers = worker_count(&config);

    let given = admin::Tokens { given: options.token.clone(), stored: None };
    let metrics = Metrics::new(workers, SERIES_MAX);
    let front = Front::new(given, Arc::clone(&metrics));
    let mut journals = Journals::at_start(&config, front.clone())?;

    let listen = |error: std::io::Error| StartupError::Listen(error.to_string());
    let (mut sockets, admin_socket, doors) = bind(options, &config, workers).map_err(listen)?;
    let admin_address = sockets.admin_address;

    let endpoints = Arc::new(EndpointTable::default());
    let mut resolver = Resolver::new(Arc::clone(&endpoints), options.dns);
    let names = resolver.configure(&config.clusters, &config.namers, &config.egress);
    resolver.interpret(&config.routers);
    let openings = journals.openings(&config, None);
    let routings = rollouts::routings(&config, &openings);
    let parts = Parts {
        config: &config,
        listeners: &sockets.listeners,
        admin: admin_address,
        interfaces: &Doors::addresses(&doors),
        names: &names,
        workers,
        previous: None,
        routings: &routings,
        stored: &journals.dtabs().namespaces,
    };
    let (structure, weights) = assemble::assemble(&parts);
    let world = World::new(Snapshot { version: 1, structure, weights }, routings);
    let control = world::Control::new(config, revision);
    let status = Arc::new(ArcSwap::from_pointee(control.status().clone()));

    let waker = Waker::default();
    let wake = waker.clone();
    let records = Arc::new(Records::new(workers, Box::new(move || wake.wake())));
    let (judge, rearm) = start_judge(&world, &endpoints, &records, &metrics, &waker)?;
    journals.adopt(&judge, &control.status().config, openings).map_err(StartupError::system("threads for rollouts"))?;
    let handles = spawn_workers(workers, &world, &metrics, &endpoints, &records)?;
    let seed = AdminSeed {
        listener: admin_socket,
        world: Arc::clone(&world),
        metrics: Arc::clone(&metrics),
        endpoints: Arc::clone(&endpoints),
        status: Arc::clone(&status),
        tokens: front.tokens,
        dtabs: front.dtabs,
        teams: teams.board(),
        desk: Some(Arc::new(Office::new(judge.clone(), front.journals))),
    };
    let admin = admin::start(seed).map_err(StartupError::system("a thread for the admin server"))?;
    let (dtabs, tokens) = journals.for_doors();
    let behind = Behind { world: &world, endpoints: &endpoints, dtabs, tokens };
    sockets.doors.serve(doors, &behind).map_err(StartupError::system("a thread for interfaces"))?;
    let addresses = reload::addresses(&world);
    let facts = Facts { addresses, admin: admin_address, world, metrics, endpoints, judge, status };
    let Facts { world, metrics, .. } = &facts;
    reload::report_snapshot(metrics, world);
    metrics.control().reload(Reload::Applied, seconds(clock::unix_ms()));
    teams.commit(metrics, journals.store());
    Ok(Engine::new(options, files, control, facts, resolver, sockets, (journals, teams, rearm), admin, handles))
}

/// Every socket; those of `interfaces` are not served yet.
fn bind(
    options: &StartOptions,
    config: &Config,
    workers: usize,
) -> std::io::Result<(Sockets, std::net::TcpListener, Vec<Door>)> {
    let listeners = sockets::listeners(config, &[], workers)?;
    let admin_wanted = options.admin.unwrap_or(config.admin.address);
    let admin = sockets::admin(admin_wanted)?;
    let doors = Doors::default();
    let bound = doors.bind(config)?;
    Ok((Sockets { listeners, admin_wanted, admin_address: admin.local_addr()?, doors }, admin, bound))
}

/// The judge, and what wakes the control thread when it wants other arms.
fn start_judge(
    world: &Arc<World>,
    endpoints: &Arc<EndpointTable>,
    records: &Arc<Records>,
    metrics: &Arc<Metrics>,
    waker: &Waker,
) -> Result<(Judge, Arc<Notify>), StartupError> {
    let rearm = Arc::new(Notify::new());
    let wanted = Arc::clone(&rearm);
    let seed = JudgeSeed {
        world: Arc::clone(world),
        endpoints: Arc::clone(endpoints),
        records: Arc::clone(records),
        metrics: Arc::clone(metrics),
        assemble: Box::new(move || wanted.notify_one()),
    };
    let judge = judge::start(seed, waker).map_err(StartupError::system("a thread for the judge"))?;
    Ok((judge, rearm))
}

/// Unix time in seconds, as gauges want it.
pub(super) fn seconds(unix_ms: u64) -> f64 {
    unix_ms as f64 / 1000.0
}

/// One worker for each core this process may use, unless the file says otherwise.
pub(super) fn worker_count(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    config.workers.map_or_else(cores, NonZeroUsize::get).min(WORKERS_MAX)
}

fn spawn_workers(
    workers: usize,
    world: &Arc<World>,
    metrics: &Arc<Metrics>,
    endpoints: &Arc<EndpointTable>,
    records: &Arc<Records>,
) -> Result<Vec<JoinHandle<()>>, StartupError> {
    let (handover, inboxes) = Handover::new(workers);
    let spawn = |(index, inbox)| {
        worker::spawn(WorkerSeed {
            index,
            workers,
            world: Arc::clone(world),
            metrics: Arc::clone(metrics),
            endpoints: Arc::clone(endpoints),
            records: Arc::clone(records),
            handover: Arc::clone(&handover),
            inbox,
        })
    };
    let handles: Result<_, _> = inboxes.into_iter().enumerate().map(spawn).collect();
    // those that already run end with the process: a start that fails here is the end of it
    handles.map_err(|cause| {
        world.enter(crate::snapshot::Phase::Cut);
        StartupError::System { what: "a thread for a worker", cause }
    })
}

/// The files of the source that are watched, as it is now. A folder is watched through a file that may not be there.
pub(super) fn watched_files(source: &ConfigSource) -> Vec<PathBuf> {
    match source {
        ConfigSource::File(path) => vec![path.clone()],
        ConfigSource::Folder(path) => folder::watched(path),
        ConfigSource::Text { .. } => Vec::new(),
    }
}
