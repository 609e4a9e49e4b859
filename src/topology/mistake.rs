//! Mistakes in a topology file: what they are, where they stand, and how they are shown.
//!
//! All mistakes of one file are kept together, in the order of the file. Knows nothing of the keys themselves.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};

use super::drawable::Drawable;
use crate::control::printable::printable;

/// Most mistakes that are printed; the count at the end is of all.
const MAX_SHOWN: usize = 100;

/// Some editors begin a file with it; it takes no column.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Longest line of the file that is drawn, in bytes; a mistake in a longer one is told without it.
const LONGEST_LINE: usize = 500;

/// Columns that a drawn report may take, in characters.
const WIDTH: usize = 100;

/// Columns that it takes in any case: below, nothing can be drawn.
const NARROWEST: usize = 40;

/// A line and a column, both from 1. The column counts characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// One mistake: what is wrong, which pieces of the file it is about, and what to do. Its words only show, whatever the
/// file contains: control characters are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    message: String,
    help: Option<String>,
    labels: Vec<(Range<usize>, String)>,
    position: Option<Position>,
}

impl Mistake {
    /// A mistake at `span` of the text (in bytes), with a word to stand under it.
    pub(super) fn new(span: Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Self {
        let labels = vec![(span, printable(&label.into()))];
        Self { message: printable(&message.into()), help: None, labels, position: None }
    }

    /// A mistake of the file as a whole.
    pub(super) fn of_file(message: impl Into<String>) -> Self {
        Self { message: printable(&message.into()), help: None, labels: Vec::new(), position: None }
    }

    /// The same, at `span` of the text of another file, which is to blame for it.
    #[must_use]
    pub(super) fn at(mut self, span: Range<usize>, label: &str) -> Self {
        self.labels.insert(0, (span, printable(label)));
        self
    }

    /// Adds what to do.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable(&help.into()));
        self
    }

    /// Adds another piece that the mistake is about.
    #[must_use]
    pub(super) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.labels.push((span, printable(&label.into())));
        self
    }

    /// What is wrong, in one sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Where it is; `None` for a mistake of the file as a whole.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The underlined pieces as byte ranges of the file, the main one first, each with its label.
    pub fn labels(&self) -> impl Iterator<Item = (Range<usize>, &str)> {
        self.labels.iter().map(|(span, label)| (span.clone(), label.as_str()))
    }
}

/// Every mistake found in one file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    /// `None` of a file that could not be read.
    text: Option<String>,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// Puts `list` in the order of the file `text` and works out lines and columns.
    pub(super) fn new(file: &str, text: &str, mut list: Vec<Mistake>) -> Self {
        for mistake in &mut list {
            for (span, _) in &mut mistake.labels {
                *span = clamped(span, text);
            }
        }
        list.sort_by_key(|mistake| mistake.labels.first().map(|(span, _)| span.start));
        // One walk through the text for all of them, however many there are.
        let (mut read_to, mut position) = (0, Position { line: 1, column: 1 });
        for mistake in &mut list {
            let Some((span, _)) = mistake.labels.first() else { continue };
            for char in text.get(read_to..span.start).unwrap_or_default().chars() {
                match char {
                    '\n' => position = Position { line: position.line + 1, column: 1 },
                    BYTE_ORDER_MARK => {}
                    _ => position.column += 1,
                }
            }
            read_to = span.start;
            mistake.position = Some(position);
        }
        Self { file: printable(file), text: Some(text.to_owned()), list }
    }

    /// Why a file could not be read.
    pub(super) fn of_file(path: &Path, mistake: Mistake) -> Self {
        Self { file: printable(&path.display().to_string()), text: None, list: vec![mistake] }
    }

    /// The name of the file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// How many there are; at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The mistakes in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.list.iter()
    }

    /// The last line of a report, e.g. `3 mistakes in topology/local.toml`.
    #[must_use]
    pub fn count(&self) -> String {
        match self.list.len() {
            1 => format!("1 mistake in {}", self.file),
            many => format!("{many} mistakes in {}", self.file),
        }
    }

    /// All mistakes drawn with the lines they stand in, and the count.
    #[must_use]
    pub fn render(&self, look: Look) -> String {
        self.render_within(look, WIDTH)
    }

    /// The same with words that fit into lines of `columns` characters.
    #[must_use]
    pub fn render_within(&self, look: Look, columns: usize) -> String {
        let theme = match look {
            Look::Color => GraphicalTheme::unicode(),
            Look::Plain => GraphicalTheme::unicode_nocolor(),
            Look::Ascii => GraphicalTheme::none(),
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(columns.clamp(NARROWEST, WIDTH))
            .with_links(false)
            .with_context_lines(1);
        let original = self.text.as_deref().unwrap_or_default();
        let drawable = Drawable::new(original);
        let mut out = String::new();
        for mistake in self.list.iter().take(MAX_SHOWN) {
            let shown = Shown { mistake, file: &self.file, original, drawable: &drawable };
            // Writing to a string cannot fail; what cannot be drawn still leaves its plain line.
            if is_in_long_line(mistake, original) || handler.render_report(&mut out, &shown).is_err() {
                out.push_str(&self.line(mistake));
                out.push('\n');
            }
            out.push('\n');
        }
        if self.list.len() > MAX_SHOWN {
            out.push_str(&format!("… and {} more\n", self.list.len() - MAX_SHOWN));
        }
        match self.text {
            Some(_) => out.push_str(&self.count()),
            None => out.truncate(out.trim_end().len()),
        }
        out
    }

    fn line(&self, mistake: &Mistake) -> String {
        let mut line = self.file.clone();
        if let Some(Position { line: row, column }) = mistake.position {
            line.push_str(&format!(":{row}:{column}"));
        }
        line.push_str(": ");
        line.push_str(&mistake.message);
        if let Some(help) = &mistake.help {
            line.push_str(&format!(" ({help})"));
        }
        line
    }
}

impl fmt::Display for Mistakes {
    /// One line per mistake: file, line, column, what, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in self.list.iter().take(MAX_SHOWN) {
            writeln!(f, "{}", self.line(mistake))?;
        }
        f.write_str(&self.count())
    }
}

impl std::error::Error for Mistakes {}

/// Whether a line around the mistake is too long to be drawn.
fn is_in_long_line(mistake: &Mistake, text: &str) -> bool {
    mistake.labels.iter().any(|(span, _)| {
        let (before, after) = text.split_at(span.start);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = after.find('\n').map_or(text.len(), |newline| span.start + newline);
        end - start > LONGEST_LINE || span.len() > LONGEST_LINE
    })
}

/// How a report is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Lines and arrows in colour, for a terminal.
    Color,
    /// Lines and arrows without colour.
    Plain,
    /// ASCII characters alone, for files and pipes.
    Ascii,
}

/// The nearest part of `text` to `span`: inside it, and between characters.
fn clamped(span: &Range<usize>, text: &str) -> Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// One mistake with the file around it, as the drawing library wants it.
struct Shown<'a> {
    mistake: &'a Mistake,
    file: &'a str,
    original: &'a str,
    drawable: &'a Drawable,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shown").field(self.mistake).finish()
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistake.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.mistake.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.mistake.labels.is_empty()).then_some(self as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if self.mistake.labels.is_empty() {
            return None;
        }
        Some(Box::new(self.mistake.labels.iter().enumerate().map(|(index, (span, label))| {
            let make =
                if index == 0 { LabeledSpan::new_primary_with_span } else { LabeledSpan::new_with_span };
            make(Some(label.clone()), self.drawable.place(span.start)..self.drawable.place(span.end))
        })))
    }
}

impl SourceCode for Shown<'_> {
    /// Like the library's own reading of a string, but with the file's name and the original's columns in characters.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.drawable.text().read_span(span, before, after)?;
        let head = self.original.get(..self.drawable.original(found.span().offset())).unwrap_or_default();
        let line = head.rsplit('\n').next().unwrap_or_default();
        let column = line.chars().filter(|char| *char != BYTE_ORDER_MARK).count();
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.to_owned(),
            found.data(),
            *found.span(),
            found.line(),
            column,
            found.line_count(),
        )))
    }
}
