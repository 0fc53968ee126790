//! Questions to a running companion, as the command line and `top` ask them.
//!
//! | module | what |
//! |---|---|
//! | [`ask`] | a path → its answer, or why there is none |
//! | [`readiness`] | whether a companion answers there |
//! | [`url`] | URLs of the command line |
//! | [`exit`] | how a program ends that got no answer |

pub(crate) mod ask;
pub(crate) mod exit;
pub(crate) mod readiness;
pub(crate) mod url;

use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Args;

/// A running companion.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The companion's HTTP address.
    #[arg(long, env = "UNITRING_URL", default_value = "http://127.0.0.1:7001")]
    pub url: String,
    /// The companion's bearer token.
    #[arg(long, env = "UNITRING_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Certificates for https://.
    #[command(flatten)]
    pub certificates: Certificates,
    /// Set once a companion has answered there.
    #[arg(skip)]
    pub(crate) is_known: OnceLock<()>,
}

/// The certificates of a request by https://.
#[derive(Debug, Clone, Args)]
pub(crate) struct Certificates {
    /// File of the roots that are trusted for https://, PEM. Default: the public ones.
    #[arg(long, env = "UNITRING_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File of our certificate for https://, PEM, if the server wants one.
    #[arg(
        long,
        env = "UNITRING_CERT",
        value_name = "FILE",
        requires = "key_file"
    )]
    pub cert: Option<PathBuf>,
    /// File of the private key of that certificate, PEM.
    #[arg(
        long = "key-file",
        env = "UNITRING_KEY_FILE",
        value_name = "FILE",
        requires = "cert"
    )]
    pub key_file: Option<PathBuf>,
}
