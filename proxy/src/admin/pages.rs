//! The pages and what they show.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::extract::{self, DefaultBodyLimit, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serin_config::dtab::{Dtab, Layers, LeafState, Path, Table};
use serin_metrics::{Format, Metrics};
use tokio::sync::Semaphore;

use super::delegation::{self, Addr};
use super::desk::Desk;
use super::explanation::Told;
use super::{BODY_BYTES_MAX, config_json, dtabs, events, explanation, namers, rollouts, teams};
use crate::clock;
use crate::control::TeamBoard;
use crate::dtabs::Dtabs;
use crate::endpoints::{Addresses, Cluster, EndpointTable};
use crate::resolve::bound_id;
use crate::snapshot::World;
use crate::world::Status;

/// Where pages look.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) world: Arc<World>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) endpoints: Arc<EndpointTable>,
    pub(super) status: Arc<ArcSwap<Status>>,
    pub(super) dtabs: Arc<ArcSwapOption<Dtabs>>,
    pub(super) teams: TeamBoard,
    pub(super) desk: Option<Arc<dyn Desk>>,
    pub(super) subscribers: Arc<Semaphore>,
}

const INDEX: &str = "\
/livez                               this process turns its loop
/readyz                              send requests here? with ?verbose: each check, and a rejected file
/metrics                             counters, classic text or OpenMetrics by Accept
/admin/metrics/prometheus            the same
/admin/ping                          pong
/config.json                         the configuration in force, defaults filled in
/teams.json                          team files: which version serves, and what is wrong with the others
/bound-names.json                    the names that namers have, of those that are asked the ones in use
/namer_state/<prefix>.json           what is known of the names of a namer
/delegator.json?namespace=&path=&dtab=   every way of a name, as a tree
/api/v1/explain?router=&path=        one request, step by step; also host= method= uri= source= cookie= header= dtab=
/api/v1/rollouts                     all rollouts; /NAME one of them, /NAME/history?max= its journal
/api/v1/rollouts/NAME/ACTION         POST with the token: start pause resume promote abort undo weight
/api/v1/dtabs                        stored dtabs; /NAME one of them, written with the token by POST, PUT and DELETE
/api/v1/events?rollout=&after=       what happens to rollouts, as it happens (server-sent events)
";

/// All pages.
pub(super) fn router(sources: Sources) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/admin/metrics/prometheus", get(metrics))
        .route("/admin/ping", get(async || "pong"))
        .route("/config.json", get(config))
        .route("/teams.json", get(teams))
        .route("/bound-names.json", get(bound_names))
        .route("/namer_state/{*prefix}", get(namer_state))
        .route("/delegator.json", get(delegator).post(delegator_post))
        .route("/api/v1/explain", get(explain))
        .route("/api/v1/events", get(events::events))
        .merge(rollouts::router())
        .merge(dtabs::router())
        .fallback(async || (StatusCode::NOT_FOUND, "no such page: see /\n"))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(sources)
}

async fn index(State(sources): State<Sources>) -> String {
    let (_, status) = ready_text(&sources, true);
    format!("serin {}\n\n{status}\n{INDEX}", env!("CARGO_PKG_VERSION"))
}

#[derive(Deserialize)]
struct Verbose {
    verbose: Option<String>,
}

async fn readyz(State(sources): State<Sources>, Query(query): Query<Verbose>) -> (StatusCode, String) {
    ready_text(&sources, query.verbose.is_some())
}

fn ready_text(sources: &Sources, verbose: bool) -> (StatusCode, String) {
    let status = sources.status.load_full();
    let ready = status.is_ready();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if ready { "ready".to_owned() } else { format!("not ready: {}", status.stage.as_str()) };
    if !verbose {
        return (code, format!("{word}\n"));
    }
    let snapshot = sources.world.load();
    let mut text = String::new();
    // writing to a string cannot fail
    for server in &snapshot.structure.servers {
        let router = snapshot.structure.routers.get(server.router).map_or("", |router| &router.label);
        let _ = writeln!(text, "[+] listening: {router} on {}", server.listener.address);
    }
    let _ = writeln!(text, "[+] configuration in force: revision {}, snapshot {}", status.revision, snapshot.version);
    match &status.rejected {
        None => text.push_str("[+] the file as last read is in force\n"),
        Some(why) => {
            let _ = writeln!(text, "[-] the file as last read is rejected, the last good one serves:\n{why}");
        }
    }
    teams::ready_lines(&mut text, &sources.teams.load());
    namers::ready_lines(&mut text, &sources.endpoints);
    let views = sources.desk.as_ref().map(|desk| desk.views()).unwrap_or_default();
    views.iter().for_each(|view| rollouts::ready_lines(&mut text, view));
    let dtabs = sources.dtabs.load_full();
    if let Some(Err(error)) = dtabs.as_ref().map(|dtabs| dtabs.check()) {
        let _ =
            writeln!(text, "[-] stored dtabs: a restart would lose them, the next change writes them anew: {error}");
    }
    let stored = dtabs.map(|dtabs| dtabs.view()).unwrap_or_default();
    for (namespace, why) in stored.namespaces.unreadable() {
        let _ = writeln!(text, "[-] the stored dtab {namespace} cannot be read and counts as empty: {why}");
    }
    let mark = if ready { '+' } else { '-' };
    let _ = writeln!(text, "[{mark}] {}\n{word}", status.stage.as_str());
    (code, text)
}

async fn metrics(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::from_accept(accept);
    let clusters = sources.endpoints.list();
    namers::report(&sources.metrics, &sources.endpoints, &clusters);
    // what only requests have named has a series when it is somewhere
    let asked_for = |cluster: &Cluster| cluster.from_request || sources.endpoints.is_asked(&cluster.id);
    let is_bound = |cluster: &Cluster| matches!(cluster.addresses().load().addresses, Addresses::Bound(_));
    let is_shown = |cluster: &Cluster| !namers::is_question(cluster) && (!asked_for(cluster) || is_bound(cluster));
    let named = clusters.iter().filter(|cluster| is_shown(cluster));
    let shown = |cluster: &Cluster| bound_id(&cluster.id).unwrap_or_else(|| cluster.id.clone()).to_string();
    let counted = named.map(|cluster| (shown(cluster), count(cluster))).collect::<Vec<_>>();
    sources.metrics.control().replace_endpoints(counted.iter().map(|(id, count)| (id.as_str(), *count)));
    ([(CONTENT_TYPE, format.content_type())], sources.metrics.encode(format, clock::now_ms())).into_response()
}

fn count(cluster: &Cluster) -> u64 {
    match &cluster.addresses().load().addresses {
        Addresses::Bound(addresses) => addresses.len() as u64,
        Addresses::Absent(_) | Addresses::Failed(_) | Addresses::Neg | Addresses::Pending => 0,
    }
}

async fn config(State(sources): State<Sources>) -> Response {
    let config = Arc::clone(&sources.status.load().config);
    Json(config_json::Config::from(&*config)).into_response()
}

async fn teams(State(sources): State<Sources>) -> Response {
    Json(teams::page(&sources.teams.load())).into_response()
}

async fn bound_names(State(sources): State<Sources>) -> Json<Vec<String>> {
    Json(sources.endpoints.bound_names())
}

async fn namer_state(State(sources): State<Sources>, extract::Path(file): extract::Path<String>) -> Response {
    let states = file.strip_suffix(".json").and_then(|prefix| namers::states(&sources.endpoints, prefix));
    match states {
        Some(states) => Json(states).into_response(),
        None => (StatusCode::NOT_FOUND, "no name of this namer is known\n").into_response(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DelegatorQuery {
    namespace: Option<String>,
    path: Option<String>,
    dtab: Option<String>,
}

async fn delegator(State(sources): State<Sources>, Query(query): Query<DelegatorQuery>) -> Response {
    settled(&sources, |unknown| delegate(&sources, &query, unknown)).await
}

async fn delegator_post(State(sources): State<Sources>, Json(query): Json<DelegatorQuery>) -> Response {
    settled(&sources, |unknown| delegate(&sources, &query, unknown)).await
}

/// A dtab in the query is the whole dtab, as the playground of Linkerd sends it; without one it is the router's.
fn delegate(sources: &Sources, query: &DelegatorQuery, unknown: &RefCell<Vec<Path>>) -> Response {
    let snapshot = sources.world.load();
    let routers = &snapshot.structure.routers;
    let router = match &query.namespace {
        None => None,
        Some(label) => match routers.iter().find(|router| *router.label == **label) {
            Some(router) => Some(router),
            None => return (StatusCode::NOT_FOUND, unknown_router(label, &snapshot.structure)).into_response(),
        },
    };
    let Ok(path) = Path::parse(query.path.as_deref().unwrap_or("/")) else {
        return (StatusCode::BAD_REQUEST, "`path` is no path: write /svc/name\n").into_response();
    };
    let sent = match query.dtab.as_deref().map(|text| (text, Dtab::parse(text))) {
        None => None,
        Some((_, Ok(dtab))) => Some(Table::new(Arc::new(dtab))),
        Some((text, Err(errors))) => {
            return (StatusCode::BAD_REQUEST, format!("dtab: {}\n", errors.in_text(text))).into_response();
        }
    };
    let empty = Table::new(Arc::default());
    let table = sent.as_ref().or(router.map(|router| &router.table)).unwrap_or(&empty);
    let clusters: Clusters = sources.endpoints.list().into_iter().map(|one| (one.id.clone(), one)).collect();
    let addr = |id: &Path| {
        let addr = clusters.get(id).map_or(Addr::Pending, |cluster| Addr::of(cluster));
        if matches!(addr, Addr::Pending) && sources.endpoints.is_asked(id) {
            unknown.borrow_mut().push(id.clone());
        }
        addr
    };
    if let Some(remote) = router.and_then(|router| router.remote.as_ref()) {
        let layers = Layers { base: table, written: &[], sent: &[] };
        let asked = explanation::Asked { remote, path: &path, by_file: false, layers: &layers };
        let tree = asked.tree(&|question: &Path| told(&clusters, question, unknown));
        let at = |id: &Path| remote.addr(id, asked.made(id)).map_or(Addr::Neg, |at| addr(&at));
        return Json(delegation::told(&path, &tree, &at)).into_response();
    }
    match delegation::tree(table, &*snapshot.structure.names, &path, &addr) {
        Ok(tree) => Json(tree).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn unknown_router(label: &str, structure: &crate::snapshot::Structure) -> String {
    let known: Vec<_> = structure.routers.iter().map(|router| &*router.label).collect();
    format!("no router is called `{label}`: there are {}\n", known.join(", "))
}

/// `key=value` pairs, some of which may come several times.
async fn explain(State(sources): State<Sources>, Query(pairs): Query<Vec<(String, String)>>) -> Response {
    settled(&sources, |unknown| explain_now(&sources, &pairs, unknown)).await
}

/// An answer after the names in it have been asked for, if namers must be asked: for a moment, then as it is.
async fn settled(sources: &Sources, answer: impl Fn(&RefCell<Vec<Path>>) -> Response) -> Response {
    let ask = |id: &Path| sources.endpoints.get(id, false, None, clock::now_ms()).ok();
    let mut held: Vec<Arc<Cluster>> = Vec::new();
    let all_known = async {
        // what a namerd binds to has to be asked for in turn
        for _ in 0..NAMES_ROUNDS {
            let asked = held.len();
            {
                let unknown = RefCell::default();
                let response = answer(&unknown);
                let unknown = unknown.into_inner();
                if unknown.is_empty() {
                    return Some(response);
                }
                held.extend(unknown.iter().take(NAMES_ASKED_MAX).filter_map(ask));
            }
            for cluster in held.iter().skip(asked) {
                cluster.ready().await;
            }
        }
        None
    };
    let known = tokio::time::timeout(NAMES_WAIT, all_known).await;
    known.ok().flatten().unwrap_or_else(|| answer(&RefCell::default()))
}

/// What a namerd says to a question; one that it has not answered joins the `unknown` ones.
fn told(clusters: &Clusters, question: &Path, unknown: &RefCell<Vec<Path>>) -> Told {
    let told = clusters.get(question).map_or(Told::Pending, |cluster| Told::of(cluster));
    if matches!(told, Told::Pending) {
        unknown.borrow_mut().push(question.clone());
    }
    told
}

/// `unknown` gets the names whose namers have not answered yet.
fn explain_now(sources: &Sources, pairs: &[(String, String)], unknown: &RefCell<Vec<Path>>) -> Response {
    let snapshot = sources.world.load();
    let structure = &snapshot.structure;
    let ask = match explanation::Ask::from_pairs(pairs) {
        Ok(ask) => ask,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let label = ask.router.as_deref();
    let found = match label {
        None => (structure.routers.len() == 1).then_some(0),
        Some(label) => structure.routers.iter().position(|router| *router.label == *label),
    };
    let Some(index) = found else {
        return (StatusCode::NOT_FOUND, unknown_router(label.unwrap_or_default(), structure)).into_response();
    };
    let clusters: Clusters = sources.endpoints.list().into_iter().map(|one| (one.id.clone(), one)).collect();
    let state = |id: &Path| {
        let state = match clusters.get(id) {
            Some(cluster) => explanation::state_of(cluster, sources.endpoints.is_asked(id)),
            None if sources.endpoints.is_asked(id) => LeafState::Pending,
            None => LeafState::Usable,
        };
        if state == LeafState::Pending {
            unknown.borrow_mut().push(id.clone());
        }
        state
    };
    let told = |question: &Path| told(&clusters, question, unknown);
    let world = explanation::World { structure, weights: &snapshot.weights, router: index, state: &state, told: &told };
    match explanation::explain(&world, &ask) {
        Ok(explanation) => Json(explanation).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    }
}

/// Names that one page knows of, by their ids.
type Clusters = HashMap<Path, Arc<Cluster>>;

/// Times that one page asks for names.
const NAMES_ROUNDS: usize = 2;
/// Names that one page asks for at a time.
const NAMES_ASKED_MAX: usize = 64;
/// So long it waits for all of them together.
const NAMES_WAIT: Duration = Duration::from_secs(2);
