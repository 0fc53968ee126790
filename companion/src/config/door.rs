//! Credentials with their roles, encryption of connections, and the explicit consent to do without them.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::ConfigError;
use super::raw::{Raw, Said};
use super::secret::Secret;
use super::sections::tls_files;

/// Credentials with their roles, and how connections are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DoorSettings {
    /// The token that may do everything, if any.
    pub token: Option<Secret>,
    /// A file of further tokens, each with its roles.
    pub tokens_file: Option<PathBuf>,
    /// The text of such a file.
    pub tokens: Option<Secret>,
    /// Whether reads need no token although tokens exist.
    pub open_reads: bool,
    /// Names of this companion that a client may use besides its addresses.
    pub host_names: Vec<String>,
    /// Whether strangers may connect without encryption and without a token.
    pub allow_insecure: bool,
    /// The files for TLS; `None` for plain connections.
    pub tls: Option<TlsServer>,
}

/// The files for TLS on the addresses that the companion listens on, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsServer {
    /// Our certificate, and the certificates that lead to a root.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The roots of clients' certificates: a client without a certificate of theirs gets no connection.
    pub client_ca: Option<PathBuf>,
}

impl DoorSettings {
    /// Whether some requests need a token or a certificate.
    pub(crate) fn has_credentials(&self) -> bool {
        self.token.is_some() || self.tokens.is_some() || self.tokens_file.is_some()
    }
}

pub(super) fn door(
    raw: &mut Raw,
    addresses: &[(&'static str, SocketAddr)],
) -> Result<DoorSettings, ConfigError> {
    let token = raw.take("token").secret().given();
    let token = token.map(visible).transpose()?;
    let tokens_file = raw.take("tokens_file").given();
    let tokens = raw.take("tokens").secret().given();
    let host_names = raw.take("host_names").or("");
    let names = host_names.text.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    let door = DoorSettings {
        token,
        tokens_file: tokens_file.map(|said| PathBuf::from(said.text)),
        tokens: tokens.map(|said| Secret::new(said.text)),
        open_reads: switch(raw.take("open_reads"))?,
        host_names: names.map(str::to_ascii_lowercase).collect(),
        allow_insecure: switch(raw.take("allow_insecure"))?,
        tls: tls(raw)?,
    };
    for (field, address) in addresses {
        is_safe(field, *address, &door)?;
    }
    Ok(door)
}

/// A token that a header can carry.
fn visible(said: Said) -> Result<Secret, ConfigError> {
    match is_token(&said.text) {
        true => Ok(Secret::new(said.text)),
        false => Err(said.breaks(TOKEN)),
    }
}

/// The rule of a token.
pub(crate) const TOKEN: &str = "must be 1 to 4096 visible ASCII characters without blanks";

/// Whether a header can carry it, and it is more than blanks.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=4096).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn switch(said: Said) -> Result<bool, ConfigError> {
    let said = said.or("false");
    let text = said.text.parse();
    text.map_err(|_| said.breaks("must be true or false"))
}

fn tls(raw: &mut Raw) -> Result<Option<TlsServer>, ConfigError> {
    let files = tls_files(raw, ["tls_client_ca", "tls_cert", "tls_key"])?;
    match (files.identity, files.ca) {
        (Some((certificate, key)), client_ca) => Ok(Some(TlsServer {
            certificate,
            key,
            client_ca,
        })),
        (None, Some(client_ca)) => Err(ConfigError::Field {
            path: "tls_client_ca".to_owned(),
            value: format!("{client_ca:?}"),
            rule: "needs tls_cert and tls_key".to_owned(),
        }),
        (None, None) => Ok(None),
    }
}

/// Refuses an address that other machines reach, if a stranger could write there or read the traffic.
///
/// # Errors [`ConfigError::Field`].
pub(crate) fn is_safe(
    field: &'static str,
    address: SocketAddr,
    door: &DoorSettings,
) -> Result<(), ConfigError> {
    let has_clients = door.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let missing: Vec<&str> = [
        (
            !door.has_credentials() && !has_clients,
            "a token (token or tokens_file)",
        ),
        (door.tls.is_none(), "TLS (tls_cert and tls_key)"),
    ]
    .into_iter()
    .filter_map(|(is_missing, what)| is_missing.then_some(what))
    .collect();
    if address.ip().to_canonical().is_loopback() || door.allow_insecure || missing.is_empty() {
        return Ok(());
    }
    Err(ConfigError::Field {
        path: field.to_owned(),
        value: format!("{:?}", address.to_string()),
        rule: format!(
            "is beyond loopback, which needs {}; allow_insecure = true serves without",
            missing.join(" and ")
        ),
    })
}
