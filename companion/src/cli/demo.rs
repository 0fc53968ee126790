//! The flags of `unitring demo`.

use std::path::PathBuf;

use clap::Args;

/// What the demo starts, and from where.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoFlags {
    /// How many units: 1, or 2 that sync (needs redis-server and rabbitmq-server on PATH).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=2))]
    pub units: u16,
    /// A service of TCP connections (envoy/tcp.yaml) instead of HTTP requests.
    #[arg(long)]
    pub tcp: bool,
    /// The native module (envoy/native.yaml) instead of the filter; needs Envoy 1.40.
    #[arg(long)]
    pub native: bool,
    /// First of the ports to use; fails if one of them is in use. Without it: the default ports, or the
    /// next free ones; with --only-instances 8081 to 8084.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65000))]
    pub port_base: Option<u16>,
    /// The Envoy to start, if it is not the one on PATH.
    #[arg(long, env = "UNITRING_ENVOY", value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    /// The filter, if it is not beside this program.
    #[arg(long, env = "UNITRING_FILTER", value_name = "FILE")]
    pub filter: Option<PathBuf>,
    /// The native module, if it is not beside this program.
    #[arg(
        long,
        env = "UNITRING_MODULE",
        value_name = "FILE",
        requires = "native"
    )]
    pub module: Option<PathBuf>,
    /// Folder for logs and data; a new one in the folder for temporary files by default.
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// Start four instances on the ports that envoy/envoy.yaml names, and nothing else; fails if one of them is in use.
    #[arg(long, conflicts_with_all = ["units", "native", "folder"])]
    pub only_instances: bool,
}
