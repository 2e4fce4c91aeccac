//! What is written into requests.

use serde::Serialize;
use serin_config::model::{self, Labeler, Propagator};

#[derive(Debug, Serialize)]
pub(super) struct Forwarded {
    by: Node,
    #[serde(rename = "for")]
    source: Node,
}

#[derive(Debug, Serialize)]
pub(super) struct Node {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

impl From<&model::ForwardedHeader> for Forwarded {
    fn from(header: &model::ForwardedHeader) -> Self {
        Self { by: node(&header.by), source: node(&header.source) }
    }
}

pub(super) fn propagator(propagator: Propagator) -> Node {
    let kind = match propagator {
        Propagator::Linkerd => "io.l5d.default",
        Propagator::Zipkin => "io.l5d.zipkin",
    };
    Node { kind, label: None }
}

fn node(labeler: &Labeler) -> Node {
    let kind = match labeler {
        Labeler::Ip => "ip",
        Labeler::IpPort => "ip:port",
        Labeler::ConnectionRandom => "connectionRandom",
        Labeler::RequestRandom => "requestRandom",
        Labeler::Router => "router",
        Labeler::Static(label) => return Node { kind: "static", label: Some(label.clone()) },
    };
    Node { kind, label: None }
}
