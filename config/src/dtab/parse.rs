//! The grammar: one character of look-ahead, no backing up, every mistake with its bytes.

use std::ops::Range;

use super::error::{Expected, Found, SyntaxError, SyntaxErrors};
use super::path::{Encoder, is_showable};
use super::tree::{Branch, NameTree, TREE_NODES_MAX, Union, Weight};
use super::{Dentry, Dtab, Path, Prefix};

/// Where the parts of a dtab stand in its text, for messages that point at them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DtabSpans {
    /// One for each dentry, in order.
    pub dentries: Vec<DentrySpans>,
    /// Every comment from its `#` to the end of its line, in order.
    pub comments: Vec<Range<usize>>,
}

/// Where the parts of a dentry stand: bytes of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DentrySpans {
    /// The left side.
    pub prefix: Range<usize>,
    /// The right side.
    pub destination: Range<usize>,
    /// The paths on the right side, in the order of [`NameTree::leaves`].
    pub leaves: Vec<Range<usize>>,
    /// The unions on the right side, in the order of [`NameTree::unions`].
    pub unions: Vec<Range<usize>>,
}

/// Most parentheses that may be open at once.
pub const NESTING_MAX: usize = 64;

pub(super) fn path(text: &str) -> Result<Path, SyntaxErrors> {
    alone(text, |parser| Ok(parser.labels(false)?.into_path()))
}

pub(super) fn prefix(text: &str) -> Result<Prefix, SyntaxErrors> {
    alone(text, |parser| Ok(parser.labels(true)?.into_prefix()))
}

pub(super) fn tree(text: &str) -> Result<NameTree<Path>, SyntaxErrors> {
    alone(text, Parser::tree)
}

pub(super) fn weight(text: &str) -> Result<Weight, SyntaxErrors> {
    alone(text, Parser::number)
}

/// Goes on behind the next `;` after a mistake, so that one text shows several.
pub(super) fn dtab(text: &str, marking: bool) -> Result<(Dtab, DtabSpans), SyntaxErrors> {
    let mut parser = Parser::new(text, marking);
    let mut dentries = Vec::new();
    let mut errors = Vec::new();
    loop {
        match parser.dentry_or_end() {
            Ok(dentry) => dentries.extend(dentry),
            Err(error) => {
                errors.push(error);
                parser.skip_to_separator();
            }
        }
        if errors.len() == SyntaxErrors::MAX || !parser.maybe_eat(';') {
            break;
        }
    }
    match SyntaxErrors::new(errors) {
        Some(errors) => Err(errors),
        None => Ok((Dtab(dentries), parser.spans)),
    }
}

/// What Java calls white space, because this language was born there: no no-break spaces.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | '\u{1c}'..=' ' | '\u{1680}' | '\u{2000}'..='\u{2006}' | '\u{2008}'..='\u{200a}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{205f}' | '\u{3000}')
}

/// The whole text is one thing, with white space around it.
fn alone<'t, T>(text: &'t str, read: impl FnOnce(&mut Parser<'t>) -> Parsed<T>) -> Result<T, SyntaxErrors> {
    let mut parser = Parser::new(text, false);
    parser.skip_space();
    let value = read(&mut parser)?;
    parser.skip_space();
    parser.end()?;
    Ok(value)
}

type Parsed<T> = Result<T, SyntaxError>;

struct Parser<'t> {
    text: &'t str,
    at: usize,
    /// End of the last token, before white space.
    token_end: usize,
    nesting: usize,
    nodes: usize,
    marking: bool,
    leaves: Vec<Range<usize>>,
    unions: Vec<Range<usize>>,
    spans: DtabSpans,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, marking: bool) -> Parser<'t> {
        Parser {
            text,
            at: 0,
            token_end: 0,
            nesting: 0,
            nodes: 0,
            marking,
            leaves: Vec::new(),
            unions: Vec::new(),
            spans: DtabSpans::default(),
        }
    }

    /// A dentry and the space behind it, or the end of the text.
    fn dentry_or_end(&mut self) -> Parsed<Option<Dentry>> {
        self.skip_space();
        if self.peek().is_none() {
            return Ok(None);
        }
        (self.nesting, self.nodes) = (0, 0);
        self.leaves.clear();
        self.unions.clear();
        let start = self.at;
        let prefix = self.labels(true)?.into_prefix();
        let prefix_span = start..self.at;
        self.skip_space();
        self.eat('=')?;
        self.eat('>')?;
        self.skip_space();
        let start = self.at;
        let destination = self.tree()?;
        let destination_span = start..self.token_end;
        self.skip_space();
        if self.peek().is_some_and(|c| c != ';') {
            return Err(self.error(Expected::EndOfInput));
        }
        if self.marking {
            self.spans.dentries.push(DentrySpans {
                prefix: prefix_span,
                destination: destination_span,
                leaves: std::mem::take(&mut self.leaves),
                unions: std::mem::take(&mut self.unions),
            });
        }
        Ok(Some(Dentry { prefix, destination }))
    }

    /// `tree1 | tree1 …`
    fn tree(&mut self) -> Parsed<NameTree<Path>> {
        let mut children = vec![self.union()?];
        self.skip_space();
        while self.maybe_eat('|') {
            self.skip_space();
            children.push(self.union()?);
            self.skip_space();
        }
        match (children.len(), children.pop()) {
            (1, Some(only)) => Ok(only),
            (_, last) => {
                children.extend(last);
                self.count_node()?;
                Ok(NameTree::Alt(children))
            }
        }
    }

    /// `weighted & weighted …`
    fn union(&mut self) -> Parsed<NameTree<Path>> {
        let (start, place) = (self.at, self.unions.len());
        let mut branches = vec![self.weighted(0)?];
        self.skip_space();
        while self.maybe_eat('&') {
            self.skip_space();
            let index = u16::try_from(branches.len()).unwrap_or(u16::MAX); // the node limit comes first
            branches.push(self.weighted(index)?);
            self.skip_space();
        }
        match (branches.len(), branches.pop()) {
            (1, Some(only)) => Ok(only.tree), // an only child takes everything, whatever its weight
            (_, last) => {
                branches.extend(last);
                self.count_node()?;
                if self.marking {
                    self.unions.insert(place, start..self.token_end);
                }
                Ok(NameTree::Union(Union { split: None, branches }))
            }
        }
    }

    /// `[number *] simple`
    fn weighted(&mut self, index: u16) -> Parsed<Branch<Path>> {
        let weight = match self.peek() {
            Some('0'..='9' | '.') => {
                let weight = self.number()?;
                self.skip_space();
                self.eat('*')?;
                self.skip_space();
                weight
            }
            _ => Weight::ONE,
        };
        Ok(Branch { weight, index, tree: self.simple()? })
    }

    /// `( tree )`, a path, `!`, `~` or `$`
    fn simple(&mut self) -> Parsed<NameTree<Path>> {
        match self.peek() {
            Some('(') => {
                if self.nesting == NESTING_MAX {
                    return Err(self.error(Expected::AtMost { what: "nested parentheses", max: NESTING_MAX }));
                }
                self.nesting += 1;
                self.advance();
                self.skip_space();
                let tree = self.tree()?;
                self.eat(')')?;
                self.nesting -= 1;
                Ok(tree)
            }
            Some('/') => {
                self.count_node()?;
                let start = self.at;
                let path = self.labels(false)?.into_path();
                if self.marking {
                    self.leaves.push(start..self.at);
                }
                Ok(NameTree::Leaf(path))
            }
            Some('!') => self.node(NameTree::Fail),
            Some('~') => self.node(NameTree::Neg),
            Some('$') => self.node(NameTree::Empty),
            _ => Err(self.error(Expected::Simple)),
        }
    }

    fn node(&mut self, tree: NameTree<Path>) -> Parsed<NameTree<Path>> {
        self.count_node()?;
        self.advance();
        Ok(tree)
    }

    fn count_node(&mut self) -> Parsed<()> {
        if self.nodes == TREE_NODES_MAX {
            return Err(self.error(Expected::AtMost { what: "nodes in a tree", max: TREE_NODES_MAX }));
        }
        self.nodes += 1;
        Ok(())
    }

    /// A weight: digits with at most one dot.
    fn number(&mut self) -> Parsed<Weight> {
        let start = self.at;
        let mut dots = 0;
        while let Some(c @ ('0'..='9' | '.')) = self.peek() {
            dots += usize::from(c == '.');
            if dots > 1 {
                return Err(self.error(Expected::NumberChar));
            }
            if self.at - start == NUMBER_BYTES_MAX {
                return Err(self.error(Expected::AtMost { what: "characters in a weight", max: NUMBER_BYTES_MAX }));
            }
            self.advance();
        }
        if self.at == start {
            return Err(self.error(Expected::NumberChar));
        }
        let value = self.text[start..self.at].parse().ok().and_then(Weight::new);
        value.ok_or_else(|| self.error_at(start, Expected::Weight)) // a lone dot, or infinite
    }

    /// `/`, or `/label/label…`; with `wild` a `*` may stand for a label.
    fn labels(&mut self, wild: bool) -> Parsed<Encoder> {
        self.eat('/')?;
        let mut labels = Encoder::default();
        match self.peek() {
            Some('*') if wild => {}
            Some('\\') => {}
            Some(c) if is_label_char(c) => {}
            _ => return Ok(labels),
        }
        loop {
            let start = self.at;
            let fits = if wild && self.maybe_eat('*') {
                labels.push(b"")
            } else {
                let label = self.label()?;
                labels.push(&label)
            };
            if !fits {
                return Err(self.error_at(start, Expected::AtMost { what: "bytes in a path", max: Path::BYTES_MAX }));
            }
            if !self.maybe_eat('/') {
                return Ok(labels);
            }
        }
    }

    fn label(&mut self) -> Parsed<Vec<u8>> {
        let mut label = Vec::new();
        loop {
            match self.peek() {
                Some('\\') => {
                    self.advance();
                    self.eat('x')?;
                    let (high, low) = (self.hex()?, self.hex()?);
                    label.push(high << 4 | low);
                }
                Some(c) if is_label_char(c) => {
                    label.extend(u8::try_from(c));
                    self.advance();
                }
                _ if label.is_empty() => return Err(self.error(Expected::LabelChar)),
                _ => return Ok(label),
            }
        }
    }

    fn hex(&mut self) -> Parsed<u8> {
        let digit = self.peek().and_then(|c| c.to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
        let digit = digit.ok_or_else(|| self.error(Expected::HexChar))?;
        self.advance();
        Ok(digit)
    }

    fn eat(&mut self, c: char) -> Parsed<()> {
        if self.maybe_eat(c) { Ok(()) } else { Err(self.error(Expected::Char(c))) }
    }

    fn maybe_eat(&mut self, c: char) -> bool {
        let here = self.peek() == Some(c);
        if here {
            self.advance();
        }
        here
    }

    fn end(&self) -> Parsed<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.error(Expected::EndOfInput)) }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// Past one character of a token.
    fn advance(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
        self.token_end = self.at;
    }

    /// Past white space and comments.
    fn skip_space(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' {
                let start = self.at;
                self.at += self.text[start..].find('\n').unwrap_or(self.text.len() - start);
                if self.marking {
                    self.spans.comments.push(start..self.at);
                }
            } else if is_space(c) {
                self.at += c.len_utf8();
            } else {
                return;
            }
        }
    }

    /// To the next `;` outside of a comment, or the end.
    fn skip_to_separator(&mut self) {
        let mut label = false; // a `#` here would belong to a label
        while let Some(c) = self.peek() {
            match c {
                ';' => return,
                '#' if !label => self.skip_space(),
                _ => {
                    label = c == '\\' || is_label_char(c);
                    self.advance();
                }
            }
        }
    }

    fn error(&self, expected: Expected) -> SyntaxError {
        self.error_at(self.at, expected)
    }

    fn error_at(&self, at: usize, expected: Expected) -> SyntaxError {
        let found = self.text[at..].chars().next();
        let span = at..at + found.map_or(0, char::len_utf8);
        SyntaxError { span, expected, found: found.map_or(Found::EndOfInput, Found::Char) }
    }
}

fn is_label_char(c: char) -> bool {
    u8::try_from(c).is_ok_and(|byte| byte.is_ascii() && is_showable(byte))
}

/// Longer than the printed form of any weight.
const NUMBER_BYTES_MAX: usize = 400;
