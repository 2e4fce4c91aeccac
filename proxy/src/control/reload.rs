//! Taking another configuration into force, and telling of it.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use serin_config::diagnostic::render;
use serin_config::dtab::{SplitId, Weight};
use serin_config::model::{Cluster, Config, Namer};
use serin_config::watch::Watcher;
use serin_metrics::{Metrics, Reload, SplitWeights as SplitGauge};
use tokio::sync::Notify;

use super::doors::{Behind, Door, Doors};
use super::engine::{Engine, Facts};
use super::folder::Files;
use super::reading::{self, Loaded};
use super::setup::{seconds, watched_files, worker_count};
use super::{ConfigSource, rollouts, sockets};
use crate::assemble::{self, Parts};
use crate::clock;
use crate::listener::Listener;
use crate::resolve::NameTable;
use crate::snapshot::{Snapshot, SplitWeights, StoredPart, World};
use crate::world::{Event, Note, Stage};

/// The sockets in force.
pub(super) struct Sockets {
    /// In the order of the servers in the file.
    pub(super) listeners: Vec<Arc<Listener>>,
    /// As configured.
    pub(super) admin_wanted: SocketAddr,
    /// As bound.
    pub(super) admin_address: SocketAddr,
    /// Those of `interfaces`.
    pub(super) doors: Doors,
}

/// The watched file and folders.
#[derive(Default)]
pub(super) struct Folders {
    watcher: Option<Watcher>,
    files: Vec<PathBuf>,
    roots: Vec<PathBuf>,
    touched: Arc<Notify>,
}

impl Folders {
    /// Completes when something moved since the last time. Cancel safe.
    pub(super) async fn touched(&self) {
        self.touched.notified().await;
    }
}

impl Engine {
    /// Starts to watch, or watches other folders than before.
    pub(super) fn watch(&mut self) {
        let roots = self.resolver.folders();
        let files = watched_files(&self.source);
        if self.folders.watcher.is_some() && self.folders.roots == roots && self.folders.files == files {
            return;
        }
        if files.is_empty() && roots.is_empty() {
            return;
        }
        let touched = Arc::clone(&self.folders.touched);
        match Watcher::of_files(files.clone(), roots.clone(), move || touched.notify_one()) {
            Ok(watcher) => {
                if let Some(why) = watcher.degraded() {
                    tracing::warn!(why, "the system sends no file events: changes are noticed every few seconds");
                }
                self.folders =
                    Folders { watcher: Some(watcher), files, roots, touched: Arc::clone(&self.folders.touched) };
                // what changed after it was read and before it was watched
                self.folders.touched.notify_one();
            }
            Err(error) => tracing::warn!(%error, "cannot watch for changes: send SIGHUP after an edit"),
        }
    }

    /// Reads the file. Equal bytes are no event unless somebody asked, or the bytes before them were refused.
    pub(super) fn read(&mut self, forced: bool) -> Option<Event> {
        if matches!(self.source, ConfigSource::Text { .. }) {
            if forced {
                tracing::info!("the configuration came from no file: there is nothing to read again");
            }
            return None;
        }
        let files = match reading::read(&self.source) {
            Ok(files) => files,
            Err(error) => return self.unreadable(&error.to_string(), forced),
        };
        if !forced && self.refused.as_ref() == Some(&files) {
            return None;
        }
        if !forced && self.serving == files {
            return self.refused.take().map(|_| Event::Unchanged);
        }
        let loaded = reading::parse_or_text(&self.source, &files, self.teams.last_good());
        // refused until it is in force: that clears it
        self.refused = Some(files);
        match loaded {
            Ok(loaded) => {
                if let Err(why) = self.teams.judge(&loaded) {
                    return Some(Event::Rejected(why.into()));
                }
                log_warnings(&loaded);
                Some(Event::Accepted { config: loaded.config, revision: loaded.revision })
            }
            Err(text) => Some(Event::Rejected(text)),
        }
    }

    /// A file may be gone for a moment while it is replaced; it is told once.
    fn unreadable(&mut self, why: &str, forced: bool) -> Option<Event> {
        let told = self.control.status().rejected.as_deref() == Some(why);
        if told && !forced {
            return None;
        }
        // whatever is read next is news
        self.refused = Some(Files::default());
        Some(Event::Rejected(why.into()))
    }

    /// Binds what is new, then assembles and publishes. On an error nothing has changed.
    pub(super) fn apply(&mut self, config: Arc<Config>, revision: Arc<str>) -> Event {
        if let Err(why) = self.journals.at_reload(&config) {
            return Event::Rejected(why.into());
        }
        let (listeners, admin, doors) = match self.bind(&config) {
            Ok(bound) => bound,
            Err(error) => return Event::Rejected(error.to_string().into()),
        };
        let before = Arc::clone(&self.control.status().config);
        if let Some((wanted, address, socket)) = admin {
            self.admin.replace(socket);
            (self.sockets.admin_wanted, self.sockets.admin_address) = (wanted, address);
            tracing::info!(%address, "admin listening");
        }
        let old = std::mem::replace(&mut self.sockets.listeners, listeners);
        if let Err(error) = self.serve_doors(doors) {
            tracing::error!(%error, "the system has no thread for `interfaces`: they are not served");
        }
        // requests that run on the older snapshot are under way to names this one may not have: those stay a moment
        let (clusters, namers) = with_removed(&before, &config);
        self.retiring = clusters.len() > config.clusters.len() || namers.len() > config.namers.len();
        let names = self.resolver.configure(&clusters, &namers, &config.egress);
        self.resolver.interpret(&config.routers);
        let openings = self.journals.openings(&config, Some(&before));
        rollouts::start_over(&self.facts.world, &before, &config);
        // what a journal says of a rollout holds from its first request on
        for (name, routing) in rollouts::routings(&config, &openings) {
            self.facts.world.publish_routing(&name, Some(&routing));
        }
        self.facts.world.remove_all_but(&self.sockets.listeners);
        self.publish(&config, &names);
        if let Err(error) = self.journals.adopt(&self.facts.judge, &config, openings) {
            tracing::error!(%error, "the system has no thread for rollouts: they do not move");
        }
        self.log_listeners(&old);
        self.serving = self.refused.take().unwrap_or_default();
        self.teams.commit(&self.facts.metrics, self.journals.store());
        self.watch();
        log_difference(&before, &config, &revision);
        if worker_count(&config) != self.workers.len() {
            tracing::warn!(running = self.workers.len(), "`workers` changes with the next start of the process");
        }
        Event::Applied { config, revision }
    }

    /// Takes back what [`Engine::apply`] left to names that are gone.
    pub(super) fn retire_names(&mut self) {
        if std::mem::take(&mut self.retiring) {
            let config = Arc::clone(&self.control.status().config);
            let names = self.resolver.configure(&config.clusters, &config.namers, &config.egress);
            self.publish(&config, &names);
            self.watch();
        }
    }

    /// The structure again, with the arms that the judge wants.
    pub(super) fn assemble(&mut self) {
        let structure = Arc::clone(&self.facts.world.load().structure);
        self.publish(&structure.config, &structure.names);
    }

    /// The structure again, if a stored dtab is another than the one in it.
    pub(super) fn assemble_dtabs(&mut self) {
        let view = self.journals.dtabs();
        let structure = Arc::clone(&self.facts.world.load().structure);
        let differs = |part: &StoredPart| {
            let now = view.namespaces.dtab(&part.namespace).map(Arc::as_ptr);
            part.dtab.as_ref().map(Arc::as_ptr) != now
        };
        if structure.routers.iter().filter_map(|router| router.stored.as_ref()).any(differs) {
            self.publish(&structure.config, &structure.names);
        } else {
            self.journals.dtabs_in_force(view.generation);
        }
    }

    /// The structure again, over other names.
    pub(super) fn publish_names(&mut self, names: &Arc<NameTable>) {
        let config = Arc::clone(&self.facts.world.load().structure.config);
        self.publish(&config, names);
        tracing::info!("names changed");
    }

    /// Weights alone: costs the same for any table.
    pub(super) fn publish_weights(&mut self, split: SplitId, weights: &Arc<[Weight]>) {
        let place = split.0 as usize;
        let fits = |snapshot: &Snapshot| {
            let owned = snapshot.structure.splits.get(place).is_none_or(|info| info.rollout.is_some());
            !owned && snapshot.weights.weights.get(place).is_some_and(|slot| slot.len() == weights.len())
        };
        let version = self.facts.world.publish_weights(|now| {
            let mut all = SplitWeights::clone(&now.weights);
            *all.weights.get_mut(place).filter(|_| fits(now))? = Arc::clone(weights);
            Some(all)
        });
        let snapshot = self.facts.world.load();
        let Some(info) = snapshot.structure.splits.get(place).filter(|_| fits(&snapshot)) else {
            return self.note(&Note::WeightsRefused);
        };
        let shares = assemble::shares(weights);
        let named: Vec<_> = info.branches.iter().map(|branch| &**branch).zip(shares).collect();
        let control = self.facts.metrics.control();
        control.set_split_weights(&info.router, &info.name, &named);
        control.set_snapshot_version(version);
    }

    /// Into metrics and log.
    pub(super) fn note(&self, note: &Note) {
        let now = seconds(clock::unix_ms());
        let control = self.facts.metrics.control();
        match note {
            Note::Applied => control.reload(Reload::Applied, now),
            Note::Unchanged => {
                control.reload(Reload::Unchanged, now);
                tracing::info!("configuration is again the one that serves");
            }
            Note::Rejected(why) => {
                control.reload(Reload::Rejected, now);
                tracing::error!("configuration rejected, the last good one keeps serving\n{why}");
            }
            Note::Entered(Stage::Over) => tracing::info!("stopped"),
            Note::Entered(Stage::Cutting) => tracing::warn!("cutting what still runs"),
            Note::Entered(stage) => tracing::info!(stage = stage.as_str(), "stopping"),
            Note::WeightsRefused => tracing::warn!("weights refused: no such split, or not one for each branch"),
        }
    }

    /// The lines people and scripts wait for.
    pub(super) fn log_ready(&self) {
        for (router, address) in places(&self.facts.world) {
            tracing::info!(router, address, "listening");
        }
        tracing::info!(address = %self.facts.admin, "admin listening");
        let revision = &*self.control.status().revision;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), workers = self.workers.len(), revision, "ready");
    }

    /// Everything that can fail, before anything changes.
    #[expect(clippy::type_complexity, reason = "taken apart at its only caller")]
    fn bind(
        &self,
        config: &Config,
    ) -> std::io::Result<(Vec<Arc<Listener>>, Option<(SocketAddr, SocketAddr, TcpListener)>, Vec<Door>)> {
        let wanted = self.admin_override.unwrap_or(config.admin.address);
        let admin = if wanted == self.sockets.admin_wanted {
            None
        } else {
            let socket = sockets::admin(wanted)?;
            Some((wanted, socket.local_addr()?, socket))
        };
        let listeners = sockets::listeners(config, &self.sockets.listeners, self.workers.len())?;
        Ok((listeners, admin, self.sockets.doors.bind(config)?))
    }

    fn serve_doors(&mut self, doors: Vec<Door>) -> std::io::Result<()> {
        let Facts { world, endpoints, .. } = &self.facts;
        let (dtabs, tokens) = self.journals.for_doors();
        self.sockets.doors.serve(doors, &Behind { world, endpoints, dtabs, tokens })
    }

    /// Which listeners came, and which went.
    fn log_listeners(&self, old: &[Arc<Listener>]) {
        let snapshot = self.facts.world.load();
        let has = |list: &[Arc<Listener>], id: u64| list.iter().any(|listener| listener.id == id);
        for (server, (router, address)) in snapshot.structure.servers.iter().zip(places(&self.facts.world)) {
            if !has(old, server.listener.id) {
                tracing::info!(router, address, "listening");
            }
        }
        for gone in old.iter().filter(|listener| !has(&self.sockets.listeners, listener.id)) {
            tracing::info!(address = gone.shown(), "listener removed: it serves what has reached it, then closes");
        }
    }

    fn publish(&self, config: &Arc<Config>, names: &Arc<NameTable>) {
        let previous = self.facts.world.load();
        let stored = self.journals.dtabs();
        let (structure, weights) = assemble::assemble(&Parts {
            config,
            listeners: &self.sockets.listeners,
            admin: self.sockets.admin_address,
            interfaces: &self.sockets.doors.bound(),
            names,
            workers: self.workers.len(),
            previous: Some(&previous),
            routings: &self.facts.world.routings(),
            stored: &stored.namespaces,
        });
        self.facts.world.publish(&structure, &weights);
        self.journals.dtabs_in_force(stored.generation);
        report_snapshot(&self.facts.metrics, &self.facts.world);
    }
}

/// What `now` has, behind what only `before` has: later namers are asked first, so nothing of `now` is hidden.
fn with_removed(before: &Config, now: &Config) -> (Vec<Cluster>, Vec<Namer>) {
    let kept: HashSet<&str> = now.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let clusters = before.clusters.iter().filter(|cluster| !kept.contains(cluster.name.as_str()));
    let namers = before.namers.iter().filter(|namer| !now.namers.contains(namer));
    (clusters.chain(&now.clusters).cloned().collect(), namers.chain(&now.namers).cloned().collect())
}

/// Router label and address of each listener by TCP, in the order of the file.
pub(super) fn addresses(world: &World) -> Vec<(String, SocketAddr)> {
    each_listener(world, |listener| listener.unix.is_none().then_some(listener.address))
}

/// Router label and place of each listener, in the order of the file.
fn places(world: &World) -> Vec<(String, String)> {
    each_listener(world, |listener| Some(listener.shown()))
}

fn each_listener<T>(world: &World, show: impl Fn(&Listener) -> Option<T>) -> Vec<(String, T)> {
    let snapshot = world.load();
    let structure = &snapshot.structure;
    let label = |router: usize| structure.routers.get(router).map_or_else(String::new, |r| r.label.to_string());
    let shown = structure.servers.iter().map(|server| Some((label(server.router), show(&server.listener)?)));
    shown.flatten().collect()
}

/// Version and weights of the newest snapshot into metrics.
pub(super) fn report_snapshot(metrics: &Metrics, world: &World) {
    let snapshot = world.load();
    let splits = snapshot.structure.splits.iter().zip(&snapshot.weights.weights);
    let gauges = splits.map(|(info, weights)| SplitGauge {
        router: Arc::clone(&info.router),
        split: Arc::clone(&info.name),
        shares: info.branches.iter().cloned().zip(assemble::shares(weights)).collect(),
    });
    metrics.control().replace_split_weights(&gauges.collect::<Vec<_>>());
    metrics.control().set_snapshot_version(snapshot.version);
}

/// One log line for all warnings of a file.
pub(super) fn log_warnings(loaded: &Loaded) {
    if !loaded.warnings.is_empty() {
        let text = render(&loaded.warnings, &loaded.source, false);
        tracing::warn!("the configuration is accepted with warnings\n{}", text.trim_end());
    }
}

fn log_difference(before: &Config, now: &Config, revision: &str) {
    let changes = serin_config::diff::diff(before, now);
    let more = changes.omitted;
    let changes = match changes.is_empty() {
        true => "none".to_owned(),
        false => changes.list.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    };
    tracing::info!(revision, changes, more, "configuration applied");
}
