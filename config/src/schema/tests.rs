//! The schema and the compiler know the same keys.
//!
//! A key that is new in the compiler fails `every_key_…` with the place in `schema.json` where a line is missing. Where a
//! whole map is new, the samples must have one too: add it to a file of `samples/`, each of which is a legal configuration.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::*;
use crate::Config;
use crate::diagnostic::{Sink, render};
use crate::raw::asked;
use crate::source::{Source, Span};
use crate::yaml::{self, Node, ScalarStyle, Value};

/// Asked for only to be refused with better words: no key for a schema.
const REFUSED: &[&str] = &["secretRef"];

fn schema() -> Json {
    serde_json::from_str(SCHEMA).unwrap()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    files
}

fn source(path: &Path) -> Source {
    Source::new(path.display().to_string(), std::fs::read_to_string(path).unwrap()).in_folder(path.parent().unwrap())
}

/// Everything legal that there is to read: examples, and samples that have what examples do not need.
fn samples() -> Vec<Source> {
    let mut all: Vec<Source> =
        [files("../examples"), files("src/schema/samples")].concat().iter().map(|path| source(path)).collect();
    let (main, teams): (Vec<_>, Vec<_>) =
        files("../examples/teams").into_iter().partition(|path| path.file_stem().is_some_and(|name| name == "serin"));
    let teams: Vec<Source> = teams.iter().map(|path| source(path)).collect();
    all.push(Source::joined(&source(&main[0]), &teams));
    all
}

/// The trees of all files of a source.
fn trees(source: &Source) -> Vec<Node<'_>> {
    let read = |file| yaml::read_file(source, file, usize::MAX, usize::MAX, &mut Sink::default());
    (0..=source.teams()).map(|file| read(file).expect("a sample is YAML")).collect()
}

/// A schema, and where it stands.
#[derive(Clone)]
struct Place<'j> {
    pointer: String,
    schema: &'j Json,
}

/// References followed, alternatives beside each other.
fn expand<'j>(root: &'j Json, place: Place<'j>) -> Vec<Place<'j>> {
    if let Some(name) = place.schema["$ref"].as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
        let schema = root["$defs"].get(name).unwrap_or_else(|| panic!("{}: no $defs/{name}", place.pointer));
        return expand(root, Place { pointer: format!("#/$defs/{name}"), schema });
    }
    let Some(ways) = place.schema["anyOf"].as_array() else { return vec![place] };
    let way = |(at, schema)| expand(root, Place { pointer: format!("{}/anyOf/{at}", place.pointer), schema });
    ways.iter().enumerate().flat_map(way).collect()
}

fn below<'j>(root: &'j Json, places: &[Place<'j>], step: &str) -> Vec<Place<'j>> {
    let one = |place: &Place<'j>| {
        let schema = step.split('/').try_fold(place.schema, |schema, key| schema.get(key))?;
        Some(expand(root, Place { pointer: format!("{}/{step}", place.pointer), schema }))
    };
    places.iter().filter_map(one).flatten().collect()
}

/// For each map of a tree the places of the schema that have keys for it.
fn walk(root: &Json, node: &Node<'_>, places: &[Place<'_>], found: &mut HashMap<Span, BTreeSet<String>>) {
    match &node.value {
        Value::Map(entries) => {
            let fixed = places.iter().filter(|place| place.schema.get("properties").is_some());
            found.entry(node.span).or_default().extend(fixed.map(|place| place.pointer.clone()));
            for entry in entries {
                let mut next = below(root, places, &format!("properties/{}", entry.key));
                if next.is_empty() {
                    next = below(root, places, "additionalProperties");
                }
                walk(root, &entry.value, &next, found);
            }
        }
        Value::List(items) => {
            let next = below(root, places, "items");
            items.iter().for_each(|item| walk(root, item, &next, found));
        }
        Value::Scalar(_) => {}
    }
}

/// Every place of the schema that has keys, and the keys.
fn places(json: &Json, pointer: &str, all: &mut BTreeMap<String, BTreeSet<String>>) {
    let Some(object) = json.as_object() else { return };
    if let Some(keys) = object.get("properties").and_then(Json::as_object).filter(|_| !pointer.ends_with("/properties"))
    {
        all.insert(pointer.to_owned(), keys.keys().cloned().collect());
    }
    for (key, value) in object {
        places(value, &format!("{pointer}/{key}"), all);
        for (at, item) in value.as_array().into_iter().flatten().enumerate() {
            places(item, &format!("{pointer}/{key}/{at}"), all);
        }
    }
}

/// The keys that the compiler asked for, by the place in the schema.
fn asked_keys(schema: &Json, wrong: &mut Vec<String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sample in samples() {
        let mut found = HashMap::new();
        for tree in trees(&sample) {
            walk(schema, &tree, &[Place { pointer: "#".to_owned(), schema }], &mut found);
        }
        asked::take();
        let parsed = Config::parse(&sample);
        assert!(parsed.is_ok(), "{}", render(&parsed.unwrap_err(), &sample, false));
        for (map, key) in asked::take() {
            let at = sample.position(map.start);
            let place = format!("{}:{at}", sample.name_at(map.start));
            let pointers: Vec<&String> = found.get(&map).into_iter().flatten().collect();
            match pointers.as_slice() {
                [pointer] => _ = all.entry((*pointer).clone()).or_default().insert(key.to_owned()),
                [] => wrong.push(format!("{place}: no `properties` for this map, which may have `{key}`")),
                several => wrong.push(format!("{place}: two maps of the schema fit: {several:?}")),
            }
        }
    }
    all
}

#[test]
fn every_key_of_the_compiler_is_in_the_schema_and_no_other() {
    let schema = schema();
    let mut wrong = Vec::new();
    let asked = asked_keys(&schema, &mut wrong);
    let mut written = BTreeMap::new();
    places(&schema, "#", &mut written);
    for (pointer, keys) in &written {
        let Some(asked) = asked.get(pointer) else {
            wrong.push(format!("{pointer}: no sample has this map: add one to a file of config/src/schema/samples"));
            continue;
        };
        for key in asked.difference(keys).filter(|key| !REFUSED.contains(&key.as_str())) {
            wrong.push(format!("{pointer}/properties: add `{key}`, which the compiler takes"));
        }
        for key in keys.difference(asked) {
            wrong
                .push(format!("{pointer}/properties: remove `{key}`, or let a sample ask for it: no compiler took it"));
        }
    }
    assert!(wrong.is_empty(), "config/src/schema/schema.json:\n{}", wrong.join("\n"));
}

/// As a YAML reader of an editor sees it.
fn json(node: &Node<'_>) -> Json {
    match &node.value {
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.to_string(), json(&entry.value))).collect(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Scalar(scalar) if scalar.is_null() => Json::Null,
        Value::Scalar(scalar) if scalar.style == ScalarStyle::Plain => match serde_json::from_str::<Json>(&scalar.text)
        {
            Ok(value @ (Json::Number(_) | Json::Bool(_))) => value,
            _ => Json::String(scalar.text.to_string()),
        },
        Value::Scalar(scalar) => Json::String(scalar.text.to_string()),
    }
}

fn mistakes(validator: &jsonschema::Validator, tree: &Node<'_>) -> Vec<String> {
    validator.iter_errors(&json(tree)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn it_is_a_schema_and_every_legal_file_fits() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema), "not a schema of draft 2020-12");
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for sample in samples() {
        for tree in trees(&sample) {
            let mistakes = mistakes(&validator, &tree);
            assert!(mistakes.is_empty(), "{}: {}", sample.name_at(tree.span.start), mistakes.join("\n"));
        }
    }
}

/// Files of the tests for messages that are wrong by shape alone; the others need the compiler.
#[test]
fn files_of_a_wrong_shape_do_not_fit() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    for name in ["many_mistakes", "not_built", "limits", "identifiers", "rollout_names"] {
        let source =
            source(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/diagnostics/{name}.yaml")));
        let wrong = trees(&source).iter().flat_map(|tree| mistakes(&validator, tree)).count();
        assert!(wrong > 0, "{name}.yaml fits the schema");
    }
}
