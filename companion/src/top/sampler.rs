//! The companion's answers → samples, on a thread of its own: a companion that does not answer must not hold up
//! the keys.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::answers::{Conflict, Event, Ready, Service};
use super::sample::{Content, Sample, View, Want};
use crate::client::Target;
use crate::client::ask::{AskError, ask, escape, services};
use crate::client::readiness::ready;
use crate::clock::{self, now_ms};

/// Events that are shown.
const EVENTS: usize = 500;
/// Conflicts among which those of each unit are counted, which is as many as the companion tells.
const CONFLICTS: usize = 1_000;

/// The requests from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asking {
    /// At once, and then each interval.
    Always(Want),
    /// At once, and then for nothing.
    Once(Want),
    /// For nothing.
    Never,
}

/// Sends the requests that the display wants.
#[derive(Debug)]
pub(super) struct Sampler {
    wants: Sender<Asking>,
}

impl Sampler {
    /// Starts to ask once something is wanted; `pass_on` gets each answer until it returns false.
    pub(super) fn start(
        target: Target,
        interval: Duration,
        start: Instant,
        mut pass_on: impl FnMut(Want, Result<Sample, AskError>) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (wants, wanted) = channel();
        let answer = move |want: &Want| {
            let answer = look(&target, want, start);
            pass_on(want.clone(), answer)
        };
        thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || sample(&wanted, interval, answer))?;
        Ok(Self { wants })
    }

    /// From now on asks for this.
    pub(super) fn ask(&self, asking: Asking) {
        // If the thread is gone there is no receiver; the terminal learns of it by itself.
        drop(self.wants.send(asking));
    }
}

/// Takes samples until the terminal is gone.
fn sample(wanted: &Receiver<Asking>, interval: Duration, mut answer: impl FnMut(&Want) -> bool) {
    let mut asking = Asking::Never;
    let mut due: Option<Instant> = None;
    loop {
        let heard = match due {
            Some(due) => wanted.recv_timeout(due.saturating_duration_since(clock::now())),
            None => wanted.recv().map_err(RecvTimeoutError::from),
        };
        match heard {
            // If several are queued, the last counts.
            Ok(new) => asking = wanted.try_iter().last().unwrap_or(new),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let asked = clock::now();
        due = match &asking {
            Asking::Always(want) | Asking::Once(want) => {
                if !answer(want) {
                    return;
                }
                matches!(asking, Asking::Always(_)).then(|| asked + interval)
            }
            Asking::Never => None,
        };
    }
}

/// Asks once for all that a view shows.
pub(super) fn look(target: &Target, want: &Want, start: Instant) -> Result<Sample, AskError> {
    let ready: Ready = read(ready(target)?)?;
    let content = match want.view {
        View::Services | View::Envoys => match &want.service {
            Some(service) => Content::Services(vec![one(target, service, "")?]),
            None => {
                let all = services(target, "")?;
                let all: Result<Vec<Service>, _> = all.into_iter().map(read).collect();
                Content::Services(all?)
            }
        },
        View::Instances => {
            let query = match want.has_shares {
                true => "?shares=true",
                false => "",
            };
            let service = match &want.service {
                Some(service) => Some(service.clone()),
                None => first(target)?,
            };
            let service = service.map(|service| one(target, &service, query));
            Content::Services(service.transpose()?.into_iter().collect())
        }
        View::Units => {
            let conflicts = ask(target, &format!("/v1/conflicts?limit={CONFLICTS}"))?;
            let conflicts: Vec<Conflict> = read(conflicts)?;
            Content::Units(read(ask(target, "/v1/units")?)?, conflicts)
        }
        View::Events => {
            let path = format!("/v1/events?format=json&limit={EVENTS}");
            let events: Vec<Event> = read(ask(target, &path)?)?;
            Content::Events(events)
        }
    };
    Ok(Sample {
        at: clock::since(start),
        at_ms: now_ms(),
        ready,
        content,
    })
}

fn one(target: &Target, service: &str, query: &str) -> Result<Service, AskError> {
    let path = format!("/v1/services/{}{query}", escape(service));
    read(ask(target, &path)?)
}

/// The first service by name, if there is any.
fn first(target: &Target) -> Result<Option<String>, AskError> {
    let page = ask(target, "/v1/services?limit=1")?;
    let name = page.pointer("/services/0/service");
    Ok(name.and_then(Value::as_str).map(str::to_owned))
}

fn read<T: for<'de> Deserialize<'de>>(answer: Value) -> Result<T, AskError> {
    let refused = |error| AskError::Refused(format!("a companion of another version: {error}"));
    T::deserialize(answer).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(view: View) -> Want {
        Want {
            view,
            service: None,
            has_shares: false,
        }
    }

    #[test]
    fn the_last_wish_is_asked_at_once_and_nothing_while_it_is_paused() {
        let (wants, wanted) = channel();
        wants.send(Asking::Always(want(View::Services))).unwrap();
        wants.send(Asking::Always(want(View::Units))).unwrap();
        let (asked, all) = channel();
        let mut wants = Some(wants);
        // The first question pauses, and then the sender is gone.
        sample(&wanted, Duration::ZERO, move |want| {
            asked.send(want.view).unwrap();
            let wants = wants.take().unwrap();
            wants.send(Asking::Never).unwrap();
            true
        });
        assert_eq!(all.iter().collect::<Vec<_>>(), [View::Units]);
    }

    #[test]
    fn what_is_wanted_once_is_asked_once() {
        let (wants, wanted) = channel();
        wants.send(Asking::Once(want(View::Units))).unwrap();
        let mut wants = Some(wants);
        let mut asked = 0;
        // After the first answer the sender is gone, which ends it only if it waits.
        sample(&wanted, Duration::ZERO, |_| {
            asked += 1;
            wants.take();
            true
        });
        assert_eq!(asked, 1);
    }

    #[test]
    fn asking_ends_once_nobody_takes_the_answers() {
        let (wants, wanted) = channel();
        wants.send(Asking::Always(want(View::Events))).unwrap();
        let mut left = 3;
        sample(&wanted, Duration::ZERO, |_| {
            left -= 1;
            left > 0
        });
        assert_eq!(left, 0);
    }
}
