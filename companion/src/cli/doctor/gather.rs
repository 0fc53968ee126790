//! Reads the files, asks the servers, one after the other, and has each judged. What does not answer is a finding.

use serde_json::Value;

use super::fetch::{get, read};
use super::{DoctorFlags, probe};
use crate::client::ask::{AskError, ask, services};
use crate::client::readiness::is_readiness;
use crate::client::url::{base, checked, without_login};
use crate::doctor::finding::shown;
use crate::doctor::{self, Answers, Code, Finding, Known, envoy};

/// The sources that were examined, and the findings.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) findings: Vec<Finding>,
    /// Files and addresses, in order.
    pub(super) sources: Vec<String>,
    /// How many of them could be reached.
    pub(super) reached: usize,
}

/// The URLs of the command line, which requests can be sent to.
struct Urls {
    admin: Option<String>,
    companion: Option<String>,
    probe: Option<String>,
}

impl Urls {
    fn of(flags: &DoctorFlags) -> Result<Self, AskError> {
        let part = |url: &Option<String>, read: &dyn Fn(&str) -> Result<String, AskError>| {
            url.as_deref().map(read).transpose()
        };
        Ok(Self {
            admin: part(&flags.admin, &|url| base("--admin", url))?,
            companion: part(&flags.url, &|url| base("--url", url))?,
            probe: part(&flags.probe, &|url| checked("--probe", url))?,
        })
    }
}

impl Gathered {
    /// Names a source, each once: an address may be that of two.
    fn names(&mut self, source: &str) {
        if !self.sources.iter().any(|named| named == source) {
            self.sources.push(source.to_owned());
        }
    }
}

/// All sources of the command line.
pub(super) fn gather(flags: &DoctorFlags) -> Result<Gathered, AskError> {
    let mut gathered = Gathered::default();
    let mut known = Vec::new();
    // All of them before the first is asked.
    let urls = Urls::of(flags)?;
    let only = flags.service.as_deref();
    for path in &flags.envoy_config {
        let source = shown(&path.display().to_string());
        if gathered.sources.contains(&source) {
            continue;
        }
        let text = read(path)?;
        gathered.reached += 1;
        gathered.names(&source);
        match envoy::read(&text) {
            Ok(envoy) => {
                learn(&mut known, doctor::known(&envoy, only));
                gathered
                    .findings
                    .extend(doctor::of_envoy(&source, &envoy, only));
            }
            Err(error) => gathered.findings.push(doctor::of_source(
                &source,
                Code::NotABootstrap,
                &error.to_string(),
                "envoy --mode validate -c FILE  # shows what Envoy takes it for",
            )),
        }
    }
    if let Some(url) = &urls.admin {
        admin(flags, url, &mut gathered, &mut known)?;
    }
    if let Some(url) = &urls.companion {
        companion(flags, url, &mut gathered, &known)?;
    }
    if let (Some(url), Some(companion)) = (&urls.probe, &urls.companion) {
        let source = without_login(url);
        let probes = probe::all(flags, url, companion, &known)?;
        gathered.reached += usize::from(probes.iter().any(|probe| probe.answer.is_ok()));
        gathered
            .findings
            .extend(doctor::of_probes(&source, &probes));
        gathered.names(&source);
    }
    Ok(gathered)
}

/// Each service once.
fn learn(known: &mut Vec<Known>, more: Vec<Known>) {
    for one in more {
        if !known.iter().any(|other| other.service == one.service) {
            known.push(one);
        }
    }
}

fn admin(
    flags: &DoctorFlags,
    url: &str,
    gathered: &mut Gathered,
    known: &mut Vec<Known>,
) -> Result<(), AskError> {
    let source = without_login(url);
    let target = flags.target(url, None);
    let only = flags.service.as_deref();
    let mend = "admin:\n  address: { socket_address: { address: 127.0.0.1, port_value: 9901 } }  # and --admin http://127.0.0.1:9901";
    match get(&target, "/config_dump")? {
        Err(why) => {
            let finding = doctor::of_source(&source, Code::NoAdmin, &why, mend);
            gathered.findings.push(finding);
        }
        Ok((status, _)) if status != 200 => {
            gathered.reached += 1;
            // A file shows what the interface hides.
            if flags.envoy_config.is_empty() {
                let seen = format!("GET /config_dump: status {status}");
                let mend = "admin:\n  allow_paths:\n    - prefix: /clusters\n    - prefix: /config_dump\n    - exact: /runtime\n    - prefix: /stats\n# or --envoy-config FILE";
                let finding = doctor::of_source(&source, Code::Hidden, &seen, mend);
                gathered.findings.push(finding);
            }
        }
        Ok((_, config)) => {
            let clusters = get(&target, "/clusters?format=json")?.ok();
            let clusters = clusters.filter(|(status, _)| *status == 200);
            let clusters = clusters.as_ref().map(|(_, body)| body.as_slice());
            match envoy::running(&config, clusters) {
                Ok(envoy) => {
                    gathered.reached += 1;
                    learn(known, doctor::known(&envoy, only));
                    let found = doctor::of_envoy(&source, &envoy, only);
                    gathered.findings.extend(found);
                }
                Err(error) => {
                    let why = error.to_string();
                    let finding = doctor::of_source(&source, Code::NoAdmin, &why, mend);
                    gathered.findings.push(finding);
                }
            }
        }
    }
    gathered.names(&source);
    Ok(())
}

fn companion(
    flags: &DoctorFlags,
    url: &str,
    gathered: &mut Gathered,
    known: &[Known],
) -> Result<(), AskError> {
    let source = without_login(url);
    let target = flags.target(url, flags.token.as_deref());
    gathered.names(&source);
    let mend = "unitring serve  # and --url is its address (listen)";
    let missing = |why: &str| doctor::of_source(&source, Code::NoCompanion, why, mend);
    // An error has the URL that was asked.
    let text = |error: AskError| error.to_string().replace(url, &source);
    let ready = match ask(&target, "/readyz") {
        Ok(ready) if is_readiness(&ready) => ready,
        // An older companion, or one that is not for us, says why.
        Ok(other) => {
            let why = other.get("error").and_then(Value::as_str);
            let why = why.unwrap_or("what answers there is no companion");
            gathered.findings.push(missing(why));
            return Ok(());
        }
        Err(error @ AskError::Usage(_)) => return Err(error),
        Err(error) => {
            gathered.findings.push(missing(&text(error)));
            return Ok(());
        }
    };
    gathered.reached += 1;
    let answers = Answers {
        ready,
        units: ask(&target, "/v1/units").map_err(text),
        services: services(&target, "").map_err(text),
        // There is no group unless the settings name its servers.
        group: ask(&target, "/v1/group").ok(),
    };
    let only = flags.service.as_deref();
    let found = doctor::of_companion(&source, &answers, known, only);
    gathered.findings.extend(found);
    Ok(())
}
