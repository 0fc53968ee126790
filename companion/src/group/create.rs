//! `group create`: plans and acts, and plans again until nothing is left to do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use unitring_protocol::ids::UnitId;

use super::GroupError;
use super::plan::{Action, Observed, Step, Wanted, plan};
use super::server::Server;
use crate::clock;
use crate::config::GroupSettings;
use crate::fixed::FixedData;

/// How long replicas may take to catch up, and logs to be rewritten.
const PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// The flags of the command.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Print the plan, and touch nothing.
    pub dry_run: bool,
    /// Servers whose data may be replaced by the primary's.
    pub force: BTreeSet<SocketAddr>,
}

/// Brings the servers to the wanted state, and reports each action. Returns how many actions were
/// performed, or with `dry_run` planned.
///
/// # Errors [`GroupError`]. A refusal comes before anything is touched.
pub(crate) async fn create(
    settings: &GroupSettings,
    unit: &UnitId,
    options: Options,
    mut tell: impl FnMut(&str),
) -> Result<usize, GroupError> {
    let fixed = match &settings.fixed_data {
        Some(path) => Some(FixedData::read(path)?),
        None => None,
    };
    let wanted = Wanted {
        persistence: settings.persistence,
        min_replicas: settings.min_replicas,
        fixed: fixed.as_ref().map(FixedData::checksum),
        force: options.force,
    };
    let fixed = fixed.unwrap_or_default();
    let servers = connect(settings, unit).await?;
    if options.dry_run {
        let actions = planned(&servers, &wanted).await?;
        actions.iter().for_each(|action| tell(&action.to_string()));
        return Ok(actions.len());
    }
    let end = clock::now() + PATIENCE;
    let (mut done, mut touched) = (0, BTreeSet::new());
    loop {
        let left = planned(&servers, &wanted).await?;
        if left.is_empty() {
            break;
        }
        if clock::now() >= end {
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            return Err(GroupError::Unfinished {
                seconds: PATIENCE.as_secs(),
                left: left.join("\n"),
            });
        }
        for action in doable(&left) {
            let server = servers.iter().find(|one| one.address == action.server);
            let Some(server) = server else { continue };
            tell(&action.to_string());
            server.perform(&action.what, &fixed).await?;
            done += 1;
            if matches!(action.what, Step::Set(..) | Step::Replicate(_)) {
                touched.insert(action.server);
            }
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    for server in servers.iter().filter(|one| touched.contains(&one.address)) {
        if !server.keep_settings().await? {
            tell(&format!(
                "{}: has no configuration file, so that a restart of it undoes its settings: run this \
                 again then",
                server.address
            ));
        }
    }
    Ok(done)
}

/// Connects to every server; fails with the first that does not answer.
async fn connect(settings: &GroupSettings, unit: &UnitId) -> Result<Vec<Server>, GroupError> {
    let servers = settings
        .servers
        .iter()
        .map(|url| Server::connect(url, &settings.tls, unit));
    futures::future::try_join_all(servers).await
}

async fn planned(servers: &[Server], wanted: &Wanted) -> Result<Vec<Action>, GroupError> {
    let observed = servers.iter().map(Server::observe);
    let observed: Vec<Observed> = futures::future::try_join_all(observed).await?;
    plan(&observed, wanted).map_err(GroupError::Refused)
}

/// The actions possible now. Writes wait until the replicas follow, since a primary that lacks
/// replicas may refuse them.
fn doable(left: &[Action]) -> impl Iterator<Item = &Action> {
    let is_moving = |action: &Action| matches!(action.what, Step::Replicate(_) | Step::Wait(_));
    let moving = left.iter().any(is_moving);
    left.iter().filter(move |action| match action.what {
        Step::Wait(_) => false,
        Step::LoadFixed(_) | Step::Set("min-replicas-to-write", _) => !moving,
        _ => true,
    })
}
