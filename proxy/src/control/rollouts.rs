//! What rollouts and stored dtabs need of the system: the storage with journals and dtabs, the way outside, and a judge
//! that hears of each configuration.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use serin_config::model::{Config, Storage};
use serin_metrics::Metrics;
use serin_rollout::{Ppm, TimestampMs};
use tokio::sync::Notify;

use crate::admin::Tokens;
use crate::clock;
use crate::dtabs::{Dtabs, View};
use crate::judge::{Adoption, Judge, Opening, is_other_traffic};
use crate::outside::Outside;
use crate::snapshot::{Routing, Routings, World};
use crate::storage::{HistoryReader, Scribe, StorageError, Store};

/// The storage in use, from the first configuration on that needs it until the end of the process.
#[derive(Debug)]
pub(super) struct Journals {
    open: Option<(Storage, Store)>,
    /// The judge has the journals' writer and the way outside.
    handed: bool,
    /// Where the admin server looks.
    front: Front,
}

/// What the admin server sees of the storage, which may come with a later configuration.
#[derive(Clone, Debug)]
pub(super) struct Front {
    pub(super) tokens: Arc<ArcSwap<Tokens>>,
    pub(super) journals: Arc<ArcSwapOption<HistoryReader>>,
    pub(super) dtabs: Arc<ArcSwapOption<Dtabs>>,
    metrics: Arc<Metrics>,
    dtabs_changed: Arc<Notify>,
}

impl Front {
    pub(super) fn new(given: Tokens, metrics: Arc<Metrics>) -> Self {
        Self {
            tokens: Arc::new(ArcSwap::from_pointee(given)),
            journals: Arc::default(),
            dtabs: Arc::default(),
            metrics,
            dtabs_changed: Arc::default(),
        }
    }
}

/// Without a storage such a file could not do what it says.
fn needs_storage(config: &Config) -> bool {
    let stored = config.routers.iter().any(|router| router.interpreter.namespace().is_some());
    stored || !config.rollouts.is_empty() || !config.interfaces.is_empty()
}

/// Rollouts that come with a configuration, as their journals left them.
pub(super) type Openings = HashMap<Arc<str>, Opening>;

impl Journals {
    /// Opens the storage of a configuration at the start. Where nothing needs it, it is no reason not to start.
    pub(super) fn at_start(config: &Config, front: Front) -> Result<Self, StorageError> {
        let mut journals = Self { open: None, handed: false, front };
        match journals.open(config) {
            Ok(()) => Ok(journals),
            Err(error) if !needs_storage(config) => {
                tracing::warn!(%error, "the storage cannot be used; nothing needs it yet");
                Ok(journals)
            }
            Err(error) => Err(error),
        }
    }

    /// The same for a configuration that comes later.
    ///
    /// # Errors
    /// It cannot be used, or is another one than the one in use: a sentence that says so.
    pub(super) fn at_reload(&mut self, config: &Config) -> Result<(), String> {
        match (&self.open, &config.storage) {
            (Some((used, _)), wanted) => {
                let same = wanted.as_ref().map_or(!needs_storage(config), |wanted| wanted == used);
                if same { Ok(()) } else { Err("`storage` changes with the next start of the process".into()) }
            }
            (None, _) if !needs_storage(config) => Ok(()),
            (None, _) => self.open(config).map_err(|error| error.to_string()),
        }
    }

    /// The storage in use.
    pub(super) fn store(&self) -> Option<&Store> {
        self.open.as_ref().map(|(_, store)| store)
    }

    /// What the journals say of the rollouts of `config` that `before` does not have.
    pub(super) fn openings(&self, config: &Config, before: Option<&Config>) -> Openings {
        let now = TimestampMs(clock::steady_ms());
        let known = |name: &str| before.is_some_and(|before| before.rollouts.iter().any(|one| one.name == name));
        let new = config.rollouts.iter().filter(|rollout| !known(&rollout.name));
        let opened = new.map(|rollout| {
            let recovered = self.open.as_ref().map(|(_, store)| store.recover(&rollout.name)).unwrap_or_default();
            (rollout.name.as_str().into(), Opening::new(rollout, &recovered, now))
        });
        opened.collect()
    }

    /// Gives a published configuration to the judge, with what it needs for it.
    ///
    /// # Errors
    /// The system has no thread left; the judge has heard of nothing then.
    pub(super) fn adopt(&mut self, judge: &Judge, config: &Arc<Config>, openings: Openings) -> std::io::Result<()> {
        let (mut scribe, mut reader, mut outside) = (None, None, None);
        let memory = !matches!(self.open, Some((Storage::File { .. }, _)));
        if !self.handed && !config.rollouts.is_empty() {
            if let Some((_, store)) = &self.open {
                scribe = Some(Scribe::start(store.clone(), judge.written())?);
                reader = Some(store.reader());
            }
            outside = Some(Outside::start(judge.answered())?);
            self.handed = true;
        }
        judge.adopt(Adoption { config: Arc::clone(config), openings, scribe, reader, outside, memory });
        Ok(())
    }

    /// The stored dtabs as they are now.
    pub(super) fn dtabs(&self) -> Arc<View> {
        self.front.dtabs.load().as_ref().map(|dtabs| dtabs.view()).unwrap_or_default()
    }

    /// What the listeners of `interfaces` need.
    pub(super) fn for_doors(&self) -> (Option<Arc<Dtabs>>, Arc<ArcSwap<Tokens>>) {
        (self.front.dtabs.load_full(), Arc::clone(&self.front.tokens))
    }

    /// Completes when a stored dtab changed since the last time. Cancel safe.
    pub(super) async fn dtabs_changed(&self) {
        self.front.dtabs_changed.notified().await;
    }

    /// Routing has the stored dtabs of this generation.
    pub(super) fn dtabs_in_force(&self, generation: u64) {
        if let Some(dtabs) = &*self.front.dtabs.load() {
            dtabs.set_in_force(generation);
        }
    }

    fn open(&mut self, config: &Config) -> Result<(), StorageError> {
        let Some(wanted) = &config.storage else { return Ok(()) };
        let store = Store::open(wanted)?;
        for warning in store.warnings() {
            tracing::warn!("{warning}");
        }
        if !config.rollouts.is_empty() && matches!(wanted, Storage::File { .. }) {
            tracing::info!(
                "rollouts are judged by this process alone: others with the same file judge for themselves, and their weights may differ"
            );
        }
        let dtabs = Dtabs::open(store.dtabs()?, Arc::clone(&self.front.metrics), Arc::clone(&self.front.dtabs_changed));
        self.front.dtabs.store(Some(Arc::new(dtabs.map_err(|error| StorageError::of_dtabs(wanted, error))?)));
        self.front.journals.store(Some(Arc::new(store.reader())));
        if let (Storage::File { dir }, Some(token)) = (wanted, store.token()) {
            // people read it in another folder than this process runs in
            let file = dir.join("token");
            let file = std::path::absolute(&file).unwrap_or(file);
            let stored = Some((token.to_owned(), file));
            let given = self.front.tokens.load().given.clone();
            self.front.tokens.store(Arc::new(Tokens { given, stored }));
        }
        self.open = Some((wanted.clone(), store));
        Ok(())
    }
}

/// What the world gets of them before a structure is made.
pub(super) fn routings(config: &Config, openings: &Openings) -> Routings {
    let files = config.rollouts.iter().filter_map(|file| openings.get_key_value(file.name.as_str()).zip(Some(file)));
    files.map(|((name, opening), file)| (Arc::clone(name), opening.routing(file))).collect()
}

/// A share that was given for other traffic means nothing for what the file gives a rollout now: the canary has nothing
/// before the judge has heard of it. What was promoted keeps serving.
pub(super) fn start_over(world: &World, before: &Config, now: &Config) {
    for file in &now.rollouts {
        let other = before.rollouts.iter().any(|one| one.name == file.name && is_other_traffic(one, file));
        let routings = world.routings();
        let Some((name, routing)) = routings.get_key_value(file.name.as_str()).filter(|_| other) else { continue };
        if routing.proven != routing.arms.canary {
            world.publish_routing(name, Some(&Routing { share: Ppm::ZERO, mirrored: false, ..routing.clone() }));
        }
    }
}
