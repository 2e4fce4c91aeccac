//! The crate stays pure: no input or output, clock, randomness, serialisation or metrics comes in unseen.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its own sources stops loudly")]

use std::path::{Path, PathBuf};

const FORBIDDEN: [&str; 14] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "std::time",
    "HashMap", // its order is random
    "HashSet",
    "Mutex",
    "Atomic",
    "println!",
    "async fn",
    "extern crate",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn the_sources_name_nothing_impure() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 10);
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for word in FORBIDDEN {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn the_only_dependency_is_thiserror() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[dependencies]\n").unwrap();
    let (dependencies, _) = rest.split_once("\n[").unwrap();
    assert_eq!(dependencies.trim(), "thiserror.workspace = true");
}
