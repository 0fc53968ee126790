//! Every finding that there is: its code, how grave it is, and what follows from it. `docs/doctor.md` has a
//! section for each; a test holds both together.
//!
//! A code stays with its finding for good: scripts name it. The hundreds are groups: 00 what was read, 01 the
//! filter and its cluster, 02 routes and retries, 03 health, 04 exposure, 05 the companion, 06 its store, 07 the
//! other units, 08 probes.

use serde::{Serialize, Serializer};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Severity {
    /// Worth knowing.
    Info,
    /// All is as it should be until something fails.
    Warn,
    /// A promise of unitring does not hold now.
    Error,
}

impl Severity {
    /// As in the output and in `--fail-on`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl Serialize for Severity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal, $severity:ident, $title:literal, $follows:literal;)*) => {
        /// A kind of finding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code, in order.
            #[cfg(test)]
            pub(crate) const ALL: &[Code] = &[$(Code::$name,)*];

            /// As scripts and the page name it.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }

            /// How grave it is.
            pub(crate) fn severity(self) -> Severity {
                match self { $(Code::$name => Severity::$severity,)* }
            }

            /// It in a few words.
            pub(crate) fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }

            pub(crate) fn follows(self) -> &'static str {
                match self { $(Code::$name => $follows,)* }
            }
        }
    };
}

codes! {
    NotABootstrap = "UR0001", Error, "Not a configuration of Envoy",
        "Envoy does not start with this file, and nothing in it was checked.";
    NothingPlaced = "UR0002", Error, "Nothing places requests",
        "Envoy places requests by its own policy, without the fleet's bound.";
    Unseen = "UR0003", Info, "Envoy loads parts at run time",
        "These parts are not in the file and were not checked; a running Envoy shows them.";
    NoAdmin = "UR0004", Error, "The admin interface does not answer",
        "Nothing of the running Envoy was checked.";
    Hidden = "UR0005", Warn, "The admin interface does not show the configuration",
        "The running configuration was not checked.";

    SettingsRefused = "UR0101", Error, "The settings are refused",
        "Envoy does not start with these settings, or keeps its old configuration.";
    NoService = "UR0102", Error, "The service is no cluster",
        "There are no instances to choose from: every request is left to Envoy's own policy.";
    SteerHeader = "UR0103", Error, "The cluster does not read the filter's choice",
        "The choice has no effect: neither the bound nor the order of retries holds.";
    FallbackPolicy = "UR0104", Error, "The fallback policy is no ring",
        "A request that the filter leaves to Envoy goes to another instance than its key's.";
    DiscoveryCluster = "UR0105", Error, "The filter cannot reach Envoy's admin interface",
        "The filter learns of no instance: every request is left to Envoy's own policy.";
    CompanionCluster = "UR0106", Error, "The companion's cluster is missing",
        "The bound counts this Envoy's requests alone, and no companion shows its instances.";
    StatsExcluded = "UR0107", Error, "Stats of the filter are excluded",
        "The filter cannot count requests in flight: the bound does not hold.";
    Bypassed = "UR0108", Warn, "A listener leads to the service without the filter",
        "Requests on this way are placed by Envoy's own policy, and the bound does not count them.";
    NativeReports = "UR0109", Warn, "The native module does not report",
        "The bound counts this process alone, and no companion shows its instances.";
    VmStaysDead = "UR0110", Warn, "A filter that failed does not start again",
        "If the filter's VM dies, its worker answers 503, or lets requests pass without the filter, until Envoy restarts.";
    BodiesHidden = "UR0111", Warn, "Envoy does not show bodies of answers that wait",
        "With capture.mode sync an announcement with `;body` gets 503.";
    AdminPaths = "UR0112", Error, "The admin interface refuses what the filter reads",
        "The filter learns of no instance, or assumes Envoy's defaults for how they are placed.";
    LogsNothing = "UR0113", Warn, "An access log shows fields that no filter sets",
        "They are empty in every line.";

    HashPolicy = "UR0201", Error, "A route hashes another key",
        "A request that is left to Envoy's own policy goes to another instance; with the native module each one does.";
    HeaderRemoved = "UR0202", Error, "A route removes a header of the filter",
        "Each retry goes to the instance that has just failed; or data updates are lost.";
    RetryCount = "UR0203", Warn, "Retries and candidates differ",
        "A retry without a candidate goes where Envoy's own policy leads; a candidate without a retry is never tried.";
    RetryBudget = "UR0204", Warn, "Only three retries at a time",
        "When an instance dies, callers beyond the third at a time get 503 instead of a retry.";
    AttemptCount = "UR0205", Error, "Envoy does not write the number of attempts",
        "The filter takes every answer for that of the first attempt, or believes an instance that writes the header.";
    AttemptCountUnneeded = "UR0206", Info, "The number of attempts is set on one side only",
        "It has no effect, or costs the filter a question to Envoy for each answer.";
    NoRetries = "UR0207", Info, "A route does not retry",
        "Callers of an instance that dies get its error until it is ejected; the other candidates are not tried.";
    RetryPredicate = "UR0208", Warn, "A retry goes to the same instance",
        "The native module is not told which instance failed, so that most retries go there again.";

    EjectsNobody = "UR0301", Error, "Outlier detection can eject no instance",
        "An instance that fails keeps its keys, though outlier detection is configured.";
    NoDetection = "UR0302", Warn, "Nothing detects a dead instance",
        "An instance that dies keeps its keys, and each of its callers waits for an error.";
    Thresholds = "UR0303", Warn, "Settings and cluster differ on health",
        "While instances are unhealthy, keys go elsewhere than Envoy's own policy would send them.";
    EveryError = "UR0304", Warn, "Outlier detection counts every 5xx",
        "A key whose requests fail with 500 wherever they run ejects one instance after another.";

    AdminExposed = "UR0401", Error, "The admin interface listens beyond loopback",
        "Any client that reaches it reads the configuration with its tokens, and may stop this Envoy.";
    AdminUnbounded = "UR0402", Warn, "The admin interface allows every path",
        "A mistake in a route would let clients stop this Envoy (/quitquitquit).";
    AdminRouted = "UR0403", Error, "A route leads to the admin interface",
        "Clients of this listener read the configuration, or stop this Envoy.";
    CompanionPlaintext = "UR0404", Error, "Reports leave the host in plain text",
        "An attacker on the network reads loads, names and the token, and may answer in the companion's place.";
    CompanionAnonymous = "UR0405", Warn, "Reports have no credential",
        "The companion either takes reports without a credential, or refuses those of this Envoy.";

    NoCompanion = "UR0501", Error, "The companion does not answer",
        "Each Envoy bounds by its own load alone, and data updates are not stored.";
    Protocol = "UR0502", Error, "The companion speaks another protocol",
        "Filters, companions and units of different protocols do not understand each other.";
    Version = "UR0503", Info, "The companion has another version",
        "Features that only one of the versions has were not checked.";
    NotReady = "UR0504", Error, "The companion is not ready",
        "Writes are refused, or do not reach the other units.";
    Miswired = "UR0505", Error, "A filter found itself wired wrongly",
        "Requests flow, but part of the filter has no effect.";
    NoReports = "UR0506", Warn, "No Envoy reports on a service",
        "Its instances have no fleet load, and no view shows them.";
    NotAllowed = "UR0507", Warn, "The companion does not tell",
        "Part of the companion's state was not checked.";

    Evicts = "UR0601", Error, "Redis may evict",
        "Records vanish without a tombstone: no digest detects it, and no other unit repairs it.";
    NotKept = "UR0602", Error, "Redis keeps nothing on disk",
        "A restart of Redis loses every record, the registry and the outbox.";
    SnapshotsOnly = "UR0603", Warn, "Redis keeps snapshots only",
        "A crash of Redis loses the writes since the last snapshot, though they were acknowledged.";
    StoreClock = "UR0604", Warn, "The clock of the store is not the companion's",
        "Values expire too early or too late by that much.";
    Group = "UR0605", Error, "The unit group is degraded",
        "The next failure of a server may cost data or writes.";
    Spoiled = "UR0606", Warn, "Records cannot be read",
        "They are left out until a peer or a write replaces them.";

    LinkDown = "UR0701", Error, "A link to another unit is down",
        "Changes wait in the outbox; beyond its bound only digests repair that unit.";
    ClockSkew = "UR0702", Error, "Clocks of units differ",
        "Of concurrent changes, that of the unit whose clock is ahead wins, whichever was later.";
    TooLarge = "UR0703", Error, "Records are too large for the broker",
        "These records do not reach that unit; all others do.";
    Namesake = "UR0704", Error, "Two stores speak in the name of a unit",
        "Their changes overwrite each other under the same versions.";
    SetAside = "UR0705", Warn, "Records or units are set aside",
        "Their changes are not applied here.";
    OutboxFull = "UR0706", Warn, "The outbox is filling up",
        "Beyond its bound the oldest changes are dropped, and only digests repair the units that miss them.";

    ProbeElsewhere = "UR0801", Error, "Requests go elsewhere than the companion says",
        "Keys are not where the ring places them: sessions and caches are missed.";
    ProbeFailed = "UR0802", Error, "Probes are not answered",
        "Callers get no answer either.";
    ProbeUntold = "UR0803", Warn, "Answers do not tell their instance",
        "Placement was not compared.";
}
