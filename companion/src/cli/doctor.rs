//! `unitring doctor`: reads files, asks Envoy and a companion, sends probes, and shows what [`crate::doctor`] finds in
//! all of that.

mod fetch;
mod gather;
mod probe;
mod show;

use std::path::PathBuf;
use std::sync::OnceLock;

use clap::{Args, ValueEnum};

use crate::client::ask::AskError;
use crate::client::exit::Exit;
use crate::client::{Certificates, Target};
use crate::doctor::{Finding, Severity};
use crate::output::say_in_colour;
use gather::Gathered;

/// Most keys that are probed.
const PROBES_MAX: u32 = 1_000;

/// What `doctor` looks at.
#[derive(Debug, Args)]
pub(crate) struct DoctorFlags {
    /// Configurations of Envoy: bootstraps in YAML or JSON.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub envoy_config: Vec<PathBuf>,
    /// The admin interface of a running Envoy, such as http://127.0.0.1:9901.
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// A companion's HTTP address. UNITRING_URL has no effect here: a check of a file asks no server.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The companion's bearer token.
    #[arg(long, env = "UNITRING_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// URL of a listener: doctor sends requests to it, and compares the instance that answers with the one that the
    /// companion names.
    #[arg(long, value_name = "URL", requires = "url")]
    pub probe: Option<String>,
    /// Number of keys to probe, each with a GET.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "probe",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(PROBES_MAX)))]
    pub probes: u32,
    /// The header that carries the key. Default: the first source of the filter's key.
    #[arg(long, value_name = "NAME", requires = "probe")]
    pub key_header: Option<String>,
    /// The header of answers that names the instance, for a filter without explain.
    #[arg(long, value_name = "NAME", requires = "probe")]
    pub instance_header: Option<String>,
    /// Only this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The lowest severity at which a finding ends the program with 1.
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOn::Error)]
    pub fail_on: FailOn,
    /// Certificates for https://.
    #[command(flatten)]
    pub certificates: Certificates,
}

/// From which severity on findings count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// Errors.
    Error,
    /// Errors and warnings.
    Warn,
}

impl DoctorFlags {
    /// Where a request goes, with the certificates of the command line.
    fn target(&self, url: &str, token: Option<&str>) -> Target {
        Target {
            url: url.to_owned(),
            token: token.map(str::to_owned),
            certificates: self.certificates.clone(),
            is_known: OnceLock::new(),
        }
    }

    /// How the program ends with these findings.
    fn exit(&self, findings: &[Finding]) -> Exit {
        let counts = match self.fail_on {
            FailOn::Error => Severity::Error,
            FailOn::Warn => Severity::Warn,
        };
        match findings.iter().any(|finding| finding.severity >= counts) {
            true => Exit::Failure,
            false => Exit::Success,
        }
    }
}

/// Prints the findings.
///
/// # Errors
/// [`AskError`]: the command line is wrong, or a file that it names cannot be read. Or standard output is full.
pub(crate) fn run(flags: &DoctorFlags) -> anyhow::Result<Exit> {
    if flags.envoy_config.is_empty() && flags.admin.is_none() && flags.url.is_none() {
        let error = "at least one of --envoy-config, --admin and --url is needed";
        return Err(AskError::Usage(error.to_owned()).into());
    }
    let gathered = gather::gather(flags)?;
    let text = match flags.json {
        true => format!("{:#}\n", show::json(&gathered)),
        false => show::text(&gathered),
    };
    say_in_colour(&text)?;
    let Gathered {
        findings, reached, ..
    } = &gathered;
    match reached {
        0 => Ok(Exit::Unreachable),
        _ => Ok(flags.exit(findings)),
    }
}
