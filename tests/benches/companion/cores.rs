//! One core for the companion, another for everything else, so that neither takes the other's time.

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The two cores, or `None` on a machine with a single core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores(Option<(usize, usize)>);

impl Cores {
    /// Takes the first two cores that this program may use, and pins the program to the second. The
    /// program must not have another thread yet.
    pub(crate) fn take() -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let cores = Self(cores.next().zip(cores.next()));
        cores.go_to_rest()?;
        Ok(cores)
    }

    /// Pins what `start` starts to the companion's core: a process inherits the core of its parent.
    pub(crate) async fn on_companions<T>(
        self,
        start: impl AsyncFnOnce() -> Result<T>,
    ) -> Result<T> {
        if let Some((companion, _)) = self.0 {
            go_to(companion)?;
        }
        let started = start().await;
        self.go_to_rest()?;
        started
    }

    fn go_to_rest(self) -> Result<()> {
        self.0.map_or(Ok(()), |(_, rest)| go_to(rest))
    }

    /// The text for the docs.
    pub(crate) fn told(self) -> &'static str {
        match self.0 {
            Some(_) => "The companion has one core, the generator of the load and Redis another.",
            None => "There is only one core, which all share: nothing is pinned.",
        }
    }
}

fn go_to(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("core {core}"))
}
