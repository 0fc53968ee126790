//! Mode, announcement, size of the answer → what happens to the answer.

use super::grammar::{Announced, Announcement, Change};
use crate::settings::{Capture, CaptureMode};

/// How an answer that announces updates is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It goes on as it is.
    Pass,
    /// Its updates are handed over now; with `holds`, it waits until they are stored.
    HandOver {
        /// Whether it waits.
        holds: bool,
    },
    /// Its body is read first; with `holds`, body and headers wait.
    ReadBody {
        /// Whether they wait.
        holds: bool,
    },
    /// Its body is too large to be a value: with `holds` the caller gets an error, otherwise the updates are handed
    /// over [without it](without_body).
    TooLarge {
        /// Whether it would wait.
        holds: bool,
    },
}

/// Plans for an answer. `length` is the body's, as far as the headers tell it: 0 for none.
pub fn plan(capture: &Capture, announcement: &Announcement, length: Option<u64>) -> Plan {
    let holds = match capture.mode {
        CaptureMode::Off | CaptureMode::Count => return Plan::Pass,
        CaptureMode::Async => false,
        CaptureMode::Sync => true,
    };
    if announcement.updates.is_empty() {
        return Plan::Pass;
    }
    if !announcement.needs_body() || length == Some(0) {
        return Plan::HandOver { holds };
    }
    match length.is_none_or(|length| fits(capture, length)) {
        true => Plan::ReadBody { holds },
        false => Plan::TooLarge { holds },
    }
}

/// Whether a body of this length may be a value.
pub fn fits(capture: &Capture, length: u64) -> bool {
    length <= u64::try_from(capture.body_bytes_max).unwrap_or(u64::MAX)
}

/// Makes values of bodies empty; returns how many.
pub fn without_body(updates: &mut [Announced]) -> u64 {
    let mut count = 0;
    for update in updates {
        if let Change::Put { body, .. } = &mut update.change
            && std::mem::take(body)
        {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn capture(mode: &str) -> Capture {
        let json = format!(
            r#"{{"service": "a", "capture": {{"mode": "{mode}", "body_bytes_max": 100}}}}"#
        );
        Settings::of(&json).capture
    }

    fn announced(line: &str) -> Announcement {
        Announcement::read([line.as_bytes()].into_iter())
    }

    #[test]
    fn each_mode_holds_what_it_must() {
        let (plain, body) = (announced("a/b,a/c;delete"), announced("a/b,a/c;body"));
        let (now, later) = (
            Plan::HandOver { holds: true },
            Plan::ReadBody { holds: true },
        );
        let (async_now, async_later) = (
            Plan::HandOver { holds: false },
            Plan::ReadBody { holds: false },
        );
        for (mode, announcement, length, expected) in [
            ("off", &body, None, Plan::Pass),
            ("count", &body, None, Plan::Pass),
            ("sync", &announced("bad"), None, Plan::Pass),
            ("sync", &plain, Some(1_000), now),
            ("sync", &body, Some(0), now),
            ("sync", &body, Some(100), later),
            ("sync", &body, None, later),
            ("sync", &body, Some(101), Plan::TooLarge { holds: true }),
            ("async", &plain, None, async_now),
            ("async", &body, None, async_later),
            ("async", &body, Some(101), Plan::TooLarge { holds: false }),
        ] {
            let planned = plan(&capture(mode), announcement, length);
            assert_eq!(planned, expected, "{mode} {announcement:?} {length:?}");
        }
    }

    #[test]
    fn without_its_body_an_update_stays_an_update() {
        let mut updates = announced("a/b;ttl=1s;body,a/c,a/d;delete").updates;
        assert_eq!(without_body(&mut updates), 1);
        let ttl_ms = Some(1_000);
        let expected = Change::Put {
            ttl_ms,
            body: false,
        };
        assert_eq!(updates[0].change, expected);
        assert_eq!(without_body(&mut updates), 0);
    }
}
