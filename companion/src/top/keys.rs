//! A key → what it means now. Pure.

use super::sample::View;

/// A key, as a terminal tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// Ctrl-C, which a terminal that reads single keys does not make a signal of.
    Interrupt,
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// The state that decides what keys mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Table,
    /// Letters go into the filter.
    Filter,
    /// The keys are explained.
    Help,
}

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Show(View),
    NextView,
    PreviousView,
    /// The instances of the selected row's service.
    Open,
    NextColumn,
    PreviousColumn,
    Reverse,
    Pause,
    Shares,
    Enter(Mode),
    Type(char),
    Erase,
    ClearFilter,
    /// By rows.
    Move(isize),
    Page(isize),
    First,
    Last,
}

/// The keys as help tells them.
pub(super) const HELP: [(&str, &str); 12] = [
    ("1 … 5, Tab", "services, instances, Envoys, units, events"),
    ("Enter", "the instances of the selected service"),
    ("↑ ↓ PgUp PgDn", "select a row; also j k, Home, End"),
    ("← →", "order by the column before, the next; also < >"),
    ("r", "reverse the order"),
    ("/", "filter: type, Enter keeps it, Esc removes it"),
    ("s", "share of the keys and capacity of each instance"),
    ("p, Space", "pause, and go on"),
    ("?", "this help"),
    ("q, Esc, Ctrl-C", "quit"),
    ("", ""),
    ("rates", "over the last five seconds"),
];

pub(super) fn action(key: Key, mode: Mode) -> Option<Action> {
    match (mode, key) {
        (_, Key::Interrupt) => Some(Action::Quit),
        (Mode::Filter, key) => in_filter(key),
        (Mode::Help, Key::Char('q')) => Some(Action::Quit),
        (Mode::Help, _) => Some(Action::Enter(Mode::Table)),
        (Mode::Table, key) => in_table(key),
    }
}

fn in_filter(key: Key) -> Option<Action> {
    Some(match key {
        Key::Char(character) => Action::Type(character),
        Key::Backspace => Action::Erase,
        Key::Enter => Action::Enter(Mode::Table),
        Key::Escape => Action::ClearFilter,
        key => return moves(key),
    })
}

fn in_table(key: Key) -> Option<Action> {
    Some(match key {
        Key::Char('q') | Key::Escape => Action::Quit,
        Key::Char('1') => Action::Show(View::Services),
        Key::Char('2') => Action::Show(View::Instances),
        Key::Char('3') => Action::Show(View::Envoys),
        Key::Char('4') => Action::Show(View::Units),
        Key::Char('5') => Action::Show(View::Events),
        Key::Tab => Action::NextView,
        Key::BackTab => Action::PreviousView,
        Key::Enter => Action::Open,
        Key::Char('>') | Key::Right => Action::NextColumn,
        Key::Char('<') | Key::Left => Action::PreviousColumn,
        Key::Char('r') => Action::Reverse,
        Key::Char('s') => Action::Shares,
        Key::Char('p' | ' ') => Action::Pause,
        Key::Char('/') => Action::Enter(Mode::Filter),
        Key::Char('?' | 'h') => Action::Enter(Mode::Help),
        Key::Char('j') => Action::Move(1),
        Key::Char('k') => Action::Move(-1),
        key => return moves(key),
    })
}

fn moves(key: Key) -> Option<Action> {
    Some(match key {
        Key::Up => Action::Move(-1),
        Key::Down => Action::Move(1),
        Key::PageUp => Action::Page(-1),
        Key::PageDown => Action::Page(1),
        Key::Home => Action::First,
        Key::End => Action::Last,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_a_command_in_the_table_and_a_letter_in_the_filter() {
        assert_eq!(action(Key::Char('q'), Mode::Table), Some(Action::Quit));
        let typed = Some(Action::Type('q'));
        assert_eq!(action(Key::Char('q'), Mode::Filter), typed);
        assert_eq!(action(Key::Char('x'), Mode::Table), None);
    }

    #[test]
    fn escape_leaves_what_is_open_before_it_quits() {
        let cleared = Some(Action::ClearFilter);
        assert_eq!(action(Key::Escape, Mode::Filter), cleared);
        let closed = Some(Action::Enter(Mode::Table));
        assert_eq!(action(Key::Escape, Mode::Help), closed);
        assert_eq!(action(Key::Escape, Mode::Table), Some(Action::Quit));
    }

    #[test]
    fn control_c_always_quits() {
        for mode in [Mode::Table, Mode::Filter, Mode::Help] {
            assert_eq!(action(Key::Interrupt, mode), Some(Action::Quit));
        }
    }
}
