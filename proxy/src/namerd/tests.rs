use serin_config::dtab::{Dtab, Layers, Limits, Path, Settled, Table, bind, settled};
use serin_config::model::Cluster;

use super::book::{drawn, without_transformers};
use crate::endpoints::EndpointTable;
use crate::resolve::{DnsConfig, Resolver};
use std::sync::Arc;

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

#[track_caller]
fn check_drawn(dtab: &str, expected: &[&str]) {
    let cluster = |name: &str| Cluster { name: name.to_owned(), endpoints: Vec::new() };
    let mut resolver = Resolver::new(Arc::new(EndpointTable::default()), DnsConfig::default());
    let names = resolver.configure(&[cluster("a"), cluster("b")], &[], &Default::default());
    let table = Table::new(Arc::new(Dtab::parse(dtab).unwrap()));
    let layers = Layers { base: &table, written: &[], sent: &[] };
    let tree = bind(&layers, &*names, &path("/x"), &Limits::default());
    let Settled::Tree(tree) = settled(&tree) else { panic!("{tree}") };
    let mut found: Vec<_> = (0..200).filter_map(|_| drawn(&tree)).map(|id| id.to_string()).collect();
    found.sort();
    found.dedup();
    assert_eq!(found, expected, "{dtab}");
}

#[test]
fn a_branch_is_drawn_by_its_weight() {
    check_drawn("/x => /#/clusters/a", &["/#/clusters/a"]);
    check_drawn("/x => 1 * /#/clusters/a & 1 * /#/clusters/b", &["/#/clusters/a", "/#/clusters/b"]);
    check_drawn("/x => 0 * /#/clusters/a & 1 * /#/clusters/b", &["/#/clusters/b"]);
    check_drawn("/x => 0 * /#/clusters/a & 0 * /#/clusters/b", &[]);
    check_drawn("/x => !", &[]);
    check_drawn("/y => /x", &[]);
}

#[test]
fn transformers_stand_before_the_name() {
    for (id, expected) in [
        ("/#/clusters/a", "/#/clusters/a"),
        ("/%/io.l5d.port/80/#/clusters/a", "/#/clusters/a"),
        ("/%/x/$/inet/h/80", "/$/inet/h/80"),
        ("/%/x", "/"),
        ("/svc/#/a", "/svc/#/a"),
    ] {
        assert_eq!(without_transformers(&path(id)), path(expected), "{id}");
    }
}
