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
    let (mut was_healthy, mut untold) = (true, VecDeque::new());
    loop {
        ticks.tick().await;
        // While the leader is unknown, every companion observes: the group may be the cause.
        if *role.borrow() == Role::Follower {
            was_healthy = true;
            seen.send_replace(None);
            continue;
        }
        let settings = settings.borrow().clone();
        let status = status(&settings, &unit).await;
        count(&metrics, &status);
        // One line for each change, however long it lasts; the metrics show changes in between.
        match (was_healthy, status.healthy) {
            (true, false) => {
                metrics.group_degradations.inc();
                tracing::warn!(problems = ?status.problems, "the unit's group is degraded");
                let reason = status.problems.join("; ");
                untold.push_back(event(GroupChange::GroupDegraded, &reason));
            }
            (false, true) => {
                tracing::info!("the unit's group has recovered");
                untold.push_back(event(GroupChange::GroupRestored, "no problems"));
            }
            _ => {}
        }
        while untold.len() > UNTOLD_MAX {
            untold.pop_front();
            metrics.group_events_dropped.inc();
        }
        let term = role.borrow().term();
        tell(&*lease, term, &mut untold).await;
        was_healthy = status.healthy;
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
