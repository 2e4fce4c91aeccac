//! Templates of queries, with Flagger's functions in them, such as `{{ namespace }}` and `{{ variables.code }}`; and
//! templates of alerts, JSON with `{{name}}` in its strings.
//!
//! Of Go's template language there are the functions, by themselves, and the marks that trim white space beside an
//! action: that is what queries use. All else is an error, as an unknown key is there.
//!
//! ```
//! use serin_config::template::{Values, render};
//!
//! let values = Values { namespace: "outgoing", interval: "1m", ..Values::default() };
//! let query = r#"sum(rate(errors{ns="{{ namespace }}"}[{{ interval }}]))"#;
//! assert_eq!(render(query, &values).unwrap(), r#"sum(rate(errors{ns="outgoing"}[1m]))"#);
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use thiserror::Error;

/// Longest text that [`render`] gives.
pub const RENDERED_OCTETS_MAX: usize = 64 * 1024;

/// What stands behind each function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the functions, by their names in the template")]
pub struct Values<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub target: &'a str,
    pub service: &'a str,
    pub ingress: &'a str,
    pub route: &'a str,
    pub interval: &'a str,
    /// `templateVariables`; of two with one name the first counts.
    pub variables: &'a [(String, String)],
}

/// Why a template is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// It gives more than [`RENDERED_OCTETS_MAX`].
    #[error("what it gives is longer than {RENDERED_OCTETS_MAX} octets")]
    TooLong,
    /// `{{` without `}}`.
    #[error("`{{{{` has no `}}}}`")]
    Unclosed {
        /// Where it begins, in octets.
        at: usize,
    },
    /// No function of that name.
    #[error("`{word}` is no function; there are {}, and `variables.` with a key", FUNCTIONS.join(", "))]
    UnknownFunction {
        /// Where its action begins, in octets.
        at: usize,
        /// What was written.
        word: String,
    },
    /// An alert knows no such thing.
    #[error("`{word}` is nothing an alert knows; it knows {}", ALERT_WORDS.join(", "))]
    UnknownWord {
        /// Where it begins, in octets.
        at: usize,
        /// What was written.
        word: String,
    },
    /// `variables.` with a key that is not there.
    #[error("templateVariables has no `{key}`")]
    UnknownVariable {
        /// Where its action begins, in octets.
        at: usize,
        /// What was asked for.
        key: String,
    },
}

/// Fills a query in.
///
/// # Errors
/// See [`TemplateError`].
pub fn render(template: &str, values: &Values<'_>) -> Result<String, TemplateError> {
    fill_in(template, |word, at| value(word, at, values))
}

/// Could a query be filled in, with these variables.
///
/// # Errors
/// See [`TemplateError`].
pub fn check(template: &str, variables: &[(String, String)]) -> Result<(), TemplateError> {
    render(template, &Values { variables, ..Values::default() }).map(drop)
}

/// What an alert template may name.
pub const ALERT_WORDS: [&str; 9] =
    ["code", "name", "namespace", "phase", "revision", "severity", "text", "timestamp", "weight"];

/// Fills an alert in: `values` are those of [`ALERT_WORDS`], in its order. They become what stands between the quotes
/// of a JSON string.
///
/// # Errors
/// See [`TemplateError`].
pub fn render_alert(template: &str, values: &[&str; ALERT_WORDS.len()]) -> Result<String, TemplateError> {
    let values = values.map(json_escaped);
    fill_in(template, |word, at| match ALERT_WORDS.iter().position(|known| *known == word) {
        Some(index) => Ok(&*values[index]),
        None => Err(TemplateError::UnknownWord { at, word: word.to_owned() }),
    })
}

/// Could an alert be filled in. Whether it is JSON then is not looked at.
///
/// # Errors
/// See [`TemplateError`].
pub fn check_alert(template: &str) -> Result<(), TemplateError> {
    render_alert(template, &[""; ALERT_WORDS.len()]).map(drop)
}

/// A window as queries write it: `90s`, `5m`, `1h`.
pub fn interval(window: Duration) -> String {
    let mut text = String::new();
    let ms = window.as_millis();
    let (count, unit) = match ms {
        0 => (0, "s"),
        ms if ms % 3_600_000 == 0 => (ms / 3_600_000, "h"),
        ms if ms % 60_000 == 0 => (ms / 60_000, "m"),
        ms if ms % 1000 == 0 => (ms / 1000, "s"),
        ms => (ms, "ms"),
    };
    // Writing to a string cannot fail.
    let _ = write!(text, "{count}{unit}");
    text
}

fn fill_in<'a>(
    template: &str,
    value: impl Fn(&str, usize) -> Result<&'a str, TemplateError>,
) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find(OPEN) {
        let at = template.len() - rest.len() + open;
        let action = &rest[open + OPEN.len()..];
        let close = action.find(CLOSE).ok_or(TemplateError::Unclosed { at })?;
        let (action, behind) = (&action[..close], &action[close + CLOSE.len()..]);
        let text = &rest[..open];
        // A trim mark is a minus with white space beside it.
        let (text, action) = match action.strip_prefix('-').filter(|action| action.starts_with(char::is_whitespace)) {
            Some(action) => (text.trim_end(), action),
            None => (text, action),
        };
        let (action, behind) = match action.strip_suffix('-').filter(|action| action.ends_with(char::is_whitespace)) {
            Some(action) => (action, behind.trim_start()),
            None => (action, behind),
        };
        push(&mut out, text)?;
        push(&mut out, value(action.trim(), at)?)?;
        rest = behind;
    }
    push(&mut out, rest)?;
    Ok(out)
}

/// Without the quotes (RFC 8259 section 7).
fn json_escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out
}

fn value<'a>(word: &str, at: usize, values: &Values<'a>) -> Result<&'a str, TemplateError> {
    if let Some(key) = word.strip_prefix("variables.") {
        let found = values.variables.iter().find(|(known, _)| known == key);
        return found
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| TemplateError::UnknownVariable { at, key: key.to_owned() });
    }
    Ok(match word {
        "ingress" => values.ingress,
        "interval" => values.interval,
        "name" => values.name,
        "namespace" => values.namespace,
        "route" => values.route,
        "service" => values.service,
        "target" => values.target,
        _ => return Err(TemplateError::UnknownFunction { at, word: word.to_owned() }),
    })
}

fn push(out: &mut String, text: &str) -> Result<(), TemplateError> {
    if out.len() + text.len() > RENDERED_OCTETS_MAX {
        return Err(TemplateError::TooLong);
    }
    out.push_str(text);
    Ok(())
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const FUNCTIONS: [&str; 7] = ["ingress", "interval", "name", "namespace", "route", "service", "target"];

#[cfg(test)]
mod tests {
    use super::*;

    fn values(variables: &[(String, String)]) -> Values<'_> {
        Values {
            name: "N",
            namespace: "NS",
            target: "T",
            service: "S",
            ingress: "I",
            route: "R",
            interval: "1m",
            variables,
        }
    }

    #[track_caller]
    fn check_render(template: &str, wanted: &str) {
        let variables = [("code".to_owned(), "5..".to_owned())];
        assert_eq!(render(template, &values(&variables)).as_deref(), Ok(wanted));
    }

    #[test]
    fn every_function_has_its_value() {
        check_render("{{ name }} {{namespace}} {{  target\n}} {{service}}", "N NS T S");
        check_render("{{ingress}}{{route}}[{{ interval }}] {{ variables.code }}", "IR[1m] 5..");
        assert_eq!(FUNCTIONS.map(|name| check(&format!("{{{{ {name} }}}}"), &[]).is_ok()), [true; 7]);
    }

    #[test]
    fn text_around_actions_stays_and_trim_marks_trim() {
        check_render("", "");
        check_render("up{a=\"}}\"} { }", "up{a=\"}}\"} { }");
        check_render("a \n {{- name -}} \t b", "aNb");
        check_render("a {{ name -}} b", "a Nb");
        check_render("é{{name}}é", "éNé");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        let unknown = |at, word: &str| Err(TemplateError::UnknownFunction { at, word: word.into() });
        assert_eq!(check("ab{{ nmae }}", &[]), unknown(2, "nmae"));
        for word in
            ["", "-name", "name | quote", "if name", "\"name\"", "/* c */", ".name", "variables", "Name", "{ name"]
        {
            assert_eq!(check(&format!("{{{{ {word} }}}}"), &[]), unknown(0, word), "{word}");
        }
        assert_eq!(check("{{name}} {{ name", &[]), Err(TemplateError::Unclosed { at: 9 }));
        let missing = TemplateError::UnknownVariable { at: 1, key: "code".into() };
        assert_eq!(check(" {{ variables.code }}", &[]), Err(missing));
        let said = check("{{ x }}", &[]).unwrap_err().to_string();
        assert!(said.starts_with("`x` is no function; there are ingress, interval, "), "{said}");
    }

    #[test]
    fn result_is_bounded() {
        let variables = [("k".to_owned(), "v".repeat(RENDERED_OCTETS_MAX / 2))];
        assert!(check("{{ variables.k }}{{ variables.k }}", &variables).is_ok());
        assert_eq!(check("{{ variables.k }}.{{ variables.k }}", &variables), Err(TemplateError::TooLong));
    }

    #[test]
    fn alert_is_filled_in_as_json() {
        let values = ["c", "n", "ns", "p", "r", "s", "a \"b\" \\ \n\u{1}é", "t", "10"];
        let filled = render_alert(r#"{"x": "{{text}} {{ name }}", "w": {{weight}}}"#, &values).unwrap();
        assert_eq!(filled, r#"{"x": "a \"b\" \\ \u000a\u0001é n", "w": 10}"#);
        for word in ALERT_WORDS {
            assert_eq!(check_alert(&format!("{{{{{word}}}}}")), Ok(()));
        }
        let unknown = TemplateError::UnknownWord { at: 6, word: "texts".into() };
        assert_eq!(check_alert(r#"{"a":"{{texts}}"}"#), Err(unknown));
        assert_eq!(check_alert(r#"{"a":{"b":{}}}"#), Ok(()), "braces that are no action stay");
        assert_eq!(check_alert("{{text"), Err(TemplateError::Unclosed { at: 0 }));
    }

    #[test]
    fn intervals_read_as_people_write_them() {
        for (ms, wanted) in
            [(60_000, "1m"), (90_000, "90s"), (7_200_000, "2h"), (1500, "1500ms"), (0, "0s"), (10_000, "10s")]
        {
            assert_eq!(interval(Duration::from_millis(ms)), wanted);
        }
    }
}
