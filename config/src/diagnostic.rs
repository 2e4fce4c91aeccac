//! What is wrong in a configuration, as data, and the one place that turns it into text.

use std::fmt;
use std::ops::Deref;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use crate::source::{Position, Source, Span, floor_char};

/// Diagnostics kept of one text; further ones are only counted.
pub const DIAGNOSTICS_MAX: usize = 100;

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The text is refused.
    Error,
    /// The text is accepted; someone should know.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One mistake, or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// A stable name such as `config/unknown-key`.
    pub code: &'static str,
    /// What was found and what is allowed, in plain words.
    pub message: String,
    /// Where.
    pub span: Span,
    /// A few words beside the caret; may be empty.
    pub label: String,
    /// A second place that explains the first, such as the earlier of two equal names.
    pub related: Option<(Span, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        let (label, related, help) = (String::new(), None, None);
        Diagnostic { severity: Severity::Error, code, message: message.into(), span, label, related, help }
    }

    /// A warning.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, span, message) }
    }

    /// With a few words beside the caret.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Diagnostic {
        Diagnostic { label: label.into(), ..self }
    }

    /// With advice.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Diagnostic {
        Diagnostic { help: Some(help.into()), ..self }
    }

    /// With advice if there is any.
    #[must_use]
    pub fn maybe_help(self, help: Option<String>) -> Diagnostic {
        Diagnostic { help: help.or(self.help), ..self }
    }

    /// With a second place.
    #[must_use]
    pub fn related(self, span: Span, label: impl Into<String>) -> Diagnostic {
        Diagnostic { related: Some((span, label.into())), ..self }
    }

    /// Line and column of its first character, for machine-readable output.
    pub fn position(&self, source: &Source) -> Position {
        source.position(self.span.start)
    }
}

/// Why a configuration was refused: never empty, at least one error among them, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    /// How many more there were than [`DIAGNOSTICS_MAX`].
    pub fn omitted(&self) -> usize {
        self.omitted
    }
}

/// For what is found behind the parser.
impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { list: vec![diagnostic], omitted: 0 }
    }
}

impl Deref for Diagnostics {
    type Target = [Diagnostic];

    fn deref(&self) -> &[Diagnostic] {
        &self.list
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.list.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        let count = errors.clone().count() + self.omitted;
        let first = errors.map(|error| error.message.as_str()).next().unwrap_or_default();
        match count {
            0 | 1 => f.write_str(first),
            _ => write!(f, "{first} (and {} more)", count - 1),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// Collects diagnostics while a text is read.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    list: Vec<Diagnostic>,
    omitted: usize,
    errors: usize,
}

impl Sink {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let is_error = diagnostic.severity == Severity::Error;
        self.errors += usize::from(is_error);
        if self.list.len() < DIAGNOSTICS_MAX {
            self.list.push(diagnostic);
        } else if let Some(warning) = self.list.iter().position(|kept| kept.severity == Severity::Warning)
            && is_error
        {
            // An error must not be lost behind a hundred warnings.
            self.list.remove(warning);
            self.list.push(diagnostic);
        } else {
            self.omitted += 1;
        }
    }

    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Nobody will see further ones: loops may stop looking.
    pub(crate) fn is_full(&self) -> bool {
        self.errors >= DIAGNOSTICS_MAX
    }

    /// Everything that was said, in the order of the text, and how much more there was.
    pub(crate) fn into_list(mut self) -> (Vec<Diagnostic>, usize) {
        self.list.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.severity));
        (self.list, self.omitted)
    }

    /// The value with its warnings, or the reasons why there is none.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<(T, Vec<Diagnostic>), Diagnostics> {
        self.list.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.severity));
        debug_assert!(value.is_some() || self.errors > 0, "nothing was built and nothing was said");
        match value {
            Some(value) if self.errors == 0 => Ok((value, self.list)),
            _ => Err(Diagnostics { list: self.list, omitted: self.omitted }),
        }
    }
}

/// All diagnostics as text: for each the file, line and column, the line, a caret and the advice.
///
/// ```
/// use serin_config::{Config, diagnostic::render, source::Source};
/// let source = Source::new("serin.yaml", "routerz: []\n");
/// let mistakes = Config::parse(&source).unwrap_err();
/// let text = render(&mistakes, &source, false);
/// assert!(text.contains("serin.yaml:1:1"), "{text}");
/// assert!(text.contains("did you mean `routers`?"), "{text}");
/// ```
pub fn render(diagnostics: &[Diagnostic], source: &Source, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for diagnostic in diagnostics {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&render_one(diagnostic, source, &renderer));
    }
    text.push('\n');
    text
}

fn render_one(diagnostic: &Diagnostic, source: &Source, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let primary = Excerpt::of(source, diagnostic.span);
    let related = diagnostic.related.as_ref().map(|(span, label)| (Excerpt::of(source, *span), label));
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
    let mut group = title.element(primary.snippet(source, &diagnostic.label, AnnotationKind::Primary));
    if let Some((excerpt, label)) = &related {
        group = group.element(excerpt.snippet(source, label, AnnotationKind::Context));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let mut text = renderer.render(&[group]);
    for excerpt in std::iter::once(&primary).chain(related.iter().map(|(excerpt, _)| excerpt)) {
        // The renderer counts columns from a cut; put the right one in its place.
        if let Some(counted) = excerpt.counted_column {
            let name = source.name_at(excerpt.start);
            let Position { line, column } = excerpt.position;
            text = text.replacen(&format!("{name}:{line}:{counted}"), &format!("{name}:{line}:{column}"), 1);
        }
    }
    text
}

/// The line of a mark. Only that line is handed to the renderer, and of a very long one only the part around the mark:
/// so the cost of a diagnostic does not depend on the size of the file.
struct Excerpt<'a> {
    /// Where the mark begins in the source.
    start: usize,
    text: &'a str,
    marked: std::ops::Range<usize>,
    position: Position,
    /// The column from where the line was cut, if it was.
    counted_column: Option<usize>,
}

impl<'a> Excerpt<'a> {
    fn of(source: &'a Source, span: Span) -> Excerpt<'a> {
        let text = source.text();
        let start = floor_char(text, span.start);
        let position = source.position(start);
        let line = source.line_range(start);
        let start = start.clamp(line.start, line.end);
        let end = floor_char(text, span.end).clamp(start, line.end);
        let is_cut = start - line.start > WINDOW_BYTES;
        let from = if is_cut { floor_char(text, start - WINDOW_BYTES) } else { line.start };
        let to = floor_char(text, line.end.min(start + WINDOW_BYTES)).max(start);
        let shown = text.get(from..to).unwrap_or_default();
        let before = text.get(from..start).unwrap_or_default();
        Excerpt {
            start,
            text: shown,
            marked: before.len()..(end - from).min(shown.len()),
            position,
            counted_column: is_cut.then(|| before.chars().count() + 1),
        }
    }

    fn snippet(&self, source: &'a Source, label: &'a str, kind: AnnotationKind) -> Snippet<'a, Annotation<'a>> {
        let annotation = kind.span(self.marked.clone()).label((!label.is_empty()).then_some(label));
        Snippet::source(self.text)
            .path(source.name_at(self.start))
            .line_start(self.position.line)
            .annotation(annotation)
    }
}

/// What is shown of a line on either side of a mark.
const WINDOW_BYTES: usize = 4096;
