//! Log lines on stderr: text for people on a terminal, JSON for machines otherwise.
//!
//! | variable | values | default |
//! |---|---|---|
//! | `SERIN_LOG` | a filter such as `info`, `serin=debug`, `warn,serin::control=info` | `info` |
//! | `SERIN_LOG_FORMAT` | `auto`, `text`, `json` | `auto` |

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// One line for people.
    Text,
}

impl LogFormat {
    /// Reads the value of `SERIN_LOG_FORMAT`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" | "" => Some(Self::Auto),
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }

    fn is_json(self, terminal: bool) -> bool {
        match self {
            Self::Auto => !terminal,
            Self::Json => true,
            Self::Text => false,
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoggingError {
    /// `SERIN_LOG` is no filter.
    #[error("SERIN_LOG=`{0}` is not a filter: try `info`, `debug` or `warn,serin=debug`")]
    Filter(String),
    /// `SERIN_LOG_FORMAT` is none of the formats.
    #[error("SERIN_LOG_FORMAT=`{0}` is not a format: use `auto`, `text` or `json`")]
    Format(String),
}

/// Sets up logging for this process from the environment. A second call changes nothing.
///
/// # Errors
/// A variable holds something that means nothing.
pub fn init(default_filter: &str) -> Result<(), LoggingError> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let format = variable("SERIN_LOG_FORMAT");
    let format = LogFormat::parse(&format).ok_or(LoggingError::Format(format))?;
    let filter = filter(&variable("SERIN_LOG"), default_filter)?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that a subscriber is there already: a test, or a program that has Serin inside.
    let _already_set = if format.is_json(terminal) {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).finish().try_init()
    } else {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        lines.with_ansi(colour).with_target(false).finish().try_init()
    };
    Ok(())
}

fn filter(text: &str, default: &str) -> Result<EnvFilter, LoggingError> {
    let text = if text.trim().is_empty() { default } else { text };
    // the library knows no blank, and takes any other word for the name of a part: then nothing else writes a line
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let mut alone = words.iter().filter(|word| !word.contains(['=', ':', '[']));
    if !alone.all(|word| levels.iter().any(|level| word.eq_ignore_ascii_case(level))) {
        return Err(LoggingError::Filter(text.to_owned()));
    }
    let text = words.join(",");
    // what the HTTP/2 library warns of is decided by peers, a line for each frame: it has to be asked for by name
    let quiet = if text.contains("h2") { text.clone() } else { format!("h2=error,{text}") };
    EnvFilter::builder().parse(quiet).map_err(|_| LoggingError::Filter(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_filter(text: &str, legal: bool) {
        assert_eq!(filter(text, "info").is_ok(), legal, "{text}");
    }

    #[test]
    fn an_empty_filter_is_the_default_and_nonsense_is_refused() {
        check_filter("", true);
        check_filter("warn,serin=debug", true);
        check_filter("INFO, serin::control=debug,h2=trace", true);
        check_filter("serin=loud", false);
        check_filter("debgu", false);
        check_filter("info,serin", false);
    }

    #[test]
    fn peers_cannot_make_the_library_write_lines_unless_it_was_asked_to() {
        let shown = |text| filter(text, "info").unwrap().to_string();
        assert!(shown("").contains("h2=error") && shown("debug").contains("h2=error"));
        assert!(!shown("info,h2=trace").contains("h2=error"));
    }

    #[test]
    fn auto_is_text_only_on_a_terminal() {
        assert!(LogFormat::Auto.is_json(false) && !LogFormat::Auto.is_json(true));
        assert!(LogFormat::Json.is_json(true) && !LogFormat::Text.is_json(false));
        assert_eq!(LogFormat::parse("xml"), None);
    }
}
