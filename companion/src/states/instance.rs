//! An instance, as the filters that report on it see it.

/// The state of an instance, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InstanceState {
    Unhealthy,
    Draining,
    WarmingUp,
    Ok,
}

impl InstanceState {
    /// An instance that drains need not be healthy. `warmth` is in percent of its weight.
    pub(crate) fn of(is_draining: bool, is_healthy: bool, warmth: u8) -> Self {
        match (is_draining, is_healthy, warmth) {
            (true, _, _) => Self::Draining,
            (false, false, _) => Self::Unhealthy,
            (false, true, ..100) => Self::WarmingUp,
            (false, true, _) => Self::Ok,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
            Self::WarmingUp => "warming up",
            Self::Ok => "ok",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_drains_is_not_called_unhealthy_and_the_worst_sorts_first() {
        let of = InstanceState::of;
        assert_eq!(of(true, false, 0), InstanceState::Draining);
        assert_eq!(of(false, false, 100), InstanceState::Unhealthy);
        assert_eq!(of(false, true, 99), InstanceState::WarmingUp);
        assert_eq!(of(false, true, 100), InstanceState::Ok);
        assert!(InstanceState::Unhealthy < InstanceState::Draining);
        assert!(InstanceState::WarmingUp < InstanceState::Ok);
    }
}
