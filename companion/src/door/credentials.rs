//! Credentials: tokens and certificates with their roles.

mod file;

use std::collections::BTreeSet;
use std::fmt;
#[cfg(test)]
use std::net::IpAddr;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::Address;
use super::need::{Need, Scope};
use crate::config::{DoorSettings, Secret};

pub(crate) use file::KeyringError;
use file::{invalid, parse};

/// Most credentials.
const CREDENTIALS_MAX: usize = 1_024;

/// A role of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Report loads and data updates, as filters do, and read what they need: instances and their loads.
    Report,
    /// Register instances of services, drain and remove them.
    Register,
    /// Read everything.
    Read,
    /// Write records.
    Write,
    /// Everything, the unit and its group included.
    Admin,
}

impl Role {
    const NAMES: [(&'static str, Self); 5] = [
        ("report", Self::Report),
        ("register", Self::Register),
        ("read", Self::Read),
        ("write", Self::Write),
        ("admin", Self::Admin),
    ];

    /// Its name in a file of tokens.
    pub(crate) fn as_str(self) -> &'static str {
        let mut names = Self::NAMES.iter();
        let name = names.find(|(_, role)| *role == self);
        name.map_or("admin", |(name, _)| name)
    }
}

/// A token or a certificate, and the roles of its holder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    name: String,
    proof: Proof,
    roles: BTreeSet<Role>,
    /// The services whose instances it may change; empty for all.
    services: Vec<String>,
    /// The datasets whose records it may read, write and update; empty for all.
    datasets: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Proof {
    Token(Secret),
    /// A name in a client's certificate.
    Certificate(String),
}

#[derive(Debug, Default)]
pub(crate) struct Keyring {
    all: Vec<Arc<Credential>>,
    /// Whether the settings name credentials: then no client passes without one, even if a file has lost them.
    is_needed: bool,
    open_reads: bool,
}

/// The sender of a request.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    /// A client with a credential.
    Known(Arc<Credential>),
    /// A client without a credential, where the request needs none.
    Stranger,
}

/// The sender of a request, and its address.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub who: Who,
    /// From where.
    pub address: Address,
}

/// A client as far as quotas go: the credential, or else the address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Principal {
    /// The credential of this name.
    Credential(String),
    /// All clients without a credential at this address.
    Address(Address),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "token {name}"),
            Self::Address(address) => write!(f, "address {address}"),
        }
    }
}

impl Caller {
    /// A client without a credential.
    #[cfg(test)]
    pub(crate) fn stranger(address: IpAddr) -> Self {
        Self {
            who: Who::Stranger,
            address: address.into(),
        }
    }

    /// The principal whose quotas count.
    pub(crate) fn principal(&self) -> Principal {
        match &self.who {
            Who::Known(credential) => Principal::Credential(credential.name.clone()),
            Who::Stranger => Principal::Address(self.address),
        }
    }

    /// Whether it may do this, as far as its credential goes.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub(crate) fn may(&self, need: &Need<'_>) -> Result<(), Denied> {
        match &self.who {
            Who::Known(credential) => credential.may(need),
            Who::Stranger => Ok(()),
        }
    }

    /// Whether it has shown a credential.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.who, Who::Known(_))
    }
}

/// Why a request is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// No credential.
    #[error("authorization: a bearer token is needed for this")]
    Unknown,
    /// A token that no credential has.
    #[error("authorization: this is not this companion's token")]
    Wrong,
    /// The credential may not do this.
    #[error("authorization: {0}")]
    Forbidden(String),
}

impl Keyring {
    /// The credentials of the settings and of the file that they name.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub(crate) fn read(door: &DoorSettings) -> Result<Self, KeyringError> {
        let mut keyring = Self {
            all: Vec::new(),
            is_needed: door.has_credentials(),
            open_reads: door.open_reads,
        };
        if let Some(token) = &door.token {
            keyring.all.push(Arc::new(Credential {
                name: "admin".to_owned(),
                proof: Proof::Token(token.clone()),
                roles: [Role::Admin].into(),
                services: Vec::new(),
                datasets: Vec::new(),
            }));
        }
        if let Some(path) = &door.tokens_file {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|source| KeyringError::Unreadable {
                path: path.clone(),
                source,
            })?;
            keyring.add(parse(&path.display().to_string(), &text)?)?;
        }
        if let Some(tokens) = &door.tokens {
            keyring.add(parse("tokens", tokens.reveal())?)?;
        }
        Ok(keyring)
    }

    /// Whether some requests need a credential.
    pub(crate) fn is_needed(&self) -> bool {
        self.is_needed
    }

    /// Adds credentials, each with the place where it stands.
    fn add(&mut self, credentials: Vec<(String, Credential)>) -> Result<(), KeyringError> {
        for (place, credential) in credentials {
            if self.all.len() >= CREDENTIALS_MAX {
                let rule = format!("must be at most {CREDENTIALS_MAX} tokens");
                return Err(invalid(&place, rule));
            }
            if self.all.iter().any(|other| other.name == credential.name) {
                return Err(invalid(&place, "must have another name: it is taken"));
            }
            if self.all.iter().any(|other| other.proof == credential.proof) {
                return Err(invalid(&place, "must differ from the others"));
            }
            self.all.push(Arc::new(credential));
        }
        Ok(())
    }

    /// Identifies the client, and checks that its credential meets the need.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn admit(
        &self,
        authorization: Option<&[u8]>,
        certificate_names: &[String],
        need: &Need<'_>,
    ) -> Result<Who, Denied> {
        if !self.is_needed {
            return Ok(Who::Stranger);
        }
        match self.who(authorization, certificate_names) {
            Ok(credential) => {
                credential.may(need)?;
                Ok(Who::Known(credential))
            }
            // A wrong token is refused even where none is needed: its sender believes that it counts.
            Err(Denied::Unknown) if need.is_open || (self.open_reads && need.is_read()) => {
                Ok(Who::Stranger)
            }
            Err(denied) => Err(denied),
        }
    }

    fn who(
        &self,
        authorization: Option<&[u8]>,
        certificate_names: &[String],
    ) -> Result<Arc<Credential>, Denied> {
        if let Some(given) = authorization {
            let token = bearer(given).ok_or(Denied::Unknown)?;
            // All are compared, each in constant time, so that the time tells nothing about any.
            let found = self.all.iter().fold(None, |found, credential| {
                let Proof::Token(token_of) = &credential.proof else {
                    return found;
                };
                let is_same: bool = token_of.reveal().as_bytes().ct_eq(token).into();
                if is_same { Some(credential) } else { found }
            });
            return found.cloned().ok_or(Denied::Wrong);
        }
        let found = self.all.iter().find(|credential| match &credential.proof {
            Proof::Certificate(name) => certificate_names.contains(name),
            Proof::Token(_) => false,
        });
        found.cloned().ok_or(Denied::Unknown)
    }
}

/// The token of a header, whose scheme may be in any case.
fn bearer(given: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = given.split_at_checked(b"bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && rest.first() == Some(&b' ');
    let token = rest.trim_ascii();
    (is_bearer && !token.is_empty()).then_some(token)
}

impl Credential {
    fn may(&self, need: &Need<'_>) -> Result<(), Denied> {
        if need.is_open || self.roles.contains(&Role::Admin) {
            return Ok(());
        }
        if !need.roles.iter().any(|role| self.roles.contains(role)) {
            let any: Vec<&str> = need.roles.iter().map(|role| role.as_str()).collect();
            let why = format!("{} lacks the role {}", self.name, any.join(" or "));
            return Err(Denied::Forbidden(why));
        }
        let (allowed, kind, name) = match &need.scope {
            // Its holder may read everything, as any reader.
            Scope::Service(_) if self.roles.contains(&Role::Read) && need.is_read() => {
                return Ok(());
            }
            Scope::Service(name) => (&self.services, "service", name.as_ref()),
            Scope::Dataset(name) => (&self.datasets, "dataset", name.as_ref()),
            Scope::AllDatasets if self.datasets.is_empty() => return Ok(()),
            Scope::AllDatasets => {
                let why = format!("{} may not read all datasets", self.name);
                return Err(Denied::Forbidden(why));
            }
            Scope::All => return Ok(()),
        };
        match allowed.is_empty() || allowed.iter().any(|pattern| fits(pattern, name)) {
            true => Ok(()),
            false => Err(Denied::Forbidden(format!(
                "{} has other {kind}s than {name:?}",
                self.name
            ))),
        }
    }
}

/// Whether a name is the pattern, or begins as a pattern that ends in `*` does.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests;
