//! What holds for every text, however broken or large.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use proptest::prelude::*;
use serin_config::limits::DIAGNOSTICS_MAX;
use serin_config::{Config, Diagnostic, Severity, Source, diagnostic};

const EXAMPLE: &str = include_str!("../../examples/hello.yaml");
const MISTAKES: &str = include_str!("golden/diagnostics/many_mistakes.yaml");

/// A legal configuration or reasons; every place lies in the text, and rendering works.
fn check_any(text: &str) {
    let source = Source::new("any.yaml", text);
    let found: Vec<Diagnostic> = match Config::parse(&source) {
        Ok((config, warnings)) => {
            assert!(!config.routers.is_empty());
            assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning));
            warnings
        }
        Err(mistakes) => {
            assert!(mistakes.iter().any(|mistake| mistake.severity == Severity::Error));
            assert!(mistakes.len() <= DIAGNOSTICS_MAX);
            mistakes.to_vec()
        }
    };
    for one in &found {
        assert!(text.get(one.span.start..one.span.end).is_some(), "{one:?}");
        assert!(!one.message.is_empty());
        diagnostic::render(std::slice::from_ref(one), &source, true);
    }
}

fn big(clusters: usize, dentries: usize) -> String {
    let clusters: String =
        (0..clusters).map(|n| format!("  c{n}: {{endpoints: [\"10.0.0.1:{}\"]}}\n", n % 60000 + 1)).collect();
    let dentries: String = (0..dentries).map(|n| format!("    /svc/s{n} => /#/clusters/c{n} ;\n")).collect();
    format!("clusters:\n{clusters}routers:\n- servers: [{{port: 1}}]\n  dtab: |\n{dentries}")
}

#[test]
fn a_hundred_thousand_clusters_and_dentries_are_taken() {
    let (config, warnings) = Config::parse(&Source::new("big.yaml", big(100_000, 100_000))).unwrap();
    assert_eq!((config.clusters.len(), config.routers[0].dtab.0.len(), warnings.len()), (100_000, 100_000, 0));
}

#[test]
fn a_hundred_thousand_mistakes_are_refused_with_the_first_hundred() {
    let mistakes = Config::parse(&Source::new("big.yaml", big(1_000, 100_000))).unwrap_err();
    assert_eq!(mistakes.len(), DIAGNOSTICS_MAX);
    assert_eq!(mistakes[0].code, "dtab/unknown-cluster");
}

#[test]
fn every_beginning_of_a_file_is_legal_or_refused() {
    for text in [EXAMPLE, MISTAKES] {
        for (end, _) in text.char_indices().step_by(7) {
            check_any(&text[..end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn mangled_files_are_legal_or_refused(at in 0usize..4000, length in 0usize..40, insert in "[a-z:{}\\[\\]\"' \n|>=&*~$!/#-]{0,12}", which in any::<bool>()) {
        let text = if which { EXAMPLE } else { MISTAKES };
        let start = text.floor_char_boundary(at % text.len());
        let end = text.floor_char_boundary((start + length).min(text.len()));
        check_any(&format!("{}{insert}{}", &text[..start], &text[end..]));
    }

    #[test]
    fn any_text_is_legal_or_refused(text in "\\PC{0,80}") {
        check_any(&text);
        check_any(&format!("routers: [{{servers: [{{port: 1}}], dtab: '{}'}}]", text.replace('\'', "''")));
    }
}
