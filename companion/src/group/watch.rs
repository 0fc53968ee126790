//! `serve` observes its group at intervals: metrics, `GET /v1/group`, and one log line when the
//! group degrades and one when it recovers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use unitring_protocol::ids::UnitId;

use super::status::{Status, status};
use crate::clock::now_ms;
use crate::config::GroupSettings;
use crate::events::{Entry, GroupChange, GroupEvent};
use crate::leadership::Role;
use crate::metrics::Metrics;
use crate::states::ServerRole;
use crate::store::Leadership;

/// The interval. Each time all servers are asked at once, for a few lines each.
const INTERVAL: Duration = Duration::from_secs(2);

/// Most events that wait for the store.
const UNTOLD_MAX: usize = 64;

/// What the looks so far say of the group. Pure.
///
/// A companion may begin to watch while its unit begins: the store has no layout yet, or a replica that was just named
/// receives its data. So a first look that finds problems tells nothing; if the second one does too, it is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Health {
    /// There was no look yet.
    #[default]
    Unknown,
    /// The first look found problems.
    Doubtful,
    Well,
    Degraded,
}

impl Health {
    /// Takes the result of a look; returns the change that is to be told.
    fn looked(&mut self, is_healthy: bool) -> Option<GroupChange> {
        let (now, told) = match (*self, is_healthy) {
            (Self::Degraded, true) => (Self::Well, Some(GroupChange::GroupRestored)),
            (_, true) => (Self::Well, None),
            (Self::Unknown, false) => (Self::Doubtful, None),
            (Self::Degraded, false) => (Self::Degraded, None),
            (Self::Doubtful | Self::Well, false) => {
                (Self::Degraded, Some(GroupChange::GroupDegraded))
            }
        };
        *self = now;
        told
    }
}

/// Observes for ever, and publishes each status in `seen`.
pub(crate) async fn run(
    settings: watch::Receiver<GroupSettings>,
    unit: UnitId,
    metrics: Arc<Metrics>,
    (role, lease): (watch::Receiver<Role>, Arc<dyn Leadership>),
    seen: watch::Sender<Option<Status>>,
) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut health, mut untold) = (Health::default(), VecDeque::new());
    loop {
        ticks.tick().await;
        // While the leader is unknown, every companion observes: the group may be the cause.
        if *role.borrow() == Role::Follower {
            health = Health::default();
            seen.send_replace(None);
            continue;
        }
        let settings = settings.borrow().clone();
        let status = status(&settings, &unit).await;
        count(&metrics, &status);
        // One line for each change, however long it lasts; the metrics show changes in between.
        match health.looked(status.healthy) {
            Some(GroupChange::GroupDegraded) => {
                metrics.group_degradations.inc();
                tracing::warn!(problems = ?status.problems, "the unit's group is degraded");
                let reason = status.problems.join("; ");
                untold.push_back(event(GroupChange::GroupDegraded, &reason));
            }
            Some(GroupChange::GroupRestored) => {
                tracing::info!("the unit's group has recovered");
                untold.push_back(event(GroupChange::GroupRestored, "no problems"));
            }
            None => {}
        }
        while untold.len() > UNTOLD_MAX {
            untold.pop_front();
            metrics.group_events_dropped.inc();
        }
        let term = role.borrow().term();
        tell(&*lease, term, &mut untold).await;
        seen.send_replace(Some(status));
    }
}

fn event(kind: GroupChange, reason: &str) -> GroupEvent {
    GroupEvent {
        at_ms: now_ms(),
        kind,
        reason: reason.to_owned(),
    }
}

/// Stores the waiting events. If the store fails, which is the group itself, they wait for the next
/// time.
async fn tell(lease: &dyn Leadership, term: Option<u64>, untold: &mut VecDeque<GroupEvent>) {
    let Some(term) = term else { return };
    while let Some(event) = untold.front() {
        match lease.append(term, &Entry::Group(event.clone())).await {
            Ok(_) => drop(untold.pop_front()),
            Err(error) => return tracing::debug!(%error, "an event of the group waits"),
        }
    }
}

fn count(metrics: &Metrics, status: &Status) {
    let servers = || status.servers.iter();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let away = servers().filter(|server| server.error.is_some()).count();
    let replicas = servers()
        .filter(|server| server.role == ServerRole::Replica && server.link_up)
        .count();
    let lag = servers().map(|server| server.lag_bytes).max();
    metrics.group_healthy.set(u64::from(status.healthy));
    metrics.group_servers_away.set(number(away));
    metrics.group_replicas_linked.set(number(replicas));
    metrics.group_lag_bytes.set(lag.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::GroupChange::{GroupDegraded, GroupRestored};
    use super::*;

    fn told(looks: &[bool]) -> Vec<Option<GroupChange>> {
        let mut health = Health::default();
        let looks = looks.iter();
        looks.map(|is_healthy| health.looked(*is_healthy)).collect()
    }

    #[test]
    fn a_change_is_told_once() {
        assert_eq!(
            told(&[true, false, false, true, true, false]),
            [
                None,
                Some(GroupDegraded),
                None,
                Some(GroupRestored),
                None,
                Some(GroupDegraded)
            ]
        );
    }

    #[test]
    fn problems_of_the_first_look_are_told_if_the_second_one_finds_some_too() {
        assert_eq!(
            told(&[false, true, false]),
            [None, None, Some(GroupDegraded)]
        );
        assert_eq!(
            told(&[false, false, true]),
            [None, Some(GroupDegraded), Some(GroupRestored)]
        );
    }
}
