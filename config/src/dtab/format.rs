//! `serin dtab fmt`: one dentry a line, `=>` under each other, comments kept.

use std::ops::Range;

use super::parse::is_space;
use super::{Dentry, Dtab, SyntaxErrors};

/// Formats a dtab and keeps its comments.
///
/// One dentry a line, closed by `;`, the `=>` of a block under each other; blocks are parted by one blank line where
/// the source has any. A comment behind a dentry on its line stays there; others get a line of their own, before the
/// dentry they stand in or before. Formatting twice changes nothing more, and the result reads as the same dtab.
pub fn format_source(text: &str) -> Result<String, SyntaxErrors> {
    let (dtab, spans) = Dtab::parse_with_spans(text)?;
    let mut lines = Vec::new();
    let mut comments = spans.comments.into_iter().peekable();
    let mut at = 0;
    let starts = spans.dentries.iter().skip(1).map(|next| next.prefix.start).chain([text.len()]);
    for ((dentry, span), next) in dtab.0.iter().zip(&spans.dentries).zip(starts) {
        // Comments before the dentry or inside of it stand above it.
        while let Some(comment) = comments.next_if(|comment| comment.start < span.destination.end) {
            if comment.start < span.prefix.start {
                blank(text, at..comment.start, &mut lines);
            } else if at < span.prefix.start {
                blank(text, at..span.prefix.start, &mut lines);
            }
            at = comment.end;
            lines.push(Line::Comment(text[comment].trim_end()));
        }
        if at < span.prefix.start {
            blank(text, at..span.prefix.start, &mut lines);
        }
        at = span.destination.end;
        // One behind it, on the same line, stays there.
        let behind = comments.next_if(|comment| comment.start < next && !text[at..comment.start].contains('\n'));
        at = behind.as_ref().map_or(at, |comment| comment.end);
        lines.push(Line::Dentry { dentry, comment: behind.map(|comment| text[comment].trim_end()) });
    }
    for comment in comments {
        blank(text, at..comment.start, &mut lines);
        at = comment.end;
        lines.push(Line::Comment(text[comment].trim_end()));
    }
    Ok(print(&lines))
}

pub(super) fn pretty(dtab: &Dtab) -> String {
    let lines: Vec<_> = dtab.0.iter().map(|dentry| Line::Dentry { dentry, comment: None }).collect();
    print(&lines)
}

enum Line<'a> {
    Blank,
    Comment(&'a str),
    Dentry { dentry: &'a Dentry, comment: Option<&'a str> },
}

/// A blank line, if the gap has one and something stands above it.
fn blank(text: &str, gap: Range<usize>, lines: &mut Vec<Line<'_>>) {
    let mut parts = text[gap].split('\n').skip(1).peekable();
    let mut found = false;
    while let Some(part) = parts.next() {
        // The last part is not a whole line: something stands behind it.
        found |= parts.peek().is_some() && part.chars().all(is_space);
    }
    if found && !matches!(lines.last(), None | Some(Line::Blank)) {
        lines.push(Line::Blank);
    }
}

fn print(lines: &[Line<'_>]) -> String {
    let mut printed = String::new();
    for block in lines.split_inclusive(|line| matches!(line, Line::Blank)) {
        let prefixes: Vec<String> = block.iter().map(prefix).collect();
        let width = prefixes.iter().map(String::len).filter(|&width| width <= ALIGN_BYTES_MAX).max().unwrap_or(0);
        for (line, prefix) in block.iter().zip(&prefixes) {
            match line {
                Line::Blank => {}
                Line::Comment(comment) => printed.push_str(comment),
                Line::Dentry { dentry, comment } => {
                    printed.push_str(&format!("{prefix:width$} => {} ;", dentry.destination));
                    if let Some(comment) = comment {
                        printed.push(' ');
                        printed.push_str(comment);
                    }
                }
            }
            printed.push('\n');
        }
    }
    printed
}

fn prefix(line: &Line<'_>) -> String {
    match line {
        Line::Dentry { dentry, .. } => dentry.prefix.to_string(),
        Line::Blank | Line::Comment(_) => String::new(),
    }
}

/// Longer prefixes do not push the others to the right.
const ALIGN_BYTES_MAX: usize = 48;
