//! A cell of a table: its text, and its sort key. Pure.

use std::cmp::Ordering;

use unicode_width::UnicodeWidthStr as _;

use crate::log::one_line;

/// How a cell stands out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::top) enum Tone {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
}

/// The sort key of a cell.
#[derive(Debug, Clone, PartialEq)]
enum Order {
    /// After all others, in any order.
    Nothing,
    Number(f64),
    Text(String),
}

/// A cell: one line of visible characters.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) struct Cell {
    pub(in crate::top) text: String,
    pub(in crate::top) tone: Tone,
    order: Order,
}

impl Cell {
    pub(in crate::top) fn text(text: &str) -> Self {
        let text = one_line(text);
        Self {
            order: Order::Text(text.to_lowercase()),
            tone: Tone::Plain,
            text,
        }
    }

    pub(in crate::top) fn count(number: u64) -> Self {
        Self::ordered(number.to_string(), number as f64)
    }

    /// A cell with a sort key other than its text.
    pub(in crate::top) fn ordered(text: impl AsRef<str>, by: f64) -> Self {
        Self {
            text: one_line(text.as_ref()),
            tone: Tone::Plain,
            order: Order::Number(by),
        }
    }

    /// A rate; small ones with a decimal.
    pub(in crate::top) fn rate(rate: Option<f64>) -> Self {
        // The sum of no rates is -0.
        match rate.map(|rate| rate.max(0.0) + 0.0) {
            Some(rate) if rate < 99.95 => Self::ordered(format!("{rate:.1}"), rate),
            Some(rate) => Self::ordered(format!("{rate:.0}"), rate),
            None => Self::nothing(),
        }
    }

    /// A cell of an unknown value.
    pub(in crate::top) fn nothing() -> Self {
        Self {
            text: "-".to_owned(),
            tone: Tone::Plain,
            order: Order::Nothing,
        }
    }

    pub(in crate::top) fn or_nothing<T>(value: Option<T>, cell: impl Fn(T) -> Self) -> Self {
        value.map_or_else(Self::nothing, cell)
    }

    pub(in crate::top) fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    /// Bad if it is anything but zero.
    pub(in crate::top) fn bad_unless_zero(number: u64) -> Self {
        let tone = if number == 0 { Tone::Plain } else { Tone::Bad };
        Self::count(number).toned(tone)
    }

    pub(super) fn width(&self) -> usize {
        self.text.width()
    }

    pub(super) fn compare(&self, other: &Self, is_reversed: bool) -> Ordering {
        let ordering = match (&self.order, &other.order) {
            (Order::Nothing, Order::Nothing) => return Ordering::Equal,
            (Order::Nothing, _) => return Ordering::Greater,
            (_, Order::Nothing) => return Ordering::Less,
            (Order::Number(one), Order::Number(other)) => one.total_cmp(other),
            (Order::Text(one), Order::Text(other)) => one.cmp(other),
            (Order::Number(_), Order::Text(_)) => Ordering::Less,
            (Order::Text(_), Order::Number(_)) => Ordering::Greater,
        };
        match is_reversed {
            true => ordering.reverse(),
            false => ordering,
        }
    }
}
