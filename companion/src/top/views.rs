//! A sample and the rates → a table. Pure: a file a view.

mod envoys;
pub(super) mod events;
mod instances;
mod services;
mod units;

use super::rate::History;
use super::sample::{Content, Sample, View, Want};
use super::table::{Column, Sort, Table};
use crate::states::UnitRole;

/// All columns of a view that `--sort` can name.
pub(super) fn columns(view: View, has_shares: bool) -> Vec<Column> {
    match view {
        View::Services => services::COLUMNS.to_vec(),
        View::Instances => instances::columns(has_shares),
        View::Envoys => envoys::COLUMNS.to_vec(),
        View::Units => units::COLUMNS.to_vec(),
        View::Events => events::COLUMNS.to_vec(),
    }
}

/// The column by which the rows are sorted unless the operator chooses another one.
pub(super) fn sort(view: View) -> Sort {
    let column = match view {
        View::Services => "service",
        View::Instances => "calls/s",
        View::Envoys => "envoy",
        View::Units => "unit",
        View::Events => "time",
    };
    Sort {
        column,
        is_reversed: false,
    }
}

/// A view's table of a sample.
pub(super) fn table(want: &Want, sample: &Sample, history: &History) -> Table {
    let mut table = match (want.view, &sample.content) {
        (View::Services, Content::Services(services)) => services::table(services, history),
        (View::Instances, Content::Services(services)) => {
            instances::table(services.first(), want.has_shares, history)
        }
        (View::Envoys, Content::Services(services)) => envoys::table(services),
        (View::Units, Content::Units(units, conflicts)) => {
            let is_follower = sample.ready.role == UnitRole::Follower;
            units::table(units, conflicts, is_follower)
        }
        (View::Events, Content::Events(events)) => events::table(events, want.service.as_deref()),
        // A sample of another view.
        _ => Table::default(),
    };
    table.columns = columns(want.view, want.has_shares);
    table
}

#[cfg(test)]
mod tests;
