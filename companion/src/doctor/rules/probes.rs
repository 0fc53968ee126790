//! 08xx: requests that were sent through a listener, against what the companion says of their keys.

use super::super::code::Code;
use super::super::finding::{Finding, shown};

/// Keys that are named.
const NAMED_MAX: usize = 5;

/// Reasons of the filter for which another instance than the owner answers.
const EXCUSES: [&str; 5] = ["overflow", "least-loaded", "full", "retry", "ejected"];

/// One key: the answer to its request, and the companion's answer about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    pub key: String,
    /// The answer, or why there is none.
    pub answer: Result<Answered, String>,
    /// The companion's answer, or why there is none.
    pub located: Result<Located, String>,
}

/// The answer to a probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    pub status: u16,
    /// The instance, as the answer tells it.
    pub instance: Option<String>,
    /// The filter's reason.
    pub reason: Option<String>,
}

/// Where a key belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Located {
    /// The owner's id and address; none if Envoy's own policy chooses.
    pub owner: Option<[String; 2]>,
    /// The first candidate's id and address: under load another one than the owner.
    pub first: Option<[String; 2]>,
}

impl Probe {
    /// Whether another instance answered than the key's, without a reason for it.
    pub(crate) fn is_elsewhere(&self) -> bool {
        let (Ok(answer), Ok(located)) = (&self.answer, &self.located) else {
            return false;
        };
        let (Some(instance), Some(owner)) = (&answer.instance, &located.owner) else {
            return false;
        };
        let is_excused = answer
            .reason
            .as_deref()
            .is_some_and(|reason| EXCUSES.contains(&reason));
        let mut expected = owner.iter().chain(located.first.iter().flatten());
        !is_excused && !expected.any(|one| one == instance)
    }

    fn error(&self) -> Option<String> {
        match &self.answer {
            Err(error) => Some(error.clone()),
            Ok(answer) if answer.status >= 500 && answer.instance.is_none() => {
                Some(format!("status {}", answer.status))
            }
            Ok(_) => None,
        }
    }
}

/// The findings of the probes. `path` is the listener's address.
pub(in super::super) fn judge(path: &str, probes: &[Probe]) -> Vec<Finding> {
    let mut found = Vec::new();
    let all = probes.len();
    let failed: Vec<(&str, String)> = probes
        .iter()
        .filter_map(|probe| Some((probe.key.as_str(), probe.error()?)))
        .collect();
    if let Some((_, why)) = failed.first() {
        let keys = named(failed.iter().map(|(key, _)| *key));
        let seen = format!(
            "{} of {all} probes have no answer of an instance: {why} (keys {keys})",
            failed.len()
        );
        let mend = format!(
            "curl -i {}  # unitring status shows which instances are healthy",
            shown(path)
        );
        found.push(Finding::new(Code::ProbeFailed, path, &seen, &mend));
    }
    let elsewhere: Vec<&Probe> = probes.iter().filter(|probe| probe.is_elsewhere()).collect();
    if !elsewhere.is_empty() {
        let lines = elsewhere.iter().take(NAMED_MAX).map(|probe| told(probe));
        let lines: Vec<String> = lines.collect();
        let more = match elsewhere.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let seen = format!(
            "{} of {all} keys: {}{more}",
            elsewhere.len(),
            lines.join("; ")
        );
        let mend = "unitring doctor --admin URL  # what in this Envoy's wiring takes the choice away? and --key-header: is it the filter's?";
        found.push(Finding::new(Code::ProbeElsewhere, path, &seen, mend));
    }
    found.extend(untold(path, probes));
    found
}

/// `doctor-3 is at 10.0.0.1:80 (fallback), belongs to 10.0.0.2:80`.
fn told(probe: &Probe) -> String {
    let answer = probe.answer.as_ref().ok();
    let instance = answer.and_then(|answer| answer.instance.as_deref());
    let reason = answer.and_then(|answer| answer.reason.as_deref());
    let reason = reason.map_or(String::new(), |reason| format!(" ({reason})"));
    let located = probe.located.as_ref().ok();
    let owner = located.and_then(|located| located.owner.as_ref());
    let owner = owner.map_or("?", |[_, address]| address.as_str());
    let (key, instance) = (&probe.key, instance.unwrap_or("?"));
    format!("{key} is at {instance}{reason}, belongs to {owner}")
}

fn named<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    let keys: Vec<&str> = keys.take(NAMED_MAX).collect();
    keys.join(", ")
}

/// Probes with which nothing could be compared.
fn untold(path: &str, probes: &[Probe]) -> Option<Finding> {
    let answered = probes.iter().filter(|probe| probe.error().is_none());
    let answered: Vec<&Probe> = answered.collect();
    let silent = answered.iter().filter(|probe| {
        probe
            .answer
            .as_ref()
            .is_ok_and(|answer| answer.instance.is_none())
    });
    let silent = silent.count();
    if silent > 0 {
        let seen = format!(
            "{silent} of {} answers do not tell which instance gave them",
            probes.len()
        );
        let mend = "explain: true  # in the filter's settings; or a header of the answer by --instance-header:
response_headers_to_add:
  - header: { key: x-upstream, value: \"%UPSTREAM_REMOTE_ADDRESS%\" }";
        return Some(Finding::new(Code::ProbeUntold, path, &seen, mend));
    }
    let mut unlocated = answered
        .iter()
        .filter_map(|probe| probe.located.as_ref().err());
    let why = unlocated.next()?;
    let seen = format!("the companion does not say where keys belong: {why}");
    let mend = "unitring locate --key K  # does an Envoy report on the service to this companion?";
    Some(Finding::new(Code::ProbeUntold, path, &seen, mend))
}
