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
    /// Whether the row above the line is a status, which the next one replaces.
    status: bool,
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
    pub(super) fn above(&mut self, text: &str) -> String {
        self.status = false;
        if self.active { self.place(text, 0) } else { format!("{text}\n") }
    }

    /// The same for a status of one row, which stands in place of the last one, if nothing has come between.
    pub(super) fn status(&mut self, text: &str) -> String {
        if !self.active {
            return String::new();
        }
        let mut row = String::new();
        for c in text.chars() {
            row.push(c);
            if row.width() >= self.columns {
                row.pop();
                break;
            }
        }
        let last = std::mem::replace(&mut self.status, true);
        self.place(&row, usize::from(last))
    }

    /// Writes `text` above the line, over the `replaced` rows there.
    fn place(&self, text: &str, replaced: usize) -> String {
        let before = self.line.get(..self.position).unwrap_or(&self.line);
        let cursor = self.prompt.width() + before.width();
        let end = self.prompt.width() + self.line.width();
        let (row, column) = (cursor / self.columns, cursor % self.columns);
        let mut out = String::new();
        // Writing to a string cannot fail.
        if row + replaced > 0 {
            let _ = write!(out, "\x1b[{}A", row + replaced);
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

    #[test]
    fn a_status_takes_the_place_of_the_last_one() {
        let mut editing = Editing::default();
        assert_eq!(editing.status("1%"), "");
        editing.begin("> ", 10);
        editing.change("abc", 3);
        assert_eq!(editing.status("1%"), "\r\x1b[J1%\n> abc\r\x1b[5C");
        assert_eq!(editing.status("2%"), "\x1b[1A\r\x1b[J2%\n> abc\r\x1b[5C");
        assert_eq!(editing.above("hi"), "\r\x1b[Jhi\n> abc\r\x1b[5C");
        assert_eq!(editing.status("3%"), "\r\x1b[J3%\n> abc\r\x1b[5C", "what came between stays");
        let long = editing.status("a long one, too long");
        assert_eq!(long, "\x1b[1A\r\x1b[Ja long on\n> abc\r\x1b[5C");
        editing.end();
        editing.begin("> ", 10);
        assert_eq!(editing.status("4%"), "\r\x1b[J4%\n> \r\x1b[2C");
    }
}
