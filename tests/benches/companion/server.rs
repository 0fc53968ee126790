//! The system under test: a fresh companion with its store.

use std::time::{Duration, Instant};

use anyhow::Result;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::redis::Redis;
use unitring_tests::usage;

use super::cores::Cores;

/// Like a new Redis that `unitring group` has set up.
const PERSISTENCE: [&str; 3] = ["save \"\"", "appendonly yes", "appendfsync everysec"];

#[derive(Debug, Clone, Copy)]
pub(crate) enum Store {
    Embedded,
    Redis,
}

impl Store {
    pub(crate) const ALL: [Self; 2] = [Self::Embedded, Self::Redis];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "Redis",
        }
    }
}

pub(crate) struct Server {
    companion: Companion,
    redis: Option<Redis>,
}

/// A moment, and the resources used until then.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    at: Instant,
    companion: Duration,
    redis: Option<Duration>,
    generator: Duration,
}

impl Server {
    pub(crate) async fn start(store: Store, cores: Cores) -> Result<Self> {
        let redis = match store {
            Store::Embedded => None,
            Store::Redis => Some(Redis::start_with(&PERSISTENCE).await?),
        };
        let settings = redis
            .as_ref()
            .map_or_else(Settings::default, Settings::on_redis);
        let companion = cores.on_companions(async || settings.start().await).await?;
        Ok(Self { companion, redis })
    }

    pub(crate) fn port(&self) -> u16 {
        self.companion.port
    }

    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        usage::resident_bytes(self.companion.id())
    }

    pub(crate) fn used(&self) -> Result<Used> {
        let redis = self.redis.as_ref().map(|redis| redis.process().id());
        Ok(Used {
            at: Instant::now(),
            companion: usage::processor_time(self.companion.id())?,
            redis: redis.map(usage::processor_time).transpose()?,
            generator: usage::processor_time(std::process::id())?,
        })
    }
}

impl Used {
    /// Elapsed seconds.
    pub(crate) fn seconds_since(self, before: Self) -> f64 {
        self.at.duration_since(before.at).as_secs_f64()
    }

    /// Processor seconds of the companion.
    pub(crate) fn companion_since(self, before: Self) -> f64 {
        self.companion
            .saturating_sub(before.companion)
            .as_secs_f64()
    }

    /// Load of the generator's core in percent: near 100 the generator is what is measured.
    pub(crate) fn generator_percent_since(self, before: Self) -> f64 {
        let used = self.generator.saturating_sub(before.generator);
        used.as_secs_f64() / self.seconds_since(before) * 100.0
    }

    /// Processor seconds of Redis, if there is one.
    pub(crate) fn redis_since(self, before: Self) -> Option<f64> {
        let (now, before) = self.redis.zip(before.redis)?;
        Some(now.saturating_sub(before).as_secs_f64())
    }
}
