//! The command line: the commands, and the flag and environment variable of each field. The work of a command is in
//! [`crate::serve`], or asks a running companion through [`crate::client`].

pub(crate) mod data;
pub(crate) mod dataset;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod failure;
mod fields;
pub(crate) mod group;
pub(crate) mod instance;
pub(crate) mod locate;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod store;
mod stream;
pub(crate) mod sure;
pub(crate) mod unit;
mod values;
pub(crate) mod variables;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::{InstanceId, ServiceName};

use crate::client::Target;
use crate::commit;
use crate::registry::WEIGHT_MAX;
use crate::store::LAYOUT;
use crate::top::TopFlags;
pub(crate) use fields::Fields;

/// The version, and the protocol versions that must agree between programs.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\ncommit    {}\nlayout    {LAYOUT}, of the data in Redis\nprotocol  {PROTOCOL_VERSION}, between filters, companions and units",
        env!("CARGO_PKG_VERSION"),
        commit::get(),
    )
});

/// The companion of unitring's Envoy filter.
#[derive(Debug, Parser)]
#[command(name = "unitring", version, long_version = LONG_VERSION.as_str(), about, long_about = None)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a demo: Envoy with the filter, the companion and four instances, and print requests to try.
    Demo(demo::DemoFlags),
    /// Serve a unit: registry, fleet load, records, sync.
    Serve(Fields),
    /// Check the configuration and print the settings in force, without secrets.
    Check(Fields),
    /// Show which instance a key goes to, and why.
    Locate(Locate),
    /// Create the unit's group of Redis servers, or show its state.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Read and write records of a running companion.
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Show and change the registry: add an instance, let it drain, remove it.
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Show services, or forget an unused one.
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Show the other units, remove one from the group, or add it again.
    #[command(subcommand)]
    Unit(unit::UnitCommand),
    /// Compact the embedded store.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Show the events of instances and of the unit's servers: ejected, recovered, overloaded.
    Events(events::Events),
    /// Show conflicts: changes that were overwritten by a concurrent change of another unit.
    Conflicts(unit::Conflicts),
    /// Show the state of a running companion, its unit and its services. Exit code 0 if all is well, 1 if
    /// something is degraded, 2 if no companion answers.
    Status(status::StatusFlags),
    /// Find mistakes in the configuration of Envoy, in a running Envoy and in a companion: each finding with its
    /// consequence and its mend. Exit code 1 if a finding is at or above --fail-on, 2 if no source could be
    /// reached.
    Doctor(doctor::DoctorFlags),
    /// Watch a running companion on the terminal: services, instances, Envoys, units and events, with rates.
    Top(TopFlags),
    /// Print the version and commit of this program, and the layout and the protocol that programs must agree on.
    Version,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// The folder, which must exist.
        folder: PathBuf,
    },
}

/// The weights that an instance may have.
const WEIGHTS: RangeInclusive<i64> = 1..=WEIGHT_MAX as i64;

/// What is done to instances.
#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// Show the registered instances of a service.
    List {
        /// The service.
        #[arg(long, value_parser = values::name::<ServiceName>)]
        service: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which companion.
        #[command(flatten)]
        target: Target,
    },
    /// Register an instance, or change a registered one.
    Add {
        /// Which.
        #[command(flatten)]
        one: OneInstance,
        /// The address that requests to the instance go to.
        #[arg(long, value_name = "IP:PORT", value_parser = values::address)]
        address: Option<SocketAddr>,
        /// Its weight: its share of the keys is this, divided by the sum of all weights.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(WEIGHTS))]
        weight: u32,
        /// Time to live, such as 30s: the companion removes the instance then, unless it is added again. Without this flag
        /// it stays.
        #[arg(long, value_parser = values::instance_ttl)]
        ttl: Option<String>,
    },
    /// Drain an instance: it gets no new keys and finishes its requests. A heartbeat does not end the draining.
    Drain(OneInstance),
    /// End the draining of an instance: it gets its keys again.
    Undrain(OneInstance),
    /// Remove an instance from the registry.
    Remove {
        /// Which.
        #[command(flatten)]
        one: OneInstance,
        /// Whether to ask first.
        #[command(flatten)]
        sure: sure::Sure,
    },
}

/// Which instance.
#[derive(Debug, Args)]
pub(crate) struct OneInstance {
    /// The service.
    #[arg(long, value_parser = values::name::<ServiceName>)]
    pub service: String,
    /// The instance, as it was registered.
    #[arg(long, value_parser = values::name::<InstanceId>)]
    pub id: String,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

/// What `locate` asks.
#[derive(Debug, clap::Args)]
pub(crate) struct Locate {
    /// The value that the filter would hash.
    #[arg(long)]
    pub key: String,
    /// The service; needed only if the companion knows more than one.
    #[arg(long, value_parser = values::name::<ServiceName>)]
    pub service: Option<String>,
    /// Also show which keys would move without this instance.
    #[arg(long, value_name = "INSTANCE", value_parser = values::name::<InstanceId>)]
    pub without: Option<String>,
    /// Also show what would move if this instance were added: its ip:port, or its id with --address.
    #[arg(long, value_name = "INSTANCE", value_parser = values::name::<InstanceId>)]
    pub with: Option<String>,
    /// The address of the instance of --with.
    #[arg(long, value_name = "IP:PORT", requires = "with", value_parser = values::address)]
    pub address: Option<SocketAddr>,
    /// The weight of the instance of --with.
    #[arg(long, requires = "with", value_parser = clap::value_parser!(u32).range(WEIGHTS))]
    pub weight: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

#[cfg(test)]
mod tests;
