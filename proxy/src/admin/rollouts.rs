//! `/api/v1/rollouts`: what goes on, what went on, and what people want to go on.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serin_config::closest;
use serin_rollout::{Command, Ppm, Revision, WORDS_MAX};

use super::desk::{Desk, NotDone, Past};
use super::pages::Sources;
use super::problem::Problem;
use crate::judge::view::View;

/// Entries of a journal in one answer.
pub const HISTORY_MAX: usize = 1_000;
const HISTORY_DEFAULT: usize = 50;
/// Names that an error lists.
const NAMES_SHOWN_MAX: usize = 10;
/// What may be done to a rollout.
const ACTIONS: [&str; 7] = ["abort", "pause", "promote", "resume", "start", "undo", "weight"];

pub(super) fn router() -> Router<Sources> {
    Router::new()
        .route("/api/v1/rollouts", get(list))
        .route("/api/v1/rollouts/{name}", get(one))
        .route("/api/v1/rollouts/{name}/history", get(history))
        .route("/api/v1/rollouts/{name}/{action}", post(act))
}

async fn list(State(sources): State<Sources>) -> Response {
    match &sources.desk {
        Some(desk) => Json(&*desk.views()).into_response(),
        None => Json(Vec::<View>::new()).into_response(),
    }
}

async fn one(State(sources): State<Sources>, Path(name): Path<String>) -> Response {
    match find(&sources, &name) {
        Ok((_, view)) => Json(&*view).into_response(),
        Err(problem) => problem.into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Much {
    max: Option<usize>,
}

async fn history(
    State(sources): State<Sources>,
    Path(name): Path<String>,
    much: Result<Query<Much>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let (desk, view) = match find(&sources, &name) {
        Ok(found) => found,
        Err(problem) => return problem.into_response(),
    };
    let Ok(Query(Much { max })) = much else {
        let hint = format!("?max=N takes at most {HISTORY_MAX} entries");
        return Problem::new(StatusCode::BAD_REQUEST, "the query is not understood", hint).into_response();
    };
    let max = max.unwrap_or(HISTORY_DEFAULT).min(HISTORY_MAX);
    // a disk that hangs shall not hang the other pages
    let read = tokio::task::spawn_blocking(move || desk.history(&view.name, max)).await;
    let entries = read.unwrap_or_default();
    Json(entries.iter().map(Past::from).collect::<Vec<_>>()).into_response()
}

async fn act(State(sources): State<Sources>, Path((name, action)): Path<(String, String)>, body: Bytes) -> Response {
    let config = Arc::clone(&sources.status.load().config);
    let usual = config.rollouts.iter().find(|rollout| rollout.name == name).map(|rollout| &rollout.revision);
    let asked = find(&sources, &name).and_then(|(desk, _)| Ok((desk, order(&action, &body, usual)?)));
    let (desk, Order { command, who, why }) = match asked {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    match desk.command(&name, command, &who, &why).await {
        Ok(view) => Json(&*view).into_response(),
        Err(failure) => not_done(&name, failure).into_response(),
    }
}

fn find(sources: &Sources, name: &str) -> Result<(Arc<dyn Desk>, Arc<View>), Problem> {
    let views = sources.desk.as_ref().map(|desk| desk.views()).unwrap_or_default();
    let found = views.iter().find(|view| *view.name == *name);
    match (&sources.desk, found) {
        (Some(desk), Some(view)) => Ok((Arc::clone(desk), Arc::clone(view))),
        _ => Err(unknown(name, &views.iter().map(|view| &*view.name).collect::<Vec<_>>())),
    }
}

/// What `/readyz?verbose` says of a rollout: where it stands, a journal that cannot be written, a file that is behind.
pub(super) fn ready_lines(text: &mut String, view: &View) {
    let weight = Ppm::clamped(view.weight_ppm.into());
    // writing to a string cannot fail
    let _ = writeln!(text, "[+] rollout {}: {}, the canary has {weight}", view.name, view.phase);
    if !matches!(&*view.storage, "durable" | "memory") {
        let _ = writeln!(
            text,
            "[-] rollout {}: the journal cannot be written, no weight rises: {}",
            view.name, view.storage
        );
    }
    if let Some(behind) = file_is_behind(view) {
        let _ = writeln!(text, "[+] rollout {}: {behind}", view.name);
    }
}

/// After a promotion the file still names the old version as primary: what to change.
pub(crate) fn file_is_behind(view: &View) -> Option<String> {
    let promoted = view.promoted.as_deref()?;
    let promoted = promoted.split_once('@').map_or(promoted, |(path, _)| path);
    (promoted != view.primary).then(|| {
        format!("{promoted} was promoted and serves; the file still says `primary: {}`: change it there", view.primary)
    })
}

/// No rollout is called so: which ones are.
pub(super) fn unknown(name: &str, known: &[&str]) -> Problem {
    let shown: String = name.chars().take(80).collect();
    let there = match known {
        [] => "no rollout is configured: `rollouts:` in the file".to_owned(),
        names if names.len() <= NAMES_SHOWN_MAX => format!("there are {}", names.join(", ")),
        names => {
            format!("there are {} and {} more", names[..NAMES_SHOWN_MAX].join(", "), names.len() - NAMES_SHOWN_MAX)
        }
    };
    let hint = match closest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {there}"),
        None => there,
    };
    Problem::new(StatusCode::NOT_FOUND, format!("no rollout is called `{shown}`"), hint)
}

fn not_done(name: &str, failure: NotDone) -> Problem {
    match failure {
        NotDone::Unknown { known } => unknown(name, &known.iter().map(String::as_str).collect::<Vec<_>>()),
        NotDone::Refused(why) => {
            Problem::new(StatusCode::CONFLICT, why.to_string(), format!("see `serin rollout status {name}`"))
        }
        NotDone::NotDurable(why) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the journal cannot be written: {why}"),
            "nothing was raised; abort, pause and lower weights work without the journal",
        ),
        NotDone::NotHere => Problem::new(
            StatusCode::CONFLICT,
            "this process does not judge this rollout (`judge: off`)",
            "weight, promote and abort work here; ask the process that judges for the rest",
        ),
        NotDone::NoEndpoint => Problem::new(
            StatusCode::CONFLICT,
            "this would send traffic to a version that has no endpoint, and the other one has some",
            format!("nothing was changed; see `serin explain` and `serin rollout status {name}`"),
        ),
        NotDone::NotInFile { canary } => Problem::new(
            StatusCode::CONFLICT,
            format!("the file names {canary}: another revision is begun by changing the file"),
            format!("edit `canary` or `revision`, or start without a revision: serin rollout start {name}"),
        ),
        NotDone::Gone => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the process is about to end", ""),
    }
}

/// What somebody wants.
#[derive(Debug, PartialEq)]
struct Order {
    command: Command,
    who: String,
    why: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sent {
    who: Option<String>,
    why: Option<String>,
    revision: Option<String>,
    weight: Option<String>,
}

/// `usual`: what starts if nobody says what.
fn order(action: &str, body: &[u8], usual: Option<&Revision>) -> Result<Order, Problem> {
    let bad = |error: String, hint: &str| Problem::new(StatusCode::BAD_REQUEST, error, hint);
    if !ACTIONS.contains(&action) {
        let hint = format!("there are {}", ACTIONS.join(", "));
        let shown: String = action.chars().take(80).collect();
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("nothing is called `{shown}`"), hint));
    }
    let empty = body.trim_ascii().is_empty();
    let sent = if empty { Ok(Sent::default()) } else { serde_json::from_slice::<Sent>(body) };
    let example = match action {
        "weight" => r#"for example {"weight": "10%", "who": "ann", "why": "lunch"}"#,
        "start" => r#"for example {"revision": "/srv/world-v2@r7", "who": "ann", "why": "again"}"#,
        _ => r#"for example {"who": "ann", "why": "it looks bad"}"#,
    };
    let sent = sent.map_err(|error| bad(format!("the body: {error}"), example))?;
    for (key, value) in [("who", &sent.who), ("why", &sent.why)] {
        if value.as_ref().is_some_and(|words| words.chars().count() > WORDS_MAX) {
            return Err(bad(format!("`{key}` has more than {WORDS_MAX} characters"), example));
        }
    }
    if sent.weight.is_some() && action != "weight" {
        return Err(bad(format!("`weight` means nothing to {action}"), example));
    }
    if sent.revision.is_some() && action != "start" {
        return Err(bad(format!("`revision` means nothing to {action}"), example));
    }
    let command = match action {
        "abort" => Command::Abort,
        "pause" => Command::Pause,
        "promote" => Command::Promote,
        "resume" => Command::Resume,
        "undo" => Command::Undo,
        "weight" => {
            let text = sent.weight.ok_or_else(|| bad("`weight` is missing".to_owned(), example))?;
            Command::SetWeight(text.parse::<Ppm>().map_err(|error| bad(format!("`weight`: {error}"), example))?)
        }
        _ => Command::Start(match (&sent.revision, usual) {
            (Some(text), _) => text.parse().map_err(|error| bad(format!("`revision`: {error}"), example))?,
            (None, Some(usual)) => usual.clone(),
            (None, None) => return Err(bad("`revision` is missing".to_owned(), example)),
        }),
    };
    let who = sent.who.filter(|who| !who.trim().is_empty()).unwrap_or_else(|| "somebody with the token".to_owned());
    Ok(Order { command, who, why: sent.why.unwrap_or_default() })
}

#[cfg(test)]
mod tests;
