//! PURE: dtabs as people and programs send and get them: the language itself, or JSON with a prefix and a destination for
//! each dentry.

use serde::{Deserialize, Serialize};
use serin_config::dtab::{Dentry, Dtab, NameTree, Prefix};

use super::state::{DTAB_BYTES_MAX, Draft, Refused};

/// A dentry in JSON, printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DentryText {
    /// The left side.
    pub prefix: String,
    /// The right side.
    pub dst: String,
}

/// Why a text is no dtab.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDtab {
    /// It does not parse; the place is shown.
    #[error("{0}")]
    Syntax(String),
    /// It is too long.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Reads the language.
///
/// # Errors
/// It does not parse, or is longer than [`DTAB_BYTES_MAX`].
pub fn read(bytes: &[u8]) -> Result<Draft, BadDtab> {
    if bytes.len() > DTAB_BYTES_MAX {
        return Err(Refused::TooLarge.into());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| BadDtab::Syntax(format!("the dtab is no UTF-8 from byte {} on", error.valid_up_to())))?;
    let dtab = Dtab::parse(text).map_err(|errors| {
        let place = errors.iter().next().map_or(0, |error| error.span.start);
        let before = &text[..text.floor_char_boundary(place)];
        let (line, column) =
            (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
        BadDtab::Syntax(format!("line {line}, column {column}: {}", errors.in_text(text)))
    })?;
    Ok(Draft::new(dtab)?)
}

/// Reads JSON: `[{"prefix": "/svc", "dst": "/#/clusters"}]`.
///
/// # Errors
/// As [`read`]; the entry at fault is named and shown.
pub fn read_json(bytes: &[u8]) -> Result<Draft, BadDtab> {
    let entries: Vec<Option<DentryText>> =
        serde_json::from_slice(bytes).map_err(|error| BadDtab::Syntax(format!("the JSON of the dtab: {error}")))?;
    let entries = entries.into_iter().zip(1..).map(|(entry, number)| {
        let entry = entry.ok_or_else(|| BadDtab::Syntax(format!("entry {number} is `null`")));
        dentry(number, &entry?)
    });
    Ok(Draft::new(Dtab(entries.collect::<Result<_, _>>()?))?)
}

/// A dtab for JSON.
pub fn entries(dtab: &Dtab) -> Vec<DentryText> {
    let entry = |dentry: &Dentry| DentryText { prefix: dentry.prefix.to_string(), dst: dentry.destination.to_string() };
    dtab.0.iter().map(entry).collect()
}

fn dentry(number: usize, entry: &DentryText) -> Result<Dentry, BadDtab> {
    let wrong = |side: &str, text: &str, errors: serin_config::dtab::SyntaxErrors| {
        BadDtab::Syntax(format!("entry {number}, {side}: {}", errors.in_text(text)))
    };
    Ok(Dentry {
        prefix: Prefix::parse(&entry.prefix).map_err(|errors| wrong("prefix", &entry.prefix, errors))?,
        destination: NameTree::parse(&entry.dst).map_err(|errors| wrong("dst", &entry.dst, errors))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_bad(found: Result<Draft, BadDtab>, part: &str) {
        let error = found.expect_err("it is no dtab").to_string();
        assert!(error.contains(part), "{part} in {error}");
    }

    #[test]
    fn both_forms_mean_the_same() {
        let text = read(b"# comment\n/svc => /a | 3 * /b & /c ;").unwrap();
        let json = br#"[{"prefix": "/svc", "dst": "/a | 3.00*/b & /c"}]"#;
        assert_eq!(read_json(json), Ok(text.clone()));
        assert_eq!(entries(text.dtab()), [DentryText { prefix: "/svc".into(), dst: "/a | 3.00*/b & /c".into() }]);
        assert_eq!((read(b""), read_json(b"[]")), (Draft::new(Dtab::default()).map_err(Into::into), read(b"")));
    }

    #[test]
    fn a_mistake_has_a_place() {
        check_bad(read(b"/svc => /a ;\n  /b = /c"), "line 2, column 7: '>' expected but ' ' found at '/svc => /a ;");
        check_bad(read(b"/a => /\xff"), "no UTF-8 from byte 7 on");
        check_bad(
            read_json(b"[{\"prefix\": \"/a\", \"dst\": \"/b\"}, {\"prefix\": \"/a\", \"dst\": \"/b/\"}]"),
            "entry 2, dst: label char",
        );
        check_bad(read_json(b"[{\"prefix\": \"a\", \"dst\": \"/b\"}]"), "entry 1, prefix: '/' expected");
        check_bad(read_json(b"[null]"), "entry 1 is `null`");
        check_bad(read_json(b"{}"), "line 1 column");
        check_bad(read_json(b"[{\"prefix\": \"/a\"}]"), "missing field `dst`");
        check_bad(read_json(b"[{\"prefix\": \"/a\", \"dst\": \"/b\", \"x\": 1}]"), "unknown field `x`");
    }

    #[test]
    fn a_text_fills_its_bytes_and_one_more_is_refused() {
        let text = format!("/a => /b ;{}", " ".repeat(DTAB_BYTES_MAX - 10));
        assert!(read(text.as_bytes()).is_ok());
        assert_eq!(read(format!("{text} ").as_bytes()), Err(Refused::TooLarge.into()));
    }
}
