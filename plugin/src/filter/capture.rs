//! The data updates that an answer announces: reads them from its headers, with its body if that is the
//! value, and hands them over.

use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, BufferType, MapType};

use super::explain::End;
use super::exports::{ReadsBody, stop_all};
use super::hand_over::HandOver;
use super::service::Service;
use super::stats::InstanceStats;
use super::trouble::Trouble;
use unitring_balancer::capture::HEADER;
use unitring_balancer::capture::grammar::{Announced, Announcement, Change};
use unitring_balancer::capture::plan::{Plan, fits, plan, without_body};
use unitring_balancer::headers::Headers;
use unitring_balancer::settings::CaptureMode;

/// The updates of one request's answer.
#[derive(Default)]
pub(super) struct Updates {
    /// Set while the body is read.
    reading: Option<Reading>,
    /// Whether its answer announced any that are handed over.
    is_announced: bool,
}

/// Updates whose value is the body.
struct Reading {
    updates: Vec<Announced>,
    instance: Option<Rc<InstanceStats>>,
    body: Vec<u8>,
    holds: bool,
    room: Room,
    _reads: ReadsBody,
}

/// A body's part of the bytes that a worker keeps.
struct Room {
    of: Rc<HandOver>,
    bytes: usize,
}

impl Room {
    fn takes(&mut self, bytes: usize) -> bool {
        let takes = self.of.takes(bytes);
        if takes {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        takes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.gives_back(self.bytes);
    }
}

impl Updates {
    /// Removes the header from an answer of no service of the filter.
    pub(super) fn of_no_service() {
        remove();
    }

    /// Reads the headers of an answer, which `ends` with them or has a body.
    pub(super) fn on_headers(&mut self, context: u32, service: &Service, ends: bool) -> Action {
        if service.settings.capture.mode == CaptureMode::Off {
            // One call removes it or finds that it is absent; nothing is read.
            remove();
            return Action::Continue;
        }
        // Nearly every answer ends here, at the cost of one look-up of an absent header.
        match hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, HEADER) {
            Ok(Some(_)) => self.on_announcement(context, service, ends),
            _ => Action::Continue,
        }
    }

    fn on_announcement(&mut self, context: u32, service: &Service, ends: bool) -> Action {
        let headers = super::headers(MapType::HttpResponseHeaders);
        let announcement = Announcement::read(headers.values(HEADER));
        remove();
        let stats = &service.stats;
        let Some(instance) = sender(service) else {
            stats.updates_foreign.add(1);
            return Action::Continue;
        };
        if let Some((text, why)) = &announcement.first_malformed {
            stats.refuse_updates(instance.as_deref(), announcement.malformed);
            let service = &service.settings.service;
            stats
                .malformed
                .warn(|| format!("{service}: the data update {text} was left out: {why}"));
        }
        let updates = announcement.updates.len();
        let updates = u64::try_from(updates).unwrap_or(u64::MAX);
        instance.iter().for_each(|stats| stats.updates.add(updates));
        let length = if ends {
            Some(0)
        } else {
            content_length(&headers)
        };
        let planned = plan(&service.settings.capture, &announcement, length);
        let Some(hand_over) = &service.hand_over else {
            return Action::Continue;
        };
        self.is_announced = planned != Plan::Pass;
        let updates = announcement.updates;
        let holds = match planned {
            Plan::Pass => false,
            Plan::TooLarge { holds } => too_large(
                context,
                service,
                hand_over,
                updates,
                instance.as_ref(),
                holds,
            ),
            Plan::HandOver { holds } => {
                hand_over.push(context, updates, &[], instance.as_ref(), holds);
                holds
            }
            Plan::ReadBody { holds } if holds && !hand_over.awaits_body(context) => {
                lose(
                    service,
                    &updates,
                    instance.as_deref(),
                    Some(Trouble::Unread),
                );
                holds
            }
            Plan::ReadBody { holds } => {
                self.reading = Some(Reading {
                    updates,
                    instance,
                    body: Vec::new(),
                    holds,
                    room: Room {
                        of: Rc::clone(hand_over),
                        bytes: 0,
                    },
                    _reads: ReadsBody::begin(),
                });
                // Not `stop_all`: the body must come.
                return waits(holds);
            }
        };
        if holds {
            stop_all();
        }
        waits(holds)
    }

    /// Reads a part of the body, of which Envoy shows `size` bytes: all of it so far if the answer
    /// waits, otherwise only the new bytes.
    pub(super) fn on_body(
        &mut self,
        context: u32,
        service: &Service,
        size: usize,
        ends: bool,
    ) -> Action {
        let Some(reading) = &mut self.reading else {
            return Action::Continue;
        };
        let Some(hand_over) = &service.hand_over else {
            return Action::Continue;
        };
        if reading.holds {
            hand_over.sees_body();
        }
        let start = if reading.holds { reading.body.len() } else { 0 };
        let new = size.saturating_sub(start);
        let length = reading.body.len().saturating_add(new);
        if !fits(
            &service.settings.capture,
            u64::try_from(length).unwrap_or(u64::MAX),
        ) {
            let action = self.reading.take().map(|reading| {
                let Reading {
                    updates,
                    instance,
                    holds,
                    ..
                } = reading;
                too_large(
                    context,
                    service,
                    hand_over,
                    updates,
                    instance.as_ref(),
                    holds,
                )
            });
            return waits(action.unwrap_or(false));
        }
        if !reading.room.takes(new) {
            let (holds, instance) = (reading.holds, reading.instance.as_deref());
            lose(
                service,
                &reading.updates,
                instance,
                holds.then_some(Trouble::Full),
            );
            self.reading = None;
            return waits(holds);
        }
        if new > 0 {
            let part = hostcalls::get_buffer(BufferType::HttpResponseBody, start, new);
            reading.body.extend(part.ok().flatten().unwrap_or_default());
        }
        if ends {
            return self.on_end(context, hand_over);
        }
        waits(reading.holds)
    }

    /// The body ends with trailers.
    pub(super) fn on_trailers(&mut self, context: u32, service: &Service) -> Action {
        match &service.hand_over {
            Some(hand_over) if self.reading.is_some() => {
                hand_over.sees_body();
                self.on_end(context, hand_over)
            }
            _ => Action::Continue,
        }
    }

    fn on_end(&mut self, context: u32, hand_over: &HandOver) -> Action {
        let Some(reading) = self.reading.take() else {
            return Action::Continue;
        };
        let (instance, holds) = (reading.instance.as_ref(), reading.holds);
        drop(reading.room);
        hand_over.push(context, reading.updates, &reading.body, instance, holds);
        waits(holds)
    }

    /// The request is over. Updates that were handed over go on; a body that did not end is no value.
    pub(super) fn on_over(&mut self, context: u32, service: &Service) {
        let Some(hand_over) = service.hand_over.as_ref().filter(|_| self.is_announced) else {
            return;
        };
        hand_over.on_over(context);
        let Some(reading) = self.reading.take() else {
            return;
        };
        let of_body = |update: &Announced| matches!(update.change, Change::Put { body: true, .. });
        let (lost, whole): (Vec<_>, Vec<_>) = reading.updates.into_iter().partition(of_body);
        let instance = reading.instance.as_ref();
        lose(service, &lost, instance.map(Rc::as_ref), None);
        hand_over.push(context, whole, &[], instance, false);
    }
}

fn waits(holds: bool) -> Action {
    match holds {
        true => Action::Pause,
        false => Action::Continue,
    }
}

/// Counts updates as dropped, and answers in the place of an answer that waits.
fn lose(
    service: &Service,
    updates: &[Announced],
    instance: Option<&InstanceStats>,
    trouble: Option<Trouble>,
) {
    let count = u64::try_from(updates.len()).unwrap_or(u64::MAX);
    service.stats.drop_updates(instance, count);
    if let Some(trouble) = trouble {
        trouble.reply(&service.stats);
    }
}

/// The body is larger than a value may be. Returns whether the answer waits, which is then replaced.
fn too_large(
    context: u32,
    service: &Service,
    hand_over: &HandOver,
    mut updates: Vec<Announced>,
    instance: Option<&Rc<InstanceStats>>,
    holds: bool,
) -> bool {
    let stats = &service.stats;
    if holds {
        let count = u64::try_from(updates.len()).unwrap_or(u64::MAX);
        stats.updates_oversized.add(count);
        stats.refuse_updates(instance.map(Rc::as_ref), count);
        Trouble::TooLarge.reply(stats);
    } else {
        stats.updates_oversized.add(without_body(&mut updates));
        hand_over.push(context, updates, &[], instance, false);
    }
    holds
}

/// The instance that made the answer; `None` if no instance of the service did, and `Some(None)` for
/// one that the filter does not know yet.
fn sender(service: &Service) -> Option<Option<Rc<InstanceStats>>> {
    let end = End::now();
    let address = end.answered()?;
    let routed = service.routed();
    if let Some((_, stats)) = routed.at(address) {
        return Some(Some(Rc::clone(stats)));
    }
    let cluster = super::property(&["xds", "cluster_name"])?;
    (service.settings.service.as_str().as_bytes() == cluster).then_some(None)
}

fn content_length(headers: &Headers) -> Option<u64> {
    let digits = headers.values("content-length").next()?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn remove() {
    // It fails only if there is no such map, which has no header either.
    let _absent = hostcalls::set_map_value(MapType::HttpResponseHeaders, HEADER, None);
}
