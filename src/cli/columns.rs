//! Rows in columns that fit a window: what is worth least is abbreviated, then left out, and what still does not fit is cut.
//! A line never wraps.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What stands between two columns.
const GAP: &str = "  ";

/// A piece of a line.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    /// The SGR code of its colour.
    paint: Option<u8>,
}

impl Cell {
    /// A cell with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), paint: None }
    }

    /// The same in the colour of an SGR code.
    #[must_use]
    pub fn paint(self, code: u8) -> Self {
        Self { paint: Some(code), ..self }
    }
}

/// One line.
#[derive(Debug, Clone)]
pub struct Row {
    /// From the first column on.
    cells: Vec<Cell>,
    /// Stands behind them, across all columns that are left.
    rest: Option<Cell>,
}

impl Row {
    /// A cell for each column, or for the first of them.
    #[must_use]
    pub fn new(cells: Vec<Cell>) -> Self {
        Self { cells, rest: None }
    }

    /// A cell for each of the first columns, and one across the others.
    #[must_use]
    pub fn across(cells: Vec<Cell>, rest: Cell) -> Self {
        Self { cells, rest: Some(rest) }
    }
}

/// What to do when the columns are too wide.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Abbreviates every cell of the column with this title.
    Abbreviate(&'static str, fn(&str) -> String),
    /// Leaves the column with this title out.
    Drop(&'static str),
}

/// Rows under titles.
#[derive(Debug, Clone)]
pub struct Columns {
    titles: Vec<&'static str>,
    rows: Vec<Row>,
}

impl Columns {
    /// Rows under these titles; a row has a cell for each, unless it says otherwise.
    #[must_use]
    pub fn new(titles: Vec<&'static str>, rows: Vec<Row>) -> Self {
        Self { titles, rows }
    }

    /// Takes one step after the other until the columns fit into `width`.
    #[must_use]
    pub fn fit(mut self, width: usize, steps: &[Step]) -> Self {
        for step in steps {
            if self.width() <= width {
                break;
            }
            let (Step::Abbreviate(title, _) | Step::Drop(title)) = step;
            let Some(column) = self.titles.iter().position(|known| known == title) else { continue };
            match step {
                Step::Abbreviate(_, short) => {
                    for cell in self.rows.iter_mut().filter_map(|row| row.cells.get_mut(column)) {
                        cell.text = short(&cell.text);
                    }
                }
                Step::Drop(_) => {
                    self.titles.remove(column);
                    for row in self.rows.iter_mut().filter(|row| column < row.cells.len()) {
                        row.cells.remove(column);
                    }
                }
            }
        }
        self
    }

    /// The lines, titles first, without an end; none is wider than `width`.
    #[must_use]
    pub fn lines(&self, width: Option<usize>, in_colour: bool) -> Vec<String> {
        let widths = self.widths();
        let bold = self.titles.iter().map(|title| Cell::new(*title).paint(1)).collect();
        let titles = Row::new(bold);
        let rows = std::iter::once(&titles).chain(&self.rows);
        rows.map(|row| line(row, &widths, width.unwrap_or(usize::MAX), in_colour)).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.titles.iter().map(|title| title.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = cell.text.width().max(*width);
            }
        }
        widths
    }

    fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
    }
}

fn line(row: &Row, widths: &[usize], most: usize, in_colour: bool) -> String {
    let mut line = String::new();
    // Columns drawn, and blanks that are only drawn if something follows.
    let (mut drawn, mut blanks) = (0, 0);
    for (place, cell) in row.cells.iter().chain(&row.rest).enumerate() {
        let begin = drawn + blanks;
        let text = cut(&cell.text, most.saturating_sub(begin));
        let width = text.width();
        if width > 0 {
            line.extend(std::iter::repeat_n(' ', blanks));
            match cell.paint.filter(|_| in_colour) {
                Some(code) => line.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => line.push_str(&text),
            }
            (drawn, blanks) = (begin + width, 0);
        }
        if text != cell.text {
            break;
        }
        let column = widths.get(place).copied().unwrap_or(width);
        blanks += column.saturating_sub(width) + GAP.len();
    }
    line
}

/// As much of `text` as fits into `width` columns of a terminal, with `…` in place of what is missing.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    // Counted like it is cut: as a whole, some sequences take less than their characters do.
    let columns = |character: char| character.width().unwrap_or(0);
    if text.chars().map(columns).sum::<usize>() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += columns(character);
        if used > width {
            break;
        }
        short.push(character);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first_letter(text: &str) -> String {
        text.chars().take(1).collect()
    }

    const STEPS: [Step; 3] = [Step::Abbreviate("hue", first_letter), Step::Drop("number"), Step::Drop("hue")];

    fn columns() -> Columns {
        let row = |cells: [&str; 3]| Row::new(cells.map(Cell::new).into());
        let rows = vec![
            row(["one", "1", "green"]),
            Row::across(vec![Cell::new("three")], Cell::new("there is no third at all")),
            row(["日本", "", "red"]),
        ];
        Columns::new(vec!["name", "number", "hue"], rows)
    }

    #[test]
    fn what_is_worth_least_goes_first() {
        let fitted = |width| columns().fit(width, &STEPS).lines(Some(width), false);
        assert_eq!(
            fitted(31),
            [
                "name   number  hue",
                "one    1       green",
                "three  there is no third at all",
                "日本           red"
            ]
        );
        assert_eq!(fitted(19)[1..], ["one    1       g", "three  there is no…", "日本           r"]);
        assert_eq!(fitted(10), ["name   hue", "one    g", "three  th…", "日本   r"]);
        assert_eq!(fitted(6), ["name", "one", "three", "日本"]);
        assert_eq!(fitted(3), ["na…", "one", "th…", "日…"]);
    }

    #[test]
    fn colours_are_drawn_around_the_text_alone() {
        let row = Row::new(vec![Cell::new("up").paint(32), Cell::new("x")]);
        let columns = Columns::new(vec!["state", "y"], vec![row]);
        assert_eq!(
            columns.lines(None, true),
            ["\u{1b}[1mstate\u{1b}[0m  \u{1b}[1my\u{1b}[0m", "\u{1b}[32mup\u{1b}[0m     x"]
        );
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_or_ends_in_blanks(
            texts in prop::collection::vec("[a-z日🦀é ]{0,12}", 9),
            rest in "[a-z日🦀é ]{0,40}",
            width in 0_usize..60,
        ) {
            let mut rows: Vec<Row> =
                texts.chunks(3).map(|row| Row::new(row.iter().map(|text| Cell::new(text.trim())).collect())).collect();
            rows.push(Row::across(vec![Cell::new("x")], Cell::new(rest.trim())));
            let columns = Columns::new(vec!["name", "number", "hue"], rows);
            for line in columns.fit(width, &STEPS).lines(Some(width), false) {
                prop_assert!(line.width() <= width, "{:?} in {}", line, width);
                prop_assert!(!line.ends_with(' '), "{:?}", line);
            }
        }

        #[test]
        fn a_cut_text_fits(text in any::<String>(), width in 0_usize..20) {
            let text = crate::control::printable::printable(&text);
            prop_assert!(cut(&text, width).chars().map(|c| c.width().unwrap_or(0)).sum::<usize>() <= width);
        }
    }
}
