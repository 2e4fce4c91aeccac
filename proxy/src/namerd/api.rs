//! What is asked under `/api/1`, and the answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use bytes::Bytes;
use http::header::IF_MATCH;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serin_config::dtab::{Dtab, Path};
use tokio::time::timeout;

use super::answer::{self, JSON, bare, content, line, not_changed, only, said};
use super::book::{AddrWatch, BindWatch, Binding, Book, Look, News, Place, Question, Whose, drawn};
use super::form::Form;
use super::stream::{Watched, Watches};
use super::{BODY_BYTES_MAX, NamerdSeed};
use crate::dtabs::text::BadDtab;
use crate::dtabs::{Change, Content, Version};
use crate::endpoints::Addresses;

/// How long a single answer waits for a namer that does not know yet.
const PENDING_WAIT: Duration = Duration::from_secs(2);
/// A request body that does not come in this time is not waited for.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// The API.
pub(super) struct Api {
    book: Arc<Book>,
    watches: Watches,
}

/// A resource of the API.
#[derive(Debug, PartialEq, Eq)]
enum Resource<'a> {
    Addr(&'a str),
    Bind(&'a str),
    BoundNames,
    Delegate(Option<&'a str>),
    Dtab(&'a str),
    Dtabs,
    Resolve(&'a str),
}

fn resource(path: &str) -> Option<Resource<'_>> {
    let path = path.strip_prefix("/api/1/")?;
    let (kind, namespace) = match path.split_once('/') {
        Some((kind, namespace)) => (kind, Some(namespace).filter(|namespace| !namespace.is_empty())),
        None => (path, None),
    };
    match (kind, namespace) {
        ("dtabs", None) => Some(Resource::Dtabs),
        ("dtabs", Some(namespace)) => Some(Resource::Dtab(namespace)),
        ("bind", Some(namespace)) => Some(Resource::Bind(namespace)),
        ("addr", Some(namespace)) => Some(Resource::Addr(namespace)),
        ("resolve", Some(namespace)) => Some(Resource::Resolve(namespace)),
        ("delegate", namespace) => Some(Resource::Delegate(namespace)),
        ("bound-names", None) => Some(Resource::BoundNames),
        _ => None,
    }
}

/// What stands behind the `?`. Of a key that comes twice the first counts.
struct Asked(Vec<(String, String)>);

impl Asked {
    fn of(uri: &Uri) -> Self {
        Self(Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    fn watches(&self) -> bool {
        self.get("watch").is_some_and(|value| matches!(value, "1" | "t" | "true"))
    }
}

impl Api {
    pub(super) fn new(seed: &NamerdSeed) -> Self {
        let book = Book::new(Arc::clone(&seed.world), Arc::clone(&seed.endpoints), Arc::clone(&seed.dtabs));
        Self { book: Arc::new(book), watches: Watches::new(seed.world.subscribe()) }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let (head, body) = request.into_parts();
        let asked = Asked::of(&head.uri);
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let question = |namespace: Option<&str>| question(namespace, asked.get("path"), asked.get("dtab"), peer);
        match resource(head.uri.path()) {
            None => said(
                StatusCode::NOT_FOUND,
                "no such resource: there are /api/1/dtabs, bind, addr, resolve, delegate and bound-names",
            ),
            Some(Resource::Dtabs) => self.list(&asked, peer),
            Some(Resource::Dtab(namespace)) => match head.method {
                Method::GET => self.get(namespace, &head.headers, &asked, peer),
                Method::HEAD => self.head(namespace),
                Method::POST | Method::PUT => self.write(namespace, &head.method, &head.headers, body).await,
                Method::DELETE => {
                    let change = asked_version(&head.headers).map_or(Change::Delete, Change::Remove);
                    match self.book.dtabs().change(namespace.to_owned(), change).await {
                        Ok(_) => bare(StatusCode::NO_CONTENT),
                        Err(error) => not_changed(&error),
                    }
                }
                _ => said(StatusCode::NOT_FOUND, "a dtab is read by GET and HEAD, written by POST, PUT and DELETE"),
            },
            Some(Resource::Delegate(None)) if head.method == Method::POST => {
                self.delegate_sent(&head.headers, body, peer).await
            }
            Some(_) if !reads => only("GET"),
            Some(Resource::Delegate(namespace)) => match question(namespace) {
                Ok(question) => self.delegate(&question).await,
                Err(why) => said(StatusCode::BAD_REQUEST, why),
            },
            Some(Resource::BoundNames) => self.bound_names(&asked, peer),
            Some(Resource::Addr(namespace)) => match question(Some(namespace)) {
                Ok(question) => self.addr(question, &asked).await,
                Err(why) => said(StatusCode::BAD_REQUEST, why),
            },
            Some(Resource::Bind(namespace)) => match question(Some(namespace)) {
                Ok(question) => self.bind(question, &asked).await,
                Err(why) => said(StatusCode::BAD_REQUEST, why),
            },
            Some(Resource::Resolve(namespace)) => match question(Some(namespace)) {
                Ok(question) => self.resolve(question, &asked).await,
                Err(why) => said(StatusCode::BAD_REQUEST, why),
            },
        }
    }

    fn list(&self, asked: &Asked, peer: IpAddr) -> Response<Body> {
        if asked.watches() {
            return self.watches.open(peer, JSON, ListWatch { book: Arc::clone(&self.book), news: self.book.news() });
        }
        content(JSON, list(&self.book))
    }

    fn get(&self, namespace: &str, headers: &HeaderMap, asked: &Asked, peer: IpAddr) -> Response<Body> {
        let form = Form::accepted(headers);
        if asked.watches() {
            let namespace = namespace.to_owned();
            let watch = DtabWatch { book: Arc::clone(&self.book), news: self.book.news(), namespace, form };
            return self.watches.open(peer, form.name(), watch);
        }
        match self.book.dtabs().view().namespaces.get(namespace) {
            None => unknown(namespace),
            Some(Content::Unreadable { why, .. }) => unreadable(namespace, why),
            Some(Content::Readable(stored)) => {
                let body = form.write(stored.draft.dtab());
                answer::with_version(content(form.name(), body), stored.version)
            }
        }
    }

    fn head(&self, namespace: &str) -> Response<Body> {
        match self.book.dtabs().view().namespaces.get(namespace) {
            None => bare(StatusCode::NOT_FOUND),
            Some(Content::Unreadable { .. }) => bare(StatusCode::INTERNAL_SERVER_ERROR),
            Some(Content::Readable(stored)) => answer::with_version(bare(StatusCode::OK), stored.version),
        }
    }

    async fn write(&self, namespace: &str, method: &Method, headers: &HeaderMap, body: Incoming) -> Response<Body> {
        let Some(form) = Form::sent(headers) else {
            let why = "Content-Type must be application/dtab, text/plain or application/json";
            return said(StatusCode::BAD_REQUEST, why);
        };
        let body = match read(body).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let draft = match form.read(&body) {
            Ok(draft) => draft,
            Err(BadDtab::Refused(why)) => return not_changed(&why.into()),
            Err(BadDtab::Syntax(why)) => return said(StatusCode::BAD_REQUEST, why),
        };
        let change = match (method, asked_version(headers)) {
            (&Method::POST, _) => Change::Create(draft),
            (_, None) => Change::Put(draft),
            (_, Some(version)) => Change::Replace(draft, version),
        };
        match self.book.dtabs().change(namespace.to_owned(), change).await {
            Ok(_) => bare(StatusCode::NO_CONTENT),
            Err(error) => not_changed(&error),
        }
    }

    async fn bind(&self, question: Question, asked: &Asked) -> Response<Body> {
        let mut watch = BindWatch { look: Look::new(Arc::clone(&self.book), question), last: None };
        if asked.watches() {
            return self.watches.open(watch.look.question.peer, JSON, watch);
        }
        once(&mut watch).await
    }

    async fn addr(&self, question: Question, asked: &Asked) -> Response<Body> {
        let id = question.path.clone();
        if asked.watches() {
            let peer = question.peer;
            let watch = AddrWatch::new(Arc::clone(&self.book), question, Whose::Id(id));
            return self.watches.open(peer, JSON, watch);
        }
        addresses(&self.book.place(&id, question.peer)).await
    }

    async fn resolve(&self, question: Question, asked: &Asked) -> Response<Body> {
        if asked.watches() {
            let whose = Whose::Name { bound: None, id: None };
            return self.watches.open(question.peer, JSON, AddrWatch::new(Arc::clone(&self.book), question, whose));
        }
        let peer = question.peer;
        let mut look = Look::new(Arc::clone(&self.book), question);
        let bound = async {
            loop {
                match look.bind() {
                    Binding::Pending => look.changed().await,
                    bound => return bound,
                }
            }
        };
        match timeout(PENDING_WAIT, bound).await {
            Ok(Binding::Ready(tree)) => {
                let place = drawn(&tree).map(|id| self.book.place(&id, peer));
                addresses(&place.unwrap_or(Place::Fixed(Addresses::Neg))).await
            }
            Ok(Binding::Failed(why)) => said(StatusCode::INTERNAL_SERVER_ERROR, why),
            Ok(Binding::Pending) | Err(_) => pending(),
        }
    }

    async fn delegate(&self, question: &Question) -> Response<Body> {
        let mut news = self.book.news();
        let found = async {
            loop {
                news.seen();
                match self.book.delegate(question).transpose() {
                    Some(found) => return found,
                    None => news.changed().await,
                }
            }
        };
        match timeout(PENDING_WAIT, found).await {
            Ok(Ok(tree)) => content(JSON, line(&tree)),
            Ok(Err(error)) => said(StatusCode::BAD_REQUEST, error),
            Err(_) => pending(),
        }
    }

    async fn delegate_sent(&self, headers: &HeaderMap, body: Incoming, peer: IpAddr) -> Response<Body> {
        if Form::sent(headers) != Some(Form::Json) {
            return said(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json");
        }
        let body = match read(body).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let sent: Sent = match serde_json::from_slice(&body) {
            Ok(sent) => sent,
            Err(error) => return said(StatusCode::BAD_REQUEST, error),
        };
        match question(sent.namespace.as_deref(), Some(&sent.path), Some(&sent.dtab), peer) {
            Ok(question) => self.delegate(&question).await,
            Err(why) => said(StatusCode::BAD_REQUEST, why),
        }
    }

    fn bound_names(&self, asked: &Asked, peer: IpAddr) -> Response<Body> {
        if asked.watches() {
            return self.watches.open(peer, JSON, NamesWatch { book: Arc::clone(&self.book), news: self.book.news() });
        }
        content(JSON, line(&self.book.bound_names()))
    }
}

/// The version that `If-Match` asks for: `Some(None)` is any text that is none of ours, which nothing is of.
fn asked_version(headers: &HeaderMap) -> Option<Option<Version>> {
    let value = headers.get(IF_MATCH)?;
    Some(value.to_str().ok().and_then(|text| Version::parse(text.trim())))
}

/// What is posted to `/api/1/delegate`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    #[serde(default)]
    namespace: Option<String>,
    dtab: String,
    path: String,
}

fn question(namespace: Option<&str>, path: Option<&str>, dtab: Option<&str>, peer: IpAddr) -> Result<Question, String> {
    let path = path.ok_or("`path` is missing: ?path=/svc/name")?;
    let path = Path::parse(path).map_err(|errors| format!("path: {}", errors.in_text(path)))?;
    let extra = dtab.unwrap_or_default();
    let extra = Dtab::parse(extra).map_err(|errors| format!("dtab: {}", errors.in_text(extra)))?;
    Ok(Question { namespace: namespace.map(str::to_owned), path, extra, peer })
}

/// The first document of a watch, for who does not watch.
async fn once(watch: &mut impl Watched) -> Response<Body> {
    let first = async {
        loop {
            match watch.document() {
                Ok(Some(document)) => return content(JSON, document),
                Ok(None) => watch.changed().await,
                Err(why) => return said(StatusCode::INTERNAL_SERVER_ERROR, why),
            }
        }
    };
    timeout(PENDING_WAIT, first).await.unwrap_or_else(|_| pending())
}

async fn addresses(place: &Place) -> Response<Body> {
    // not known in time is an answer too
    let _known = timeout(PENDING_WAIT, place.ready()).await;
    content(JSON, line(&place.told()))
}

fn pending() -> Response<Body> {
    said(StatusCode::SERVICE_UNAVAILABLE, "a namer does not know yet: ask again")
}

fn unknown(namespace: &str) -> Response<Body> {
    let shown: String = namespace.chars().take(80).collect();
    said(StatusCode::NOT_FOUND, format_args!("there is no namespace `{shown}`"))
}

fn unreadable(namespace: &str, why: &str) -> Response<Body> {
    let why = format!("the namespace `{namespace}` cannot be read, write it anew or delete it: {why}");
    said(StatusCode::INTERNAL_SERVER_ERROR, why)
}

async fn read(body: Incoming) -> Result<Bytes, Response<Body>> {
    match timeout(BODY_WAIT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(said(StatusCode::PAYLOAD_TOO_LARGE, format_args!("a body may have {BODY_BYTES_MAX} bytes")))
        }
        Ok(Err(error)) => Err(said(StatusCode::BAD_REQUEST, error)),
        Err(_) => Err(said(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

fn list(book: &Book) -> String {
    line(&book.dtabs().view().namespaces.names().collect::<Vec<_>>())
}

struct ListWatch {
    book: Arc<Book>,
    news: News,
}

impl Watched for ListWatch {
    fn document(&mut self) -> Result<Option<String>, String> {
        self.news.seen();
        Ok(Some(list(&self.book)))
    }

    async fn changed(&mut self) {
        self.news.changed().await;
    }
}

/// A namespace that is not there says nothing until it is; one that goes says nothing.
struct DtabWatch {
    book: Arc<Book>,
    news: News,
    namespace: String,
    form: Form,
}

impl Watched for DtabWatch {
    fn document(&mut self) -> Result<Option<String>, String> {
        self.news.seen();
        let view = self.book.dtabs().view();
        Ok(view.namespaces.dtab(&self.namespace).map(|dtab| self.form.write(dtab)))
    }

    async fn changed(&mut self) {
        self.news.changed().await;
    }
}

struct NamesWatch {
    book: Arc<Book>,
    news: News,
}

impl Watched for NamesWatch {
    fn document(&mut self) -> Result<Option<String>, String> {
        self.news.seen();
        Ok(Some(line(&self.book.bound_names())))
    }

    async fn changed(&mut self) {
        self.news.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_resource(path: &str, expected: Option<Resource<'_>>) {
        assert_eq!(resource(path), expected, "{path}");
    }

    #[test]
    fn resources_are_those_of_namerd() {
        check_resource("/api/1/dtabs", Some(Resource::Dtabs));
        check_resource("/api/1/dtabs/", Some(Resource::Dtabs));
        check_resource("/api/1/dtabs/web", Some(Resource::Dtab("web")));
        check_resource("/api/1/bind/web", Some(Resource::Bind("web")));
        check_resource("/api/1/delegate", Some(Resource::Delegate(None)));
        check_resource("/api/1/delegate/web", Some(Resource::Delegate(Some("web"))));
        check_resource("/api/1/bound-names", Some(Resource::BoundNames));
        for path in
            ["/", "/api/1", "/api/1/", "/api/2/dtabs", "/api/1/bind", "/api/1/addr/", "/api/1/bound-names/x", "/dtabs"]
        {
            check_resource(path, None);
        }
    }

    #[test]
    fn a_watch_is_asked_for_by_three_words() {
        for (query, expected) in [
            ("watch=1", true),
            ("watch=t", true),
            ("watch=true", true),
            ("watch=yes", false),
            ("watch=", false),
            ("", false),
        ] {
            let uri: Uri = format!("/api/1/dtabs?{query}").parse().unwrap();
            assert_eq!(Asked::of(&uri).watches(), expected, "{query}");
        }
    }
}
