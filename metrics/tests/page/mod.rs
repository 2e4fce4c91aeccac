//! A strict reader of both text formats. It shares nothing with the encoder, so what it reads back was really written.

use std::collections::BTreeMap;

use serin_metrics::Format;

/// What a page says.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) families: Vec<FamilyText>,
    pub(crate) samples: Vec<Sample>,
}

/// The comment lines of a family.
#[derive(Debug)]
pub(crate) struct FamilyText {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) kind: String,
    pub(crate) unit: Option<String>,
}

/// One sample line.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) family: usize,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Page {
    /// Reads a page, refusing whatever the format does not allow.
    pub(crate) fn read(text: &str, format: Format) -> Self {
        let mut page = Self::default();
        let body = match format {
            Format::Classic => text,
            Format::OpenMetrics => text.strip_suffix("# EOF\n").expect("the end mark"),
        };
        assert!(body.is_empty() || body.ends_with('\n'), "the last line ends");
        for line in body.lines() {
            match line.strip_prefix("# ") {
                Some(comment) => page.read_comment(comment, format),
                None => page.read_sample(line, format),
            }
        }
        page
    }

    /// The values of a sample name, by label values in the order of `labels`.
    pub(crate) fn values(&self, name: &str, labels: &[&str]) -> BTreeMap<Vec<String>, f64> {
        let named = self.samples.iter().filter(|sample| sample.name == name);
        named.map(|sample| (labels.iter().map(|label| sample.labels[*label].clone()).collect(), sample.value)).collect()
    }

    fn read_comment(&mut self, comment: &str, format: Format) {
        let (word, rest) = comment.split_once(' ').expect("a word");
        let (name, rest) = rest.split_once(' ').expect("a name and more");
        match word {
            "HELP" => {
                assert!(self.families.iter().all(|family| family.name != name), "{name} comes twice");
                let (name, help) = (name.to_owned(), rest.to_owned());
                self.families.push(FamilyText { name, help, kind: String::new(), unit: None });
            }
            "TYPE" => self.last_family(name).kind = rest.to_owned(),
            "UNIT" if format == Format::OpenMetrics => self.last_family(name).unit = Some(rest.to_owned()),
            _ => panic!("comment {comment:?}"),
        }
    }

    fn last_family(&mut self, name: &str) -> &mut FamilyText {
        let family = self.families.last_mut().expect("HELP comes first");
        assert_eq!(family.name, name);
        family
    }

    fn read_sample(&mut self, line: &str, format: Format) {
        let name_end = line.find(['{', ' ']).expect("a value");
        let (name, mut rest) = line.split_at(name_end);
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = read_labels(inside, &mut labels);
        }
        let value = rest.strip_prefix(' ').expect("a blank").parse().expect("a number");
        let family = self.families.last().expect("a family");
        let suffixes: &[&str] = match (family.kind.as_str(), format) {
            ("counter", Format::OpenMetrics) => &["_total"],
            ("counter", Format::Classic) | ("gauge", _) => &[""],
            ("histogram", _) => &["_bucket", "_count", "_sum"],
            (kind, _) => panic!("kind {kind:?}"),
        };
        let suffix = name.strip_prefix(family.name.as_str()).expect("a sample of its family");
        assert!(suffixes.contains(&suffix), "{name} in {}", family.name);
        self.samples.push(Sample { family: self.families.len() - 1, name: name.to_owned(), labels, value });
    }
}

/// Reads `name="value",…}` and returns what follows.
fn read_labels<'a>(mut rest: &'a str, labels: &mut BTreeMap<String, String>) -> &'a str {
    loop {
        let (name, behind) = rest.split_once("=\"").expect("a label");
        assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "label {name:?}");
        let (value, behind) = read_quoted(behind);
        assert!(labels.insert(name.to_owned(), value).is_none(), "label {name} comes twice");
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None => return behind.strip_prefix('}').expect("the end of labels"),
        }
    }
}

fn read_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[index + 1..]),
            '\\' => match letters.next().expect("an escaped letter").1 {
                'n' => value.push('\n'),
                same @ ('"' | '\\') => value.push(same),
                other => panic!("escape \\{other}"),
            },
            plain => value.push(plain),
        }
    }
    panic!("no closing quote in {text:?}")
}
