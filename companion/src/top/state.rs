//! The state of the display, and how an action changes it. Pure.

use std::collections::BTreeMap;

use super::keys::{Action, Mode};
use super::sample::{View, Want};
use super::table::{Row, Sort};
use super::views;
use crate::top::TopFlags;

/// Most characters of a filter.
const FILTER_CHARS_MAX: usize = 100;

/// The state of the display.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) view: View,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) is_paused: bool,
    pub(super) has_ended: bool,
    has_shares: bool,
    /// The only service of all views, if the command line names one.
    only: Option<String>,
    /// The service of the instances view.
    service: Option<String>,
    sorts: BTreeMap<View, Sort>,
    /// The selected row, by its id, and its place when it was selected.
    selected: Option<String>,
    place: usize,
    /// Rows that the terminal has room for.
    pub(super) page: usize,
}

impl State {
    /// The state that the command line asks for.
    ///
    /// # Errors
    /// The view has no such column.
    pub(super) fn new(flags: &TopFlags) -> Result<Self, String> {
        // A reader who names a service wants its instances.
        let view = flags.view.unwrap_or(match flags.service {
            Some(_) => View::Instances,
            None => View::Services,
        });
        let mut state = Self {
            view,
            mode: Mode::Table,
            filter: String::new(),
            is_paused: false,
            has_ended: false,
            has_shares: flags.shares,
            only: flags.service.clone(),
            service: flags.service.clone(),
            sorts: BTreeMap::new(),
            selected: None,
            place: 0,
            page: 1,
        };
        let mut sort = views::sort(view);
        if let Some(asked) = &flags.sort {
            let columns = views::columns(view, true);
            let Some(column) = columns.iter().find(|it| it.name == asked.to_lowercase()) else {
                let names: Vec<&str> = columns.iter().map(|it| it.name).collect();
                let (view, names) = (view.name(), names.join(", "));
                return Err(format!("--sort {asked}: {view} have the columns {names}"));
            };
            sort.column = column.name;
            let shown = views::columns(view, false);
            state.has_shares |= !shown.contains(column);
        }
        sort.is_reversed = flags.reverse;
        state.sorts.insert(view, sort);
        Ok(state)
    }

    /// The requests for the companion.
    pub(super) fn want(&self) -> Want {
        let service = match self.view {
            View::Instances => self.service.clone(),
            _ => self.only.clone(),
        };
        Want {
            view: self.view,
            service,
            // No other view shows them.
            has_shares: self.has_shares && self.view == View::Instances,
        }
    }

    /// The order of the rows.
    pub(super) fn sort(&self) -> Sort {
        let asked = self.sorts.get(&self.view).copied();
        asked.unwrap_or_else(|| views::sort(self.view))
    }

    /// The place of the selected row, or, if it is gone, of the one that is there now.
    pub(super) fn place(&self, rows: &[Row]) -> usize {
        let is_it = |row: &Row| Some(&row.id) == self.selected.as_ref();
        let place = rows.iter().position(is_it).unwrap_or(self.place);
        place.min(rows.len().saturating_sub(1))
    }

    /// Applies an action of the operator to these rows.
    pub(super) fn apply(&mut self, action: Action, rows: &[Row]) {
        let place = self.place(rows);
        match action {
            Action::Quit => self.has_ended = true,
            Action::Show(view) => self.show(view, rows),
            Action::NextView => self.show(self.view.next(), rows),
            Action::PreviousView => self.show(self.view.previous(), rows),
            Action::Open => self.open(rows),
            Action::NextColumn => self.order_by_another(1),
            Action::PreviousColumn => self.order_by_another(-1),
            Action::Reverse => {
                let mut sort = self.sort();
                sort.is_reversed = !sort.is_reversed;
                self.sorts.insert(self.view, sort);
            }
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Shares => self.has_shares = !self.has_shares,
            Action::Enter(mode) => self.mode = mode,
            Action::Type(character) => {
                if self.filter.chars().count() < FILTER_CHARS_MAX && !character.is_control() {
                    self.filter.push(character);
                }
            }
            Action::Erase => {
                self.filter.pop();
            }
            Action::ClearFilter => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            Action::Move(by) => self.select(place.saturating_add_signed(by), rows),
            Action::Page(by) => {
                let page = isize::try_from(self.page).unwrap_or(isize::MAX);
                self.select(place.saturating_add_signed(by.saturating_mul(page)), rows);
            }
            Action::First => self.select(0, rows),
            Action::Last => self.select(usize::MAX, rows),
        }
    }

    fn select(&mut self, place: usize, rows: &[Row]) {
        self.place = place.min(rows.len().saturating_sub(1));
        self.selected = rows.get(self.place).map(|row| row.id.clone());
    }

    fn show(&mut self, view: View, rows: &[Row]) {
        if view == self.view {
            return;
        }
        // The instances are those of the service that was selected last.
        if let Some(service) = self.selected_service(rows) {
            self.service = Some(service);
        }
        self.change_to(view);
    }

    fn open(&mut self, rows: &[Row]) {
        if let Some(service) = self.selected_service(rows) {
            self.service = Some(service);
            self.change_to(View::Instances);
        }
    }

    fn selected_service(&self, rows: &[Row]) -> Option<String> {
        rows.get(self.place(rows))?.service.clone()
    }

    fn change_to(&mut self, view: View) {
        self.view = view;
        self.selected = None;
        self.place = 0;
        // A filter of one view seldom matches in another.
        self.filter.clear();
    }

    fn order_by_another(&mut self, by: isize) {
        let columns = views::columns(self.view, self.want().has_shares);
        let column = self.sort().column;
        let place = columns.iter().position(|it| it.name == column);
        let last = columns.len().saturating_sub(1);
        let place = place.unwrap_or(0).saturating_add_signed(by).min(last);
        if let Some(column) = columns.get(place).filter(|it| it.name != column) {
            let sort = Sort {
                column: column.name,
                is_reversed: false,
            };
            self.sorts.insert(self.view, sort);
        }
    }
}

#[cfg(test)]
mod tests;
