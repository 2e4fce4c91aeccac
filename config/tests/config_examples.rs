//! Every file of `examples/` is legal, without a warning.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use std::path::Path;

use serin_config::{Config, Source, diagnostic};

fn check_example(path: &Path) {
    let source = Source::new(path.display().to_string(), std::fs::read_to_string(path).unwrap());
    let source = source.in_folder(path.parent().unwrap());
    match Config::parse_with(&source, &Path::is_dir) {
        Ok((_, warnings)) => assert_eq!(diagnostic::render(&warnings, &source, false).trim(), ""),
        Err(mistakes) => panic!("{}", diagnostic::render(&mistakes, &source, false)),
    }
}

#[test]
fn every_example_is_legal() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            check_example(&path);
            names.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    for name in [
        "hello.yaml",
        "dogfood-cookie.yaml",
        "ingress.yaml",
        "http-proxy.yaml",
        "rollout.yaml",
        "rollout-flagger.yaml",
        "ab.yaml",
        "bluegreen.yaml",
        "mirror.yaml",
        "consul.yaml",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} is missing");
    }
}
