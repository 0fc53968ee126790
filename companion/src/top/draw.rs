//! The screen → widgets of a terminal of any size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{self, Block, Clear, Paragraph};
use unicode_width::UnicodeWidthStr as _;

use super::keys::{HELP, Mode};
use super::model::Screen;
use super::sample::View;
use super::table::{Cell, Column, GAP, Row, Tone, clip};

/// Lines that no row can have: head, views, titles, keys.
const OTHER_LINES: u16 = 4;

/// How many rows there is room for, of a terminal of this height.
pub(super) fn page(height: u16, notes: usize) -> usize {
    let notes = u16::try_from(notes).unwrap_or(u16::MAX);
    let rows = height.saturating_sub(OTHER_LINES).saturating_sub(notes);
    usize::from(rows.max(1))
}

/// Draws it. Without colours, what stands out is bold.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen<'_>, has_colours: bool) {
    let theme = Theme {
        has_colours,
        is_old: screen.is_old,
    };
    let notes = u16::try_from(screen.notes.len()).unwrap_or(u16::MAX);
    let lines = [
        Constraint::Length(1),
        Constraint::Length(notes),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ];
    let [head, notes, tabs, table, foot] = Layout::vertical(lines).areas(frame.area());
    draw_head(frame, head, screen, &theme);
    let lines = screen.notes.iter().map(|(text, tone)| {
        // Why there is no answer is no old news.
        let style = theme.tone(*tone);
        Line::styled(clip(text, usize::from(notes.width)), style)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), notes);
    frame.render_widget(views(screen), tabs);
    draw_table(frame, table, screen, &theme);
    frame.render_widget(foot_line(screen), foot);
    if screen.state.mode == Mode::Help {
        draw_help(frame);
    }
}

struct Theme {
    has_colours: bool,
    is_old: bool,
}

impl Theme {
    fn tone(&self, tone: Tone) -> Style {
        let colour = |colour| match self.has_colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Good => colour(Color::Green),
            Tone::Warn => colour(Color::Yellow),
            Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// The style of the companion's data.
    fn said(&self, tone: Tone) -> Style {
        match (self.is_old, self.has_colours) {
            (true, true) => Style::new().fg(Color::DarkGray),
            (true, false) => Style::new().add_modifier(Modifier::DIM),
            (false, _) => self.tone(tone),
        }
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, screen: &Screen<'_>, theme: &Theme) {
    let (text, tone) = &screen.head;
    let line = Line::from(vec![
        Span::styled("unitring  ", Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(text.as_str(), theme.said(*tone)),
    ]);
    frame.render_widget(line, area);
    let time = Line::styled(screen.time.as_str(), theme.said(Tone::Plain));
    let [_, right] = Layout::horizontal([Constraint::Min(0), Constraint::Length(20)]).areas(area);
    // On a narrow terminal the unit matters more.
    if usize::from(area.width) > text.width() + 32 {
        frame.render_widget(time.right_aligned(), right);
    }
}

fn views(screen: &Screen<'_>) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, view) in (1..).zip(View::ALL) {
        let style = match view == screen.state.view {
            true => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            false => Style::new(),
        };
        spans.push(Span::styled(format!("{number} {}", view.name()), style));
        spans.push(Span::raw("  "));
    }
    Line::from(spans)
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, screen: &Screen<'_>, theme: &Theme) {
    let (table, sort) = (screen.table, screen.state.sort());
    let widths = table.widths(usize::from(area.width));
    let columns: Vec<(&Column, usize)> = table.columns.iter().zip(widths).collect();
    let titles = columns.iter().map(|(column, width)| {
        let mark = match (
            column.name == sort.column,
            column.is_largest_first != sort.is_reversed,
        ) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        let title = clip(&format!("{}{mark}", column.title), *width);
        aligned(title, column, Style::new().add_modifier(Modifier::BOLD))
    });
    let titles = widgets::Row::new(titles.collect::<Vec<_>>());
    let page = usize::from(area.height.saturating_sub(1));
    let place = screen.state.place(&table.rows);
    // The page that has the selected row.
    let first = (place + 1).saturating_sub(page);
    let rows = table.rows.iter().enumerate().skip(first).take(page);
    let rows = rows.map(|(at, row)| {
        let cells = columns.iter().zip(&row.cells);
        let cells = cells.map(|((column, width), cell): (&(&Column, usize), &Cell)| {
            aligned(clip(&cell.text, *width), column, theme.said(cell.tone))
        });
        let style = match at == place {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        widgets::Row::new(cells.collect::<Vec<_>>()).style(style)
    });
    let lengths = columns
        .iter()
        .map(|(_, width)| Constraint::Length(short(*width)));
    let lengths: Vec<Constraint> = lengths.collect();
    let shown = widgets::Table::new(rows.collect::<Vec<_>>(), lengths);
    let shown = shown.header(titles).column_spacing(short(GAP));
    frame.render_widget(shown, area);
}

fn aligned(text: String, column: &Column, style: Style) -> Line<'static> {
    let line = Line::styled(text, style);
    match column.is_number {
        true => line.right_aligned(),
        false => line,
    }
}

fn short(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}

fn foot_line(screen: &Screen<'_>) -> Line<'static> {
    let state = screen.state;
    if state.mode == Mode::Filter {
        return Line::from(format!("/{}▏", state.filter));
    }
    let rows: &[Row] = &screen.table.rows;
    let place = state.place(rows) + usize::from(!rows.is_empty());
    let mut foot = format!("{}: {place} of {}", screen.table.title, rows.len());
    if !state.filter.is_empty() {
        foot.push_str(&format!(", filter {}", state.filter));
    }
    if state.is_paused {
        foot.push_str(", PAUSED");
    }
    foot.push_str("   ? help  q quit");
    Line::from(crate::log::one_line(&foot))
}

fn draw_help(frame: &mut Frame<'_>) {
    let lines = HELP.map(|(keys, what)| Line::from(format!("{keys:<16}{what}")));
    let widest = lines.iter().map(Line::width).max().unwrap_or(0);
    let height = short(lines.len() + 2);
    let area = frame.area().centered(
        Constraint::Length(short(widest + 4)),
        Constraint::Length(height),
    );
    frame.render_widget(Clear, area);
    let block = Block::bordered()
        .title(" keys ")
        .padding(widgets::Padding::horizontal(1));
    frame.render_widget(Paragraph::new(Vec::from(lines)).block(block), area);
}

#[cfg(test)]
mod tests;
