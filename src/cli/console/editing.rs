//! What the editor shows at the moment, so that other text can be written above it. Pure: makes the bytes for the terminal.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

/// The line being edited.
#[derive(Debug, Default)]
pub(super) struct Editing {
    active: bool,
    prompt: String,
    line: String,
    /// The cursor, in bytes of `line`.
    position: usize,
    columns: usize,
}

impl Editing {
    /// The editor is about to show `prompt` on a terminal of this many columns.
    pub(super) fn begin(&mut self, prompt: &str, columns: usize) {
        *self = Self { active: true, prompt: prompt.to_owned(), columns: columns.max(1), ..Self::default() };
    }

    /// The line has changed or the cursor has moved.
    pub(super) fn change(&mut self, line: &str, position: usize) {
        line.clone_into(&mut self.line);
        self.position = position;
    }

    /// The line is finished, the cursor below it.
    pub(super) fn end(&mut self) {
        self.active = false;
    }

    /// What to write so that `text` stands above the line, and line and cursor are as before.
    pub(super) fn above(&self, text: &str) -> String {
        if !self.active {
            return format!("{text}\n");
        }
        let before = self.line.get(..self.position).unwrap_or(&self.line);
        let cursor = self.prompt.width() + before.width();
        let end = self.prompt.width() + self.line.width();
        let (row, column) = (cursor / self.columns, cursor % self.columns);
        let mut out = String::new();
        // Writing to a string cannot fail.
        if row > 0 {
            let _ = write!(out, "\x1b[{row}A");
        }
        let _ = write!(out, "\r\x1b[J{text}\n{}{}", self.prompt, self.line);
        if end > 0 && end.is_multiple_of(self.columns) {
            // A terminal wraps only with the next character; the editor counts on being in the next row.
            out.push('\n');
        }
        let up = end / self.columns - row;
        if up > 0 {
            let _ = write!(out, "\x1b[{up}A");
        }
        out.push('\r');
        if column > 0 {
            let _ = write!(out, "\x1b[{column}C");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_above_the_line_and_the_cursor_back_to_its_place() {
        let mut editing = Editing::default();
        assert_eq!(editing.above("hi"), "hi\n");
        editing.begin("> ", 10);
        editing.change("abc", 1);
        assert_eq!(editing.above("hi"), "\r\x1b[Jhi\n> abc\r\x1b[3C");
        editing.change("abcdefghijkl", 9);
        assert_eq!(editing.above("hi"), "\x1b[1A\r\x1b[Jhi\n> abcdefghijkl\r\x1b[1C");
        editing.change("abcdefgh", 0);
        assert_eq!(editing.above("hi"), "\r\x1b[Jhi\n> abcdefgh\n\x1b[1A\r\x1b[2C");
        editing.change("日本", 6);
        assert_eq!(editing.above("hi"), "\r\x1b[Jhi\n> 日本\r\x1b[6C");
        editing.end();
        assert_eq!(editing.above("hi"), "hi\n");
    }
}
