//! `service`: what the companion knows of services.

use clap::{Args, Subcommand};
use serde_json::Value;
use unitring_protocol::ids::ServiceName;

use super::sure::Sure;
use super::values;
use crate::client::Target;
use crate::client::ask::{AskError, call, count, escape, list, services, text};

/// What is done to services.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Show the services with registered instances or reporting Envoys.
    List(ListServices),
    /// Forget a service without registered instances and reporting Envoys, and its counters, at once. The companion
    /// forgets such a service by itself ten minutes after the last report on it.
    Forget(ForgetService),
}

/// How to show services.
#[derive(Debug, Args)]
pub(crate) struct ListServices {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

/// Which service.
#[derive(Debug, Args)]
pub(crate) struct ForgetService {
    /// The service.
    #[arg(value_parser = values::name::<ServiceName>)]
    pub service: String,
    /// Whether to ask first.
    #[command(flatten)]
    pub sure: Sure,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

/// Runs the command, and prints what it did.
///
/// # Errors
/// [`AskError`].
pub(crate) fn run(command: &ServiceCommand) -> Result<String, AskError> {
    match command {
        ServiceCommand::List(ListServices { json, target }) => {
            let services = services(target, "")?;
            Ok(if *json {
                format!("{:#}\n", Value::from(services))
            } else if services.is_empty() {
                "no service is known\n".to_owned()
            } else {
                services.iter().map(line).collect()
            })
        }
        ServiceCommand::Forget(ForgetService {
            service,
            sure,
            target,
        }) => {
            sure.ask(&format!("forget service {service} and its counters"))?;
            let path = format!("/v1/services/{}", escape(service));
            call(target, "DELETE", &path, None)?;
            Ok(format!("service {service} is forgotten\n"))
        }
    }
}

fn line(service: &Value) -> String {
    format!(
        "{}: {}, {}\n",
        text(service, "/service"),
        count(list(service, "/registry").len(), "registered instance"),
        count(list(service, "/reporters").len(), "reporting Envoy"),
    )
}
