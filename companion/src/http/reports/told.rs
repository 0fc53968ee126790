//! Filters' reports about instances and about their wiring → the log.
//!
//! Each change has one line, at the companion that took the report; a state that lasts has none.

use unitring_protocol::ids::{ReporterId, ServiceName};
use unitring_protocol::report::EventKind;

use crate::events::Event;
use crate::log::pace::Pace;
use crate::store::Taken;

/// Logs the news of a report, as far as the pace admits it.
pub(super) fn tell(
    pace: &Pace,
    reporter: &ReporterId,
    service: &ServiceName,
    taken: &Taken,
    now_ms: u64,
) {
    if let Some(lines) = pace.left_out(now_ms) {
        tracing::warn!(
            lines,
            "reports of filters were left out of the log: GET /v1/events and GET /v1/services have them"
        );
    }
    let admits = || pace.admits(reporter.as_str(), now_ms);
    for event in taken.events.iter().filter(|_| admits()) {
        tell_event(reporter, event);
    }
    // As strings, which the log quotes: a name may look like fields.
    let (service, reporter) = (service.as_str(), reporter.as_str());
    for found in taken.wiring.found.iter().filter(|_| admits()) {
        let (kind, seen, mend) = (&*found.kind, &*found.seen, &*found.mend);
        tracing::warn!(service, reporter, kind, seen, mend, "wired wrongly");
    }
    for mended in taken.wiring.mended.iter().filter(|_| admits()) {
        let kind = &*mended.kind;
        tracing::info!(service, reporter, kind, "no longer wired wrongly");
    }
}

/// Logs that a reporter's events are not in the event log.
pub(super) fn tell_left_out(reporter: &ReporterId, events: u64) {
    let reporter = reporter.as_str();
    tracing::warn!(
        reporter,
        events,
        "events left out of the event log: the reporter, or its client, added too many within an hour"
    );
}

fn tell_event(reporter: &ReporterId, event: &Event) {
    let (service, instance) = (event.service.as_str(), event.instance.as_str());
    let (reporter, reason, moved) = (reporter.as_str(), &*event.reason, event.moved);
    macro_rules! line {
        ($level:ident, $message:literal) => {
            tracing::$level!(service, instance, reporter, reason, moved, $message)
        };
    }
    match event.kind {
        EventKind::Ejected => line!(warn, "instance ejected"),
        EventKind::Overloaded => line!(warn, "instance overloaded"),
        EventKind::Recovered => line!(info, "instance recovered"),
        EventKind::Relieved => line!(info, "instance relieved"),
        EventKind::Added => line!(info, "instance added"),
        EventKind::Removed => line!(info, "instance removed"),
        EventKind::Warmed => line!(debug, "instance warmed up"),
    }
}
