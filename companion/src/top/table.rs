//! Rows in order, the rows that pass the filter, and the widths of their columns. Pure.

mod cell;

use std::cmp::Ordering;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

pub(super) use cell::{Cell, Tone};

/// Between two columns.
pub(super) const GAP: usize = 2;
/// To which width a column of text is cut before another column is left out.
const TEXT_WIDTH_MIN: usize = 16;
/// To which width a column of text is cut while others need the room.
const TEXT_WIDTH: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// As in `--sort`.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Numbers stand to the right.
    pub(super) is_number: bool,
    /// Whether the largest comes first unless the order is reversed.
    pub(super) is_largest_first: bool,
}

impl Column {
    pub(super) const fn text(name: &'static str, title: &'static str) -> Self {
        Self {
            name,
            title,
            is_number: false,
            is_largest_first: false,
        }
    }

    pub(super) const fn number(name: &'static str, title: &'static str) -> Self {
        Self {
            name,
            title,
            is_number: true,
            is_largest_first: true,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// The id of its subject, so that a selection stays on it.
    pub(super) id: String,
    /// Its service, whose instances Enter opens.
    pub(super) service: Option<String>,
    pub(super) cells: Vec<Cell>,
}

/// Everything of a view.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// The title of the rows, such as `instances of orders`.
    pub(super) title: String,
    pub(super) notes: Vec<(String, Tone)>,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

/// The column by which rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) column: &'static str,
    pub(super) is_reversed: bool,
}

impl Table {
    /// Leaves the rows that contain the filter in any case, in order. Of equal rows the id decides, so that they do
    /// not change places from sample to sample.
    pub(super) fn arrange(&mut self, filter: &str, sort: Sort) {
        let filter = filter.to_lowercase();
        self.rows.retain(|row| {
            let mut cells = row.cells.iter();
            filter.is_empty() || cells.any(|cell| cell.text.to_lowercase().contains(&filter))
        });
        let named = self.columns.iter().position(|it| it.name == sort.column);
        let place = named.unwrap_or(0);
        let is_largest_first = self
            .columns
            .get(place)
            .is_some_and(|it| it.is_largest_first);
        let is_reversed = is_largest_first != sort.is_reversed;
        self.rows.sort_by(|one, other| {
            let cells = one.cells.get(place).zip(other.cells.get(place));
            let by_cell = cells.map(|(one, other)| one.compare(other, is_reversed));
            let by_cell = by_cell.unwrap_or(Ordering::Equal);
            by_cell.then_with(|| one.id.cmp(&other.id))
        });
    }

    /// The widths of the columns that fit into the room, from the left. Texts give way first.
    pub(super) fn widths(&self, room: usize) -> Vec<usize> {
        let wanted = self.columns.iter().enumerate().map(|(place, column)| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(place));
            let widest = cells.map(Cell::width).max().unwrap_or(0);
            // The mark of the order stands behind the title.
            widest.max(column.title.width() + 1)
        });
        let wanted: Vec<usize> = wanted.collect();
        let is_text = |place: usize| self.columns.get(place).is_some_and(|it| !it.is_number);
        let mut widths = wanted.clone();
        for (place, width) in widths.iter_mut().enumerate() {
            if is_text(place) {
                *width = (*width).min(TEXT_WIDTH);
            }
        }
        let mut over = total(&widths).saturating_sub(room);
        for (place, width) in widths.iter_mut().enumerate().rev() {
            if is_text(place) {
                let less = over.min(width.saturating_sub(TEXT_WIDTH_MIN));
                *width -= less;
                over -= less;
            }
        }
        while widths.len() > 1 && total(&widths) > room {
            widths.pop();
        }
        if let [only] = widths.as_mut_slice() {
            *only = (*only).min(room);
        }
        let mut spare = room.saturating_sub(total(&widths));
        for (width, wanted) in widths.iter_mut().zip(wanted) {
            let more = spare.min(wanted.saturating_sub(*width));
            *width += more;
            spare -= more;
        }
        widths
    }
}

fn total(widths: &[usize]) -> usize {
    let gaps = GAP * widths.len().saturating_sub(1);
    widths.iter().sum::<usize>() + gaps
}

/// A text in at most this many columns of a terminal; one that is cut ends with `…`.
pub(super) fn clip(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let mut clipped = String::new();
    for character in text.chars() {
        match left.checked_sub(character.width().unwrap_or(0)) {
            Some(less) => left = less,
            None => break,
        }
        clipped.push(character);
    }
    if width > 0 {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests;
