//! `interpreter` of a router and `interfaces` of the file: who uses stored dtabs, and who may change them.

use std::net::SocketAddr;

use crate::diagnostic::Diagnostic;
use crate::model::{Interface, Interpreter, NAMESPACE_BYTES_MAX, is_namespace};
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::Node;

use super::{LOOPBACK, Listener};

/// Interfaces that a file may have.
pub const INTERFACES_MAX: usize = 8;

/// Of namerd's HTTP control API.
const HTTP_CONTROLLER_PORT: u16 = 4180;

const INTERPRETERS_NOT_BUILT: &[&str] = &[
    "io.l5d.consul.interpreter",
    "io.l5d.fs",
    "io.l5d.istio.interpreter",
    "io.l5d.k8s.configMap",
    "io.l5d.mesh",
    "io.l5d.namerd",
];

const INTERFACES_NOT_BUILT: &[&str] = &["io.l5d.destination", "io.l5d.mesh", "io.l5d.thriftNameInterpreter"];

/// The interpreter of a router; where it names a stored dtab, the place is noted in `stored`.
pub(super) fn interpreter(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, stored: &mut Vec<Span>) -> Interpreter {
    let Some(mut fields) = fields.map(cx, "interpreter", "{kind: default}") else { return Interpreter::default() };
    let instead = super::interpreter::by_http(&fields).unwrap_or_else(|| {
        let own = "write the dtab in this file: it is reloaded at once; or keep it in a stored namespace: \
                   `interpreter: {kind: default, namespace: default}`";
        own.to_owned()
    });
    let built = ["default", "io.l5d.namerd.http"];
    let Some(kind) = super::kind(cx, &mut fields, "interpreter", &built, INTERPRETERS_NOT_BUILT, &instead) else {
        fields.abandon();
        return Interpreter::default();
    };
    if kind == "io.l5d.namerd.http" {
        let namerd = super::interpreter::namerd(cx, &mut fields, namespace);
        fields.finish(cx);
        return namerd.map_or_else(Interpreter::default, Interpreter::NamerdHttp);
    }
    let span = fields.get("namespace").map(|entry| entry.key_span);
    let namespace = fields.scalar(cx, "namespace", namespace);
    stored.extend(span);
    fields.not_built(cx, &[super::TRANSFORMERS]);
    fields.finish(cx);
    Interpreter::Default { namespace }
}

fn namespace(text: &str) -> Result<String, Wrong> {
    let allowed = format!("1 to {NAMESPACE_BYTES_MAX} letters, digits, `-`, `_` and `.`, the first one no `.`");
    if is_namespace(text) { Ok(text.to_owned()) } else { Err(Wrong::new(allowed, "default")) }
}

/// All interfaces, and where they listen.
pub(super) fn interfaces(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, listeners: &mut Vec<Listener>) -> Vec<Interface> {
    let Some(entry) = fields.take(cx, "interfaces") else { return Vec::new() };
    let items = cx.list("interfaces", &entry.value, "[{kind: io.l5d.httpController}]");
    if items.len() > INTERFACES_MAX {
        let message = format!("`interfaces` has {} entries, {INTERFACES_MAX} are allowed", items.len());
        cx.push(Diagnostic::error("config/too-many", entry.key_span, message));
    }
    let mut found = Vec::new();
    for item in items.get(..INTERFACES_MAX).unwrap_or(items) {
        let Some((interface, span)) = interface(cx, item) else { continue };
        listeners.push(Listener { address: interface.address(), span });
        found.push(interface);
    }
    found
}

fn interface(cx: &Cx<'_>, item: &Node<'_>) -> Option<(Interface, Span)> {
    let mut fields = Fields::open(cx, "interfaces", item, "{kind: io.l5d.httpController, ip: 127.0.0.1, port: 4180}")?;
    let instead = "write `kind: io.l5d.httpController`: namerd's HTTP API, which namerctl speaks";
    let built = ["io.l5d.httpController"];
    if super::kind(cx, &mut fields, "interfaces", &built, INTERFACES_NOT_BUILT, instead).is_none() {
        fields.abandon();
        return None;
    }
    let span = fields.get("port").map_or(fields.span, |entry| entry.value.span);
    let errors_before = cx.errors();
    let ip = fields.scalar(cx, "ip", units::ip).unwrap_or(LOOPBACK);
    let port = fields.scalar(cx, "port", units::listen_port).unwrap_or(HTTP_CONTROLLER_PORT);
    fields.not_built(
        cx,
        &[
            ("tls", "keep this listener on loopback"),
            ("socketOptions", "remove the block: this listener has none to set"),
            ("shutdownGraceMs", "see `drain`"),
        ],
    );
    fields.finish(cx);
    // An address that could not be read clashes with nothing.
    let port = if cx.errors() == errors_before { port } else { 0 };
    Some((Interface::HttpController { address: SocketAddr::new(ip, port) }, span))
}

/// Stored dtabs are kept in `storage`.
pub(super) fn check_storage(cx: &Cx<'_>, has_storage: bool, stored: &[Span], interfaces: &[Listener]) {
    let missing = stored.iter().map(|span| ("a stored `namespace`", *span));
    let missing = missing.chain(interfaces.iter().map(|interface| ("an interface to stored dtabs", interface.span)));
    for (what, span) in missing.filter(|_| !has_storage) {
        let message = format!("{what} needs `storage`: it is where dtabs are kept");
        let help = "write `storage: {kind: file, dir: state}`, or `{kind: memory}` to keep nothing";
        cx.push(Diagnostic::error("config/no-storage", span, message).help(help));
    }
}
