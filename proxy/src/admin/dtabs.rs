//! `/api/v1/dtabs`: stored dtabs for `serin dtab`, with the token for every change.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serin_config::closest;

use super::pages::Sources;
use super::problem::Problem;
use crate::dtabs::text::{self, BadDtab, DentryText};
use crate::dtabs::{Change, Content, Draft, Dtabs, NotChanged, Refused, Version};

/// Octets of a request body: the longest dtab, written in JSON.
pub const DTAB_BODY_BYTES_MAX: usize = 4 << 20;

/// A stored dtab as it is shown, and as it may be sent back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Changes with each write.
    pub version: String,
    /// Its dentries, printed.
    pub dtab: Vec<DentryText>,
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The version in force now; `None`: the namespace is gone.
    pub version: Option<String>,
}

pub(super) fn router() -> Router<Sources> {
    Router::new()
        .route("/api/v1/dtabs", get(list))
        .route("/api/v1/dtabs/{name}", get(one).post(create).put(update).delete(delete))
        .route_layer(DefaultBodyLimit::max(DTAB_BODY_BYTES_MAX))
}

async fn list(State(sources): State<Sources>) -> Response {
    let dtabs = sources.dtabs.load_full();
    let view = dtabs.map(|dtabs| dtabs.view()).unwrap_or_default();
    Json(view.namespaces.names().collect::<Vec<_>>()).into_response()
}

async fn one(State(sources): State<Sources>, Path(name): Path<String>) -> Response {
    let view = sources.dtabs.load_full().map(|dtabs| dtabs.view()).unwrap_or_default();
    match view.namespaces.get(&name) {
        Some(Content::Readable(stored)) => {
            let shown = Shown { version: stored.version.to_string(), dtab: text::entries(stored.draft.dtab()) };
            Json(shown).into_response()
        }
        Some(Content::Unreadable { why, .. }) => {
            let error = format!("the namespace `{name}` cannot be read: {why}");
            let hint = "write it anew with `serin dtab update`, or delete it";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error, hint).into_response()
        }
        None => unknown(&name, view.namespaces.names().map(|name| &**name)).into_response(),
    }
}

/// The body of a write: the dtab as text or as a list of dentries, and the version that is to be replaced.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    dtab: serde_json::Value,
    #[serde(default)]
    version: Option<String>,
}

async fn create(State(sources): State<Sources>, Path(name): Path<String>, body: Bytes) -> Response {
    match sent(&body) {
        Ok((draft, None)) => change(&sources, name, Change::Create(draft)).await,
        Ok((_, Some(_))) => {
            let hint = "leave it out, or update the namespace";
            Problem::new(StatusCode::BAD_REQUEST, "`version` means nothing to a new namespace", hint).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

async fn update(State(sources): State<Sources>, Path(name): Path<String>, body: Bytes) -> Response {
    match sent(&body) {
        Ok((draft, None)) => change(&sources, name, Change::Put(draft)).await,
        Ok((draft, Some(version))) => change(&sources, name, Change::Replace(draft, Version::parse(&version))).await,
        Err(problem) => problem.into_response(),
    }
}

async fn delete(State(sources): State<Sources>, Path(name): Path<String>) -> Response {
    change(&sources, name, Change::Delete).await
}

async fn change(sources: &Sources, name: String, wanted: Change) -> Response {
    let Some(dtabs) = sources.dtabs.load_full() else {
        let hint = "give the file a `storage: {kind: file, dir: state}`";
        return Problem::new(StatusCode::CONFLICT, "there is no storage to keep dtabs in", hint).into_response();
    };
    match dtabs.change(name.clone(), wanted).await {
        Ok(version) => Json(Changed { version: version.map(|version| version.to_string()) }).into_response(),
        Err(error) => not_changed(&dtabs, &name, &error).into_response(),
    }
}

fn sent(body: &[u8]) -> Result<(Draft, Option<String>), Problem> {
    let example = r#"for example {"dtab": "/svc => /#/clusters", "version": "AAAAAAAAAAE="}"#;
    let bad = |error: String| Problem::new(StatusCode::BAD_REQUEST, error, example);
    let Sent { dtab, version } = serde_json::from_slice(body).map_err(|error| bad(format!("the body: {error}")))?;
    let draft = match &dtab {
        serde_json::Value::String(text) => text::read(text.as_bytes()),
        list => text::read_json(list.to_string().as_bytes()),
    };
    match draft {
        Ok(draft) => Ok((draft, version)),
        Err(BadDtab::Syntax(why)) => Err(bad(why)),
        Err(BadDtab::Refused(why)) => Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why.to_string(), "")),
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let shown: String = name.chars().take(80).collect();
    let hint = match closest(name, known) {
        Some(near) => format!("did you mean `{near}`? `serin dtab list` shows all"),
        None => "`serin dtab list` shows those that there are".to_owned(),
    };
    Problem::new(StatusCode::NOT_FOUND, format!("there is no namespace `{shown}`"), hint)
}

fn not_changed(dtabs: &Arc<Dtabs>, name: &str, error: &NotChanged) -> Problem {
    let (status, hint) = match error {
        NotChanged::Refused(Refused::Unknown) => {
            return unknown(name, dtabs.view().namespaces.names().map(|name| &**name));
        }
        NotChanged::Refused(Refused::Exists) => (StatusCode::CONFLICT, "change it with `serin dtab update`"),
        NotChanged::Refused(Refused::Stale(_)) => {
            (StatusCode::PRECONDITION_FAILED, "somebody changed it meanwhile: get it again, and see what they did")
        }
        NotChanged::Refused(Refused::Name) => (StatusCode::BAD_REQUEST, ""),
        NotChanged::Refused(Refused::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, ""),
        NotChanged::Refused(Refused::TooMany | Refused::TooMuch) => (StatusCode::CONFLICT, ""),
        NotChanged::Forbidden(_) => (StatusCode::FORBIDDEN, "nothing was changed: see to the folder of `storage.dir`"),
        NotChanged::Failed(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "nothing was changed: see to the disk of `storage.dir`")
        }
        NotChanged::Busy => (StatusCode::SERVICE_UNAVAILABLE, ""),
    };
    Problem::new(status, error.to_string(), hint)
}
