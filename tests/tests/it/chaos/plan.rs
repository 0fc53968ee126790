//! What happens, in which order: a seed decides, and the log tells it.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use unitring_tests::traffic::keys::Numbers;

/// Something that happens to the servers, and is undone or complete when the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// SIGKILL to an instance; it is started again once it is ejected.
    KillInstance,
    /// SIGSTOP to an instance; it is resumed once it is ejected.
    PauseInstance,
    /// A new instance is registered.
    AddInstance,
    /// An instance is removed from the registry, and ends when its requests have.
    RemoveInstance,
    /// The companion stops; an instance is ejected meanwhile, which must be told afterwards.
    StopCompanion,
    /// SIGKILL to the companion, and a start.
    KillCompanion,
    /// One Envoy is drained and stopped, and another one takes its place.
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

/// No action begins later, except that each is done once: `UNITRING_CHAOS_SECONDS`, up to 600.
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
