//! The reporters that are wired wrongly, cached for frequent health checks and scrapes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::clock::{self, now_ms};
use crate::loads::wiring::Miswired;
use crate::store::{Fleet, StoreError};

/// Requests within this time share a result: a look reads every service, and any client may ask.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Most lines in `/readyz`; `GET /v1/services` has all.
const LINES_MAX: usize = 100;

/// The last result.
#[derive(Default)]
pub(crate) struct Wiring(Mutex<Option<(Instant, Arc<Vec<Miswired>>)>>);

impl Wiring {
    /// The reporters that are wired wrongly.
    pub(super) async fn look(&self, fleet: &dyn Fleet) -> Result<Arc<Vec<Miswired>>, StoreError> {
        let mut last = self.0.lock().await;
        if let Some((seen, found)) = &*last
            && clock::since(*seen) < FRESH_FOR
        {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(fleet.miswired(now_ms()).await?);
        *last = Some((clock::now(), Arc::clone(&found)));
        Ok(found)
    }
}

/// One line for each finding, and how many more there are.
pub(super) fn lines(found: &[Miswired]) -> Vec<String> {
    let mut all = found.iter().flat_map(Miswired::lines);
    let mut lines: Vec<String> = all.by_ref().take(LINES_MAX).collect();
    let more = all.count();
    if more > 0 {
        lines.push(format!("wired wrongly: {more} more: see /v1/services"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loads::samples::finding;

    #[test]
    fn a_fleet_that_is_wired_wrongly_is_told_in_so_many_lines_and_the_number_of_the_others() {
        let of = |number: usize| Miswired {
            service: "orders".parse().unwrap(),
            reporter: format!("e{number}").parse().unwrap(),
            findings: vec![finding("a"), finding("b")],
        };
        assert!(lines(&[]).is_empty());
        let all: Vec<Miswired> = (0..50).map(of).collect();
        assert_eq!(lines(&all).len(), LINES_MAX);
        assert_eq!(
            lines(&all)[1],
            "wired wrongly: b (e0): saw b; mend: change b"
        );
        let all: Vec<Miswired> = (0..60).map(of).collect();
        let last = "wired wrongly: 20 more: see /v1/services";
        assert_eq!(
            (lines(&all).len(), lines(&all)[LINES_MAX].as_str()),
            (101, last)
        );
    }
}
