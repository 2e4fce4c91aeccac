//! Conformance: every case of `data/dtab-vectors.json`, in the modes that follow Linkerd 1 (`failover: names`,
//! `onUnhealthy: fail`, `host: verbatim`). `SERIN_DTAB_VECTORS=FILE` runs another file of the same format.
//!
//! Texts are compared as texts, trees by structure. Only cases marked `weights printed exactly: value` may print
//! otherwise; there the printed weight must read back exactly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a conformance test fails by panicking

#[path = "vectors/identifiers.rs"]
mod identifiers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use serin_config::dtab::{
    Answer, BindError, Bound, Builtin, Delegation, Dtab, Explained, HeaderDtabError, Layers, LeafState, Limits,
    NameTree, Names, Outcome, Path, Pattern, Rules, Settled, SyntaxErrors, Table, Union, bind, builtin, explain,
    override_dtab, settled, shares,
};
use serin_config::model::{Failover, OnUnhealthy};

#[test]
fn every_vector_holds() {
    let file = std::env::var("SERIN_DTAB_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dtab-vectors.json").to_owned());
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("reading {file}: {error}"));
    let vectors: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("parsing {file}: {error}"));
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in vectors["cases"].as_array().expect("cases") {
        let category = case["category"].as_str().expect("category");
        let place = match check_case(case) {
            Ok(Held::Exactly) => 0,
            Ok(Held::WithDeviation) => 1,
            Err(why) => {
                failures.push(format!("{} ({category}): {why}\n    {}", case["id"], case["input"]));
                2
            }
        };
        counts.entry(category.to_owned()).or_default()[place] += 1;
    }
    println!("{:24} {:>6} {:>9} {:>6}", "category", "passed", "deviated", "failed");
    for (category, [passed, deviated, failed]) in &counts {
        println!("{category:24} {passed:>6} {deviated:>9} {failed:>6}");
    }
    assert!(!counts.is_empty(), "{file} holds no case");
    assert!(failures.is_empty(), "{} cases of {file} failed:\n{}", failures.len(), failures.join("\n"));
}

enum Held {
    Exactly,
    WithDeviation,
}

type Check = Result<Held, String>;

fn check_case(case: &Value) -> Check {
    let (input, expect) = (&case["input"], &case["expect"]);
    let deviates = case["deviates"].as_str() == Some("weights printed exactly: value");
    match case["category"].as_str().unwrap_or_default() {
        "path_parse_ok" => check_path(text(input, "text"), expect),
        "path_parse_err" => check_error(text(input, "text"), expect, |text| Path::parse(text).err()),
        "nametree_parse_ok" => {
            let tree = NameTree::parse(text(input, "text")).map_err(|error| error.to_string())?;
            check_shown_tree(&tree, expect, deviates)
        }
        "nametree_parse_err" => check_error(text(input, "text"), expect, |text| NameTree::parse(text).err()),
        "dtab_parse_ok" => check_dtab(text(input, "text"), expect, deviates),
        "dtab_parse_err" => check_error(text(input, "text"), expect, |text| Dtab::parse(text).err()),
        "dtab_lookup" => {
            let (dtab, path) = (dtab(text(input, "dtab"))?, path(text(input, "path"))?);
            let tree = dtab.lookup(&path);
            same("indexed lookup", &Table::new(Arc::new(dtab)).lookup(&path), &tree)?;
            check_shown_tree(&tree, expect, deviates)
        }
        "nametree_eval" => check_eval(input, expect, deviates),
        "delegate" => check_delegate(input, expect),
        "utility_namer" => check_namer(input, expect),
        "path_matcher" => check_matcher(input, expect),
        "header_override" => check_override(input, expect, deviates),
        "identifier" => identifiers::check(input, expect),
        other => Err(format!("unknown category {other}")),
    }
}

fn check_path(source: &str, expect: &Value) -> Check {
    let path = path(source)?;
    let elems: Vec<String> =
        path.labels().map(|label| label.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    same("elems_hex", &json!(elems), &expect["elems_hex"])?;
    check_text(&path.to_string(), &expect["show"], false, &|text| Path::parse(text).as_ref() == Ok(&path))
}

fn check_error(text: &str, expect: &Value, parse: impl Fn(&str) -> Option<SyntaxErrors>) -> Check {
    let errors = parse(text).ok_or("was accepted")?;
    let message = errors.in_text(text);
    if let Some(part) = expect["finagle_message_contains"].as_str()
        && !message.contains(part)
    {
        return Err(format!("message {message:?} lacks {part:?}"));
    }
    let first = errors.iter().next().ok_or("an error without an error")?;
    let at = text[..first.span.start].chars().count();
    if let Some(expected) = expect["at"].as_u64()
        && u64::try_from(at) != Ok(expected)
    {
        println!("advisory: {text:?} stops at {at}, not at {expected}");
    }
    Ok(Held::Exactly)
}

fn check_shown_tree(tree: &NameTree<Path>, expect: &Value, deviates: bool) -> Check {
    same("tree", &tree_json(tree), &normal(&expect["tree"]))?;
    check_text(&tree.to_string(), &expect["show"], deviates, &|text| NameTree::parse(text).as_ref() == Ok(tree))
}

fn check_dtab(source: &str, expect: &Value, deviates: bool) -> Check {
    let dtab = dtab(source)?;
    let expected = expect["dentries"].as_array().ok_or("no dentries")?;
    same("count", &dtab.0.len(), &expected.len())?;
    for (dentry, expected) in dtab.0.iter().zip(expected) {
        same("prefix", &json!(dentry.prefix.to_string()), &expected["prefix"])?;
        same("dst_tree", &tree_json(&dentry.destination), &normal(&expected["dst_tree"]))?;
        check_text(&dentry.destination.to_string(), &expected["dst"], deviates, &|text| {
            NameTree::parse(text).as_ref() == Ok(&dentry.destination)
        })?;
    }
    check_text(&dtab.to_string(), &expect["show"], deviates, &|text| Dtab::parse(text).as_ref() == Ok(&dtab))
}

fn check_eval(input: &Value, expect: &Value, deviates: bool) -> Check {
    let tree = NameTree::parse(text(input, "tree")).map_err(|error| error.to_string())?;
    if input["op"] == "simplify" {
        return check_shown_tree(&tree.simplified(), expect, deviates);
    }
    let names = tree.eval().map(|names| names.into_iter().map(Path::to_string).collect::<BTreeSet<_>>());
    same("eval", &json!(names), &expect["eval"])?;
    Ok(Held::Exactly)
}

fn check_delegate(input: &Value, expect: &Value) -> Check {
    let name = path(text(input, "path"))?;
    let table = Table::new(Arc::new(dtab(text(input, "dtab"))?));
    let local = dtab(input["local_dtab"].as_str().unwrap_or_default())?;
    let sent = [&local];
    let layers = Layers { base: &table, written: &[], sent: &sent };
    let known = Known::new(input)?;
    if input["op"] == "explain" {
        let delegation = explain(&layers, &known, &name, &Limits::default()).map_err(|error| error.to_string())?;
        same("delegation", &delegation_json(&delegation), &normal(&expect["delegation"]))?;
        return Ok(Held::Exactly);
    }
    check_bound(&bind(&layers, &known, &name, &Limits::default()), expect)
}

fn check_bound(tree: &NameTree<Bound>, expect: &Value) -> Check {
    let states = |leaf: &Bound| match leaf {
        Bound::Error(_) => LeafState::Error,
        Bound::Pending => LeafState::Pending,
        Bound::Name { .. } => LeafState::Usable,
    };
    let rules = Rules { failover: Failover::Names, on_unhealthy: &|_| OnUnhealthy::Fail };
    let ends = shares(tree, &(), &states, &rules);
    match settled(tree) {
        Settled::Error(error) => {
            let kind = match error {
                BindError::TooDeep { .. } => "max_depth",
                BindError::UnknownNamer { .. } => "unknown_namer",
                BindError::Namer { .. } => "namer_error",
                BindError::TooLong { .. } => "too_long",
                BindError::TooWide { .. } => "too_wide",
            };
            same("error", &json!(kind), &expect["error"])?;
            same("picks", &ends.iter().all(|(end, _)| matches!(end, Outcome::Error(_))), &true)?;
        }
        Settled::Pending => {
            same("pending", &expect["pending"].is_null(), &false)?;
            same("picks", &ends.iter().all(|(end, _)| matches!(end, Outcome::Pending(_))), &true)?;
        }
        Settled::Tree(settled) => {
            same("result", &bound_json(&settled), &normal(&expect["result"]))?;
            check_traffic(&ends, &expect["traffic"])?;
        }
    }
    Ok(Held::Exactly)
}

fn check_traffic(ends: &[(Outcome<'_, Bound>, f64)], expect: &Value) -> Result<(), String> {
    let mut traffic: BTreeMap<String, f64> = BTreeMap::new();
    for (end, share) in ends {
        let id = match end {
            Outcome::Leaf(Bound::Name { id, .. }) => id.to_string(),
            _ => "!none".to_owned(),
        };
        *traffic.entry(id).or_default() += share;
    }
    let expected = expect.as_object().ok_or("no traffic expected")?;
    let all: BTreeSet<&String> = traffic.keys().chain(expected.keys()).collect();
    for id in all {
        let (got, want) = (traffic.get(id).copied().unwrap_or(0.0), expect[id].as_f64().unwrap_or(0.0));
        if (got - want).abs() > SHARE_TOLERANCE {
            return Err(format!("traffic of {id} is {got}, not {want}"));
        }
    }
    Ok(())
}

fn check_namer(input: &Value, expect: &Value) -> Check {
    let name = path(text(input, "path"))?;
    let got = match input["namer"].as_object() {
        Some(namer) => {
            same("kind", &namer["kind"], &json!("io.l5d.rewrite"))?;
            let pattern =
                Pattern::parse(text(&input["namer"], "pattern")).map_err(|error| format!("pattern: {error}"))?;
            match pattern.captures(&name) {
                Some(found) => {
                    json!({"path": path(&found.substitute(text(&input["namer"], "name")))?.to_string()})
                }
                None => json!({"neg": true}),
            }
        }
        None => match builtin(&name) {
            Builtin::Neg => json!({"neg": true}),
            Builtin::Empty => json!({"empty": true}),
            Builtin::Fail => json!({"fail": true}),
            Builtin::Rewrite { path, .. } => json!({"path": path.to_string()}),
            Builtin::Bound { id_len } => {
                let (id, residual) = (name.take(id_len).to_string(), name.skip(id_len).to_string());
                json!({"bound": {"id": id, "residual": residual}})
            }
            Builtin::Unknown(_) => json!({"error": "unknown_namer"}),
        },
    };
    let is_error = |value: &Value| !value["error"].is_null();
    if !(is_error(&got) && is_error(expect)) {
        same("namer", &got, expect)?;
    }
    Ok(Held::Exactly)
}

fn check_matcher(input: &Value, expect: &Value) -> Check {
    let pattern = Pattern::parse(text(input, "pattern")).map_err(|error| error.to_string())?;
    let found = pattern.captures(&path(text(input, "path"))?);
    match input["substitute"].as_str() {
        Some(target) => {
            same("result", &json!(found.map(|found| found.substitute(target))), &expect["result"])?;
        }
        None => {
            let taken = found.map(|found| found.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
            same("vars", &json!(taken as Option<BTreeMap<String, String>>), &expect["vars"])?;
        }
    }
    Ok(Held::Exactly)
}

fn check_override(input: &Value, expect: &Value, deviates: bool) -> Check {
    let cleared = input["clearContext"].as_bool() == Some(true);
    let headers: Vec<(String, &str)> = input["headers"]
        .as_array()
        .ok_or("no headers")?
        .iter()
        .map(|pair| (pair[0].as_str().unwrap_or_default().to_lowercase(), pair[1].as_str().unwrap_or_default()))
        .collect();
    let values = |wanted: &'static str| {
        headers.iter().filter(move |(name, _)| !cleared && name == wanted).map(|(_, value)| value.as_bytes())
    };
    let local: Result<_, HeaderDtabError> = override_dtab(values("l5d-ctx-dtab"), values("l5d-dtab"));
    let local = match local {
        Ok(local) => local.unwrap_or_default(),
        Err(error) => {
            same("status", &json!(400), &expect["status"])?;
            return if error.to_string().is_empty() { Err("no message".to_owned()) } else { Ok(Held::Exactly) };
        }
    };
    same("status", &expect["status"], &Value::Null)?;
    let reads_back = |text: &str| Dtab::parse(text).as_ref() == Ok(&local);
    let printed = local.to_string();
    let mut held = Held::Exactly;
    for shown in [&expect["local_dtab"], &expect["forwarded"]["l5d-ctx-dtab"]] {
        match shown {
            Value::Null => same("local dtab", &local.is_empty(), &true)?,
            shown => {
                if let Held::WithDeviation = check_text(&printed, shown, deviates, &reads_back)? {
                    held = Held::WithDeviation;
                }
            }
        }
    }
    if input["path"].is_string() {
        let table = Table::new(Arc::new(dtab(text(input, "base_dtab"))?));
        let sent = [&local];
        let layers = Layers { base: &table, written: &[], sent: &sent };
        let tree = bind(&layers, &Known::new(input)?, &path(text(input, "path"))?, &Limits::default());
        check_bound(&tree, expect)?;
    }
    Ok(held)
}

/// Namers as a case describes them.
struct Known {
    ids: Vec<(Path, String)>,
    rewrites: Vec<(Path, Pattern, String)>,
}

impl Known {
    fn new(input: &Value) -> Result<Known, String> {
        let mut known = Known { ids: Vec::new(), rewrites: Vec::new() };
        for (id, state) in input["known"].as_object().into_iter().flatten() {
            known.ids.push((path(id)?, state.as_str().unwrap_or_default().to_owned()));
        }
        for namer in input["rewrite_namers"].as_array().into_iter().flatten() {
            let pattern = Pattern::parse(text(namer, "pattern")).map_err(|error| error.to_string())?;
            known.rewrites.push((path(text(namer, "prefix"))?, pattern, text(namer, "name").to_owned()));
        }
        Ok(known)
    }
}

impl Names for Known {
    fn lookup(&self, name: &Path) -> Answer {
        for (prefix, pattern, target) in self.rewrites.iter().rev().filter(|(prefix, ..)| name.starts_with(prefix)) {
            if let Some(found) = pattern.captures(&name.skip(prefix.len())) {
                return match Path::parse(&found.substitute(target)) {
                    Ok(path) => Answer::Rewrite(path),
                    Err(error) => Answer::Error(error.to_string()),
                };
            }
        }
        let known = self.ids.iter().filter(|(id, _)| name.starts_with(id)).max_by_key(|(id, _)| id.len());
        match known.map(|(id, state)| (id, state.as_str())) {
            Some((id, "bound")) => Answer::Bound { id_len: id.len() },
            Some((_, "empty")) => Answer::Empty,
            Some((_, "fail")) => Answer::Fail,
            Some((_, "pending")) => Answer::Pending,
            Some((_, "error")) => Answer::Error("failed on purpose".to_owned()),
            Some((_, "neg")) | None => Answer::Neg,
            Some((_, other)) => panic!("unknown state {other}"),
        }
    }
}

fn check_text(printed: &str, expected: &Value, deviates: bool, reads_back: &dyn Fn(&str) -> bool) -> Check {
    if !reads_back(printed) {
        return Err(format!("{printed:?} does not read back"));
    }
    if expected == printed {
        return Ok(Held::Exactly);
    }
    if deviates { Ok(Held::WithDeviation) } else { Err(format!("printed {printed:?}, expected {expected}")) }
}

fn tree_json(tree: &NameTree<Path>) -> Value {
    any_tree_json(tree, &|path| json!({"type": "leaf", "path": path.to_string()}))
}

fn bound_json(tree: &NameTree<Bound>) -> Value {
    any_tree_json(tree, &|leaf| match leaf {
        Bound::Name { id, residual, .. } => {
            json!({"type": "leaf", "id": id.to_string(), "residual": residual.to_string()})
        }
        unready => json!({"type": unready.to_string()}),
    })
}

fn any_tree_json<T>(tree: &NameTree<T>, leaf: &dyn Fn(&T) -> Value) -> Value {
    match tree {
        NameTree::Leaf(value) => leaf(value),
        NameTree::Neg => json!({"type": "neg"}),
        NameTree::Fail => json!({"type": "fail"}),
        NameTree::Empty => json!({"type": "empty"}),
        NameTree::Alt(trees) => {
            json!({"type": "alt", "trees": trees.iter().map(|tree| any_tree_json(tree, leaf)).collect::<Vec<_>>()})
        }
        NameTree::Union(Union { branches, .. }) => {
            let trees: Vec<_> = branches
                .iter()
                .map(|branch| json!({"weight": branch.weight.get(), "tree": any_tree_json(&branch.tree, leaf)}))
                .collect();
            json!({"type": "union", "trees": trees})
        }
    }
}

fn delegation_json(node: &Delegation) -> Value {
    let mut json = match &node.is {
        Explained::Neg => json!({"type": "neg"}),
        Explained::Empty => json!({"type": "empty"}),
        Explained::Fail => json!({"type": "fail"}),
        Explained::Pending => json!({"type": "pending"}),
        Explained::Exception(_) => json!({"type": "exception"}),
        Explained::Leaf { id, residual } => {
            json!({"type": "leaf", "bound": {"id": id.to_string(), "path": residual.to_string()}})
        }
        Explained::Delegate(child) => json!({"type": "delegate", "delegate": delegation_json(child)}),
        Explained::Alt(children) => {
            json!({"type": "alt", "alt": children.iter().map(delegation_json).collect::<Vec<_>>()})
        }
        Explained::Union(branches) => {
            let branches: Vec<_> = branches
                .iter()
                .map(|(weight, child)| json!({"weight": weight.get(), "tree": delegation_json(child)}))
                .collect();
            json!({"type": "union", "union": branches})
        }
    };
    json["path"] = json!(node.path);
    if let Some((prefix, dst)) = &node.dentry {
        json["dentry"] = json!({"prefix": prefix, "dst": dst});
    }
    json
}

/// Numbers as floating point, so that `1` and `1.0` are equal.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.iter().map(normal).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), normal(value))).collect(),
        other => other.clone(),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, expected: &T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}:\n     got {got:?}\n    want {expected:?}")) }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

fn path(text: &str) -> Result<Path, String> {
    Path::parse(text).map_err(|errors| format!("path {text:?}: {}", errors.in_text(text)))
}

fn dtab(text: &str) -> Result<Dtab, String> {
    Dtab::parse(text).map_err(|errors| format!("dtab {text:?}: {}", errors.in_text(text)))
}

const SHARE_TOLERANCE: f64 = 2e-6;
