//! Prometheus' classic text, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use super::Serin;

/// One scrape.
pub(crate) struct Scrape {
    series: Vec<Series>,
}

/// One line of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Scrape {
    pub(crate) fn of(serin: &Serin) -> Scrape {
        let response = serin.admin("/metrics");
        assert_eq!(response.status, 200);
        Scrape::parse(&response.text())
    }

    /// Fails on two series of one name and labels, on a family described twice, and on a series without a family.
    pub(crate) fn parse(text: &str) -> Scrape {
        let (mut series, mut seen, mut families) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is described twice");
            } else if !line.starts_with('#') {
                let one = parse_series(line);
                assert!(family_of(&families, &one.name), "{line} belongs to no family");
                assert!(seen.insert(format!("{} {:?}", one.name, one.labels)), "twice: {line}");
                series.push(one);
            }
        }
        Scrape { series }
    }

    /// All series of a name that carry these labels.
    pub(crate) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Series> {
        let carries =
            |one: &&Series| labels.iter().all(|(key, value)| one.labels.get(*key).is_some_and(|v| v == value));
        self.series.iter().filter(|one| one.name == name).filter(carries).collect()
    }

    /// Their sum; 0 when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).iter().map(|one| one.value).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn all(&self) -> &[Series] {
        &self.series
    }
}

fn family_of(families: &BTreeMap<String, String>, name: &str) -> bool {
    let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|end| name.strip_suffix(end));
    families.contains_key(name) || parts.into_iter().any(|base| families.get(base).is_some_and(|k| k == "histogram"))
}

fn parse_series(line: &str) -> Series {
    let Some((name, rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        return Series { name: name.to_owned(), labels: BTreeMap::new(), value: number(value) };
    };
    let (mut labels, mut rest) = (BTreeMap::new(), rest);
    while let Some(after) = rest.strip_prefix('}').is_none().then_some(rest) {
        let (key, tail) = after.split_once("=\"").unwrap_or_else(|| panic!("no label value: {line}"));
        let (value, tail) = quoted(tail);
        assert!(labels.insert(key.to_owned(), value).is_none(), "label {key} twice: {line}");
        rest = tail.strip_prefix(',').unwrap_or(tail);
    }
    Series { name: name.to_owned(), labels, value: number(rest.trim_start_matches('}').trim()) }
}

/// Up to the closing quote, escapes undone; and the text behind it.
fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in text.char_indices() {
        match (escaped, character) {
            (true, 'n') => value.push('\n'),
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (false, '"') => return (value, &text[at + 1..]),
            (_, other) => value.push(other),
        }
        escaped = false;
    }
    panic!("a label value without end: {text}");
}

fn number(text: &str) -> f64 {
    let first = text.split(' ').next().unwrap_or_default();
    match first {
        "+Inf" => f64::INFINITY,
        other => other.parse().unwrap_or_else(|_| panic!("not a number: {text}")),
    }
}
