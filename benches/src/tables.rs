//! Tables of any size, in the shape that configurations have: a few general dentries, then one for each service.

use std::fmt::Write;
use std::sync::Arc;

use serin_config::dtab::{Answer, Dtab, Names, Path, Table};

/// Dentries of a small, a large and a very large table.
pub const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

/// Dentries that stand before those of the services.
const GENERAL: &str = "/srv => /#/clusters ; /host => /srv ; /svc => /host ;";
const GENERAL_LEN: usize = 3;

/// A dtab of so many dentries, of which so many, evenly spread, are splits of two arms.
///
/// `/svc/service-<n>` has a dentry of its own for each `n` below [`services`] of `dentries`.
pub fn text(dentries: usize, splits: usize) -> String {
    let services = services(dentries);
    assert!(splits <= services, "no more splits than services");
    let mut text = GENERAL.to_owned();
    for service in 0..services {
        // true for `splits` of the services: where the running sum of splits/services passes a whole number
        let split = (service + 1) * splits / services > service * splits / services;
        let destination = if split { "9 * /srv/hello & 1 * /srv/other" } else { "/srv/hello" };
        write!(text, " /host/service-{service} => {destination} ;").expect("a text takes any text");
    }
    text
}

/// Services with a dentry of their own in a table of so many dentries.
pub fn services(dentries: usize) -> usize {
    dentries - GENERAL_LEN
}

/// The name of a service.
pub fn name(service: usize) -> Path {
    Path::parse(&format!("/svc/service-{service}")).expect("a legal name")
}

/// The text, read, numbered and indexed.
pub fn table(text: &str) -> Table {
    let mut dtab = Dtab::parse(text).expect("a legal dtab");
    dtab.assign_splits(0);
    Table::new(Arc::new(dtab))
}

/// A namer for which `/#/clusters/hello` and `/#/clusters/other` exist.
#[derive(Clone, Copy, Debug)]
pub struct TwoClusters;

impl Names for TwoClusters {
    fn lookup(&self, path: &Path) -> Answer {
        let known = matches!(path.label(2), Some(b"hello" | b"other"));
        if known && path.label(1) == Some(b"clusters") { Answer::Bound { id_len: 3 } } else { Answer::Neg }
    }
}
