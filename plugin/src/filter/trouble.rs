//! Why an answer is not passed on, and what the caller gets in its place.

use proxy_wasm::hostcalls;

use super::stats::ServiceStats;
use unitring_balancer::capture::queue::{Fate, Loss};

/// Why an answer is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Unavailable,
    Late,
    Refused,
    Full,
    TooLarge,
    Unread,
}

impl Trouble {
    pub(super) fn of(fate: &Fate) -> Option<Self> {
        match fate {
            Fate::Stored => None,
            Fate::Refused(_) => Some(Self::Refused),
            Fate::Dropped(Loss::Full) => Some(Self::Full),
            Fate::Dropped(Loss::Late) => Some(Self::Late),
            Fate::Dropped(Loss::Unavailable(_)) => Some(Self::Unavailable),
        }
    }

    /// Status, reason and explanation for the caller.
    fn shown(self) -> (u32, &'static str, &'static [u8]) {
        match self {
            Self::Unavailable => (503, "update-unavailable", b"the data update was not stored: the companion does not take it now\n"),
            Self::Late => (503, "update-late", b"the data update was not stored in time\n"),
            Self::Refused => (503, "update-refused", b"the data update was not stored: the companion refuses it\n"),
            Self::Full => (503, "update-full", b"the data update was not stored: too many wait\n"),
            Self::TooLarge => (507, "update-too-large", b"the data update was not stored: its value is larger than capture.body_bytes_max\n"),
            Self::Unread => (503, "update-unread", b"the data update was not stored: Envoy does not show the filter the body\n"),
        }
    }

    /// Answers the request of the context in force in place of its instance.
    pub(super) fn reply(self, totals: &ServiceStats) {
        totals.answers_replaced.add(1);
        let (status, reason, body) = self.shown();
        let mut headers = vec![("x-unitring-reason", reason)];
        if status == 503 {
            headers.push(("retry-after", "1"));
        }
        // For a gRPC call Envoy makes status 200 with `grpc-status: 14` of a 503.
        if let Err(status) = hostcalls::send_http_response(status, headers, Some(body)) {
            log::error!("unitring: an answer could not be replaced: {status:?}");
        }
    }
}
