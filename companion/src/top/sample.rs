//! The companion's answers at one moment, and the requests for them.

use std::time::Duration;

use clap::ValueEnum;

use super::answers::{Conflict, Event, Ready, Service, Units};
use super::rate::{Counts, Key};

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum View {
    /// All services.
    Services,
    /// The instances of one service.
    Instances,
    /// The Envoys that report.
    Envoys,
    /// This unit and the links to the others.
    Units,
    /// The latest events.
    Events,
}

impl View {
    /// All, in the order of their keys.
    pub(super) const ALL: [Self; 5] = [
        Self::Services,
        Self::Instances,
        Self::Envoys,
        Self::Units,
        Self::Events,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Instances => "instances",
            Self::Envoys => "envoys",
            Self::Units => "units",
            Self::Events => "events",
        }
    }

    /// The next one, and after the last the first.
    pub(super) fn next(self) -> Self {
        let mut after = Self::ALL.into_iter().skip_while(|view| *view != self);
        after.nth(1).unwrap_or(Self::Services)
    }

    pub(super) fn previous(self) -> Self {
        let before = Self::ALL.into_iter().take_while(|view| *view != self);
        before.last().unwrap_or(Self::Events)
    }
}

/// The requests that a view needs, and no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) view: View,
    /// Only this service. Without one, the instances are those of the first service.
    pub(super) service: Option<String>,
    /// Each instance's share of the keys and its capacity: the companion builds the ring for them.
    pub(super) has_shares: bool,
}

/// The companion's answers.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// When, since the start, by a clock that only goes forward.
    pub(super) at: Duration,
    /// When, in ms since the Unix epoch.
    pub(super) at_ms: u64,
    pub(super) ready: Ready,
    pub(super) content: Content,
}

/// The companion's answer for a view.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// One service or all, for three views.
    Services(Vec<Service>),
    Units(Units, Vec<Conflict>),
    Events(Vec<Event>),
}

impl Sample {
    /// The counters of each instance.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Key, Counts)> {
        let services = match &self.content {
            Content::Services(services) => services.as_slice(),
            _ => &[],
        };
        services.iter().flat_map(|service| {
            service.instances.iter().map(|instance| {
                let key = (service.service.clone(), instance.id.clone());
                let (calls, failures) = (instance.calls, instance.failures);
                (key, Counts { calls, failures })
            })
        })
    }
}
