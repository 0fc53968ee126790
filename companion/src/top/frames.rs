//! The screen → plain text, without a terminal: all rows and all columns, for scripts.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::model::{Model, Screen};
use super::sampler;
use super::table::GAP;
use crate::client::Target;
use crate::client::ask::AskError;
use crate::clock;
use crate::output;

/// Prints the given number of frames, an interval apart. The first has no rates yet.
///
/// # Errors
/// The companion never answered, or a flag is wrong; or the output cannot be written.
pub(super) fn print(
    mut model: Model,
    target: &Target,
    interval: Duration,
    count: u32,
) -> anyhow::Result<()> {
    let start = clock::now();
    let mut unanswered: Option<AskError> = None;
    let mut has_answered = false;
    for number in 0..count {
        if number > 0 {
            let due = interval.saturating_mul(number);
            std::thread::sleep(due.saturating_sub(clock::since(start)));
        }
        let want = model.state.want();
        match sampler::look(target, &want, start) {
            Ok(sample) => {
                has_answered = true;
                model.take(&want, Ok(sample));
            }
            Err(error @ AskError::Usage(_)) => return Err(error.into()),
            Err(error) => {
                model.take(&want, Err(error.to_string()));
                unanswered.get_or_insert(error);
            }
        }
        let text = text(&model.screen(clock::since(start)), number > 0);
        output::say(text)?;
    }
    match unanswered {
        Some(error) if !has_answered => Err(error.into()),
        _ => Ok(()),
    }
}

/// A frame; all but the first have an empty line before them.
fn text(screen: &Screen<'_>, is_further: bool) -> String {
    let mut out = String::from(if is_further { "\n" } else { "" });
    let old = if screen.is_old { "  OLD" } else { "" };
    let (head, time, title) = (&screen.head.0, &screen.time, &screen.table.title);
    let words = [head.as_str(), time, title];
    let words = words.iter().filter(|word| !word.is_empty());
    let words: Vec<&str> = words.copied().collect();
    out.push_str(&crate::log::one_line(&words.join("  ")));
    out.push_str(old);
    out.push('\n');
    for (note, _) in &screen.notes {
        out.push_str(note);
        out.push('\n');
    }
    let mut table = Table::new();
    let titles = screen.table.columns.iter().map(|column| column.title);
    table.load_preset(presets::NOTHING).set_header(titles);
    for (shown, column) in table.column_iter_mut().zip(&screen.table.columns) {
        shown.set_padding((0, u16::try_from(GAP).unwrap_or(0)));
        if column.is_number {
            shown.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in &screen.table.rows {
        table.add_row(row.cells.iter().map(|cell| cell.text.as_str()));
    }
    out.push_str(&table.trim_fmt());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests;
