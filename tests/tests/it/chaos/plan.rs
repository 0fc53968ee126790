//! The actions and their order: a seed determines them, and the log shows it.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use unitring_tests::traffic::keys::Numbers;

/// An action on the servers; it is undone or complete when the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// SIGKILL to an instance, which is started again once it is ejected.
    KillInstance,
    /// SIGSTOP to an instance, which is resumed once it is ejected.
    PauseInstance,
    /// A new instance is registered.
    AddInstance,
    /// An instance is removed from the registry, and stops when its requests have ended.
    RemoveInstance,
    /// The companion stops. An instance is ejected meanwhile, and the event must arrive afterwards.
    StopCompanion,
    /// SIGKILL to the companion, and a restart.
    KillCompanion,
    /// One Envoy is drained and stopped, and another Envoy takes its place.
    ReplaceEnvoy,
}

const ALL: [Action; 7] = [
    Action::KillInstance,
    Action::PauseInstance,
    Action::AddInstance,
    Action::RemoveInstance,
    Action::StopCompanion,
    Action::KillCompanion,
    Action::ReplaceEnvoy,
];

/// All actions, each once.
pub(super) fn round(numbers: &mut Numbers) -> Vec<Action> {
    let mut actions = ALL.to_vec();
    numbers.shuffle(&mut actions);
    actions
}

/// No action begins after this time, except that each is done once: `UNITRING_CHAOS_SECONDS`, at most
/// 600.
pub(super) fn duration() -> Result<Duration> {
    let text = env::var("UNITRING_CHAOS_SECONDS").unwrap_or_else(|_| "60".to_owned());
    let seconds: u64 = text
        .parse()
        .with_context(|| format!("UNITRING_CHAOS_SECONDS={text}"))?;
    ensure!(
        seconds <= 600,
        "UNITRING_CHAOS_SECONDS={seconds}: must be at most 600"
    );
    Ok(Duration::from_secs(seconds))
}
