//! The two text formats: which one a scraper asks for, and the rewrite from OpenMetrics to the classic one.

use std::fmt::{self, Write};

/// A text format of the metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4: what every scraper reads.
    Classic,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format for an `Accept` header: OpenMetrics if it is named, in version 1.0.0 or without one, and liked no
    /// less than plain text; otherwise the classic text. At most the first [`ACCEPT_RANGES_MAX`] media ranges count.
    pub fn from_accept(accept: &str) -> Self {
        let (mut open, mut plain) = (0.0, 0.0);
        for range in accept.split(',').take(ACCEPT_RANGES_MAX) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (quality, version) = parameters(parts);
            match media_type.as_str() {
                "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                    open = f32::max(open, quality);
                }
                "text/plain" => plain = f32::max(plain, quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Classic }
    }

    /// The `Content-Type` of a page in this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How many media ranges of an `Accept` header are read.
pub const ACCEPT_RANGES_MAX: usize = 32;

/// Quality (1 if absent, 0 if it is no number from 0 to 1) and version of a media range.
fn parameters<'a>(parts: impl Iterator<Item = &'a str>) -> (f32, Option<&'a str>) {
    let (mut quality, mut version) = (1.0, None);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0),
            "version" => version = Some(value),
            _ => {}
        }
    }
    (quality, version)
}

/// Takes OpenMetrics text in pieces and writes classic text: HELP and TYPE of a counter name it with `_total`, UNIT
/// and EOF lines go away. Works line by line, so that a large page is not held twice.
#[derive(Debug, Default)]
pub(crate) struct ClassicWriter {
    out: String,
    /// The comment line being received; empty inside a sample line.
    comment: String,
    /// The HELP line that waits for its TYPE, which says whether the name needs `_total`.
    help: String,
    inside_sample: bool,
}

impl ClassicWriter {
    /// The page so far.
    pub(crate) fn into_string(self) -> String {
        self.out
    }

    fn end_comment(&mut self) {
        let line = std::mem::take(&mut self.comment);
        if line.starts_with("# HELP ") {
            self.help = line;
        } else if let Some(name_and_kind) = line.strip_prefix("# TYPE ") {
            let suffix = if name_and_kind.ends_with(" counter\n") { "_total" } else { "" };
            let help = std::mem::take(&mut self.help);
            self.push_named(&help, suffix);
            self.push_named(&line, suffix);
        }
    }

    /// Appends `# WORD name rest` with `suffix` behind the name.
    fn push_named(&mut self, line: &str, suffix: &str) {
        let name_end = line.match_indices(' ').nth(2).map_or(line.len(), |(index, _)| index);
        let (head, rest) = line.split_at(name_end);
        self.out.push_str(head);
        self.out.push_str(suffix);
        self.out.push_str(rest);
    }
}

impl Write for ClassicWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive('\n') {
            let comment = !self.inside_sample && (!self.comment.is_empty() || piece.starts_with('#'));
            let ended = piece.ends_with('\n');
            if comment {
                self.comment.push_str(piece);
                if ended {
                    self.end_comment();
                }
            } else {
                self.out.push_str(piece);
                self.inside_sample = !ended;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_accept(accept: &str, format: Format) {
        assert_eq!(Format::from_accept(accept), format, "{accept}");
    }

    #[test]
    fn a_scraper_that_prefers_openmetrics_gets_it() {
        check_accept("application/openmetrics-text", Format::OpenMetrics);
        check_accept("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8", Format::OpenMetrics);
        check_accept("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.6", Format::OpenMetrics);
        check_accept(
            "application/vnd.google.protobuf;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;\
             q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::OpenMetrics,
        );
    }

    #[test]
    fn everybody_else_gets_the_classic_text() {
        check_accept("", Format::Classic);
        check_accept("*/*", Format::Classic);
        check_accept("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", Format::Classic);
        check_accept("text/plain, application/openmetrics-text;q=0.5", Format::Classic);
        check_accept("application/openmetrics-text;q=0", Format::Classic);
        check_accept("application/openmetrics-text;q=2", Format::Classic);
        check_accept("application/openmetrics-text;version=0.0.1", Format::Classic);
    }

    #[test]
    fn media_ranges_beyond_the_limit_do_not_count() {
        let others = "a/b,".repeat(ACCEPT_RANGES_MAX - 1);
        check_accept(&format!("{others}application/openmetrics-text"), Format::OpenMetrics);
        check_accept(&format!("{others}a/b,application/openmetrics-text"), Format::Classic);
    }

    const OPEN: &str = "# HELP a_seconds Some # help.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                        a_seconds_total{b=\"# EOF\"} 1\n# HELP c Gauge.\n# TYPE c gauge\nc 2\n# EOF\n";
    const CLASSIC: &str = "# HELP a_seconds_total Some # help.\n# TYPE a_seconds_total counter\n\
                           a_seconds_total{b=\"# EOF\"} 1\n# HELP c Gauge.\n# TYPE c gauge\nc 2\n";

    fn rewrite<'a>(pieces: impl IntoIterator<Item = &'a str>) -> String {
        let mut writer = ClassicWriter::default();
        for piece in pieces {
            writer.write_str(piece).unwrap();
        }
        writer.into_string()
    }

    #[test]
    fn classic_text_names_counters_with_total_and_has_neither_unit_nor_eof() {
        assert_eq!(rewrite([OPEN]), CLASSIC);
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(mut cuts in proptest::collection::vec(0..OPEN.len(), 0..12)) {
            cuts.extend([0, OPEN.len()]);
            cuts.sort_unstable();
            prop_assert_eq!(rewrite(cuts.windows(2).map(|cut| &OPEN[cut[0]..cut[1]])), CLASSIC);
        }

        #[test]
        fn any_accept_header_gets_an_answer(accept in ".{0,200}") {
            let _ = Format::from_accept(&accept);
        }
    }
}
