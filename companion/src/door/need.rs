//! The role and bounds that a request needs, from its method and path alone, before its body is read.

use std::borrow::Cow;

use axum::http::Method;
use percent_encoding::percent_decode_str;
use unitring_protocol::record::VALUE_BYTES_MAX;

use super::credentials::Role;

/// The largest report, in bytes.
pub(crate) const REPORT_BYTES_MAX: usize = 4 << 20;
/// The largest batch of writes, in bytes.
pub(crate) const BATCH_BYTES_MAX: usize = 8 << 20;
/// The largest batch of data updates, in bytes.
pub(crate) const UPDATES_BYTES_MAX: usize = 8 << 20;
/// The largest other body, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;

/// What a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need<'a> {
    /// Any of these roles.
    pub roles: &'static [Role],
    pub scope: Scope<'a>,
    /// The quota that it is counted in.
    pub kind: Kind,
    /// The largest body, in bytes.
    pub body_max: usize,
    /// Whether it needs no credential.
    pub is_open: bool,
}

/// The scope that a role has to cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// A scope that no credential limits.
    All,
    /// The instances of a service.
    Service(Cow<'a, str>),
    /// The records of a dataset.
    Dataset(Cow<'a, str>),
    /// Records of any dataset.
    AllDatasets,
}

/// The quota that a request is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Reports and heartbeats: without them living instances and loads would be forgotten.
    Report,
    Read,
    /// Writes of records, and of everything else.
    Write,
    /// Readiness and metrics: they are needed most when all else is busy.
    Look,
}

impl Need<'_> {
    /// Whether nothing is changed.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Read | Kind::Look)
    }
}

/// What a request needs.
pub(crate) fn need<'a>(method: &Method, path: &'a str) -> Need<'a> {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let kind = if is_read { Kind::Read } else { Kind::Write };
    let needs = |roles, scope, kind| Need {
        roles,
        scope,
        kind,
        body_max: BODY_BYTES_MAX,
        is_open: false,
    };
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (parts.as_slice(), is_read) {
        (["readyz"], true) => Need {
            is_open: true,
            ..needs(&[Role::Read], Scope::All, Kind::Look)
        },
        // All clients get the same files, with nothing of this unit: what the page asks for needs a role of its own.
        (["ui", ..], true) => Need {
            is_open: true,
            ..needs(&[Role::Read], Scope::All, kind)
        },
        (["metrics"], true) => needs(&[Role::Read], Scope::All, Kind::Look),
        (["v1", "reports"], _) => Need {
            body_max: REPORT_BYTES_MAX,
            ..needs(&[Role::Report], Scope::All, Kind::Report)
        },
        // Which datasets it may update is decided update by update: see [`update_of`].
        (["v1", "updates"], false) => Need {
            body_max: UPDATES_BYTES_MAX,
            ..needs(&[Role::Report], Scope::All, Kind::Write)
        },
        (["v1", "services", service, "instances", ..], false) => {
            let scope = Scope::Service(decoded(service));
            needs(&[Role::Register], scope, Kind::Report)
        }
        (["v1", "services", service, "instances" | "snapshot"], true) => {
            let roles = &[Role::Read, Role::Report, Role::Register];
            needs(roles, Scope::Service(decoded(service)), kind)
        }
        (["v1", "services", service], true) => {
            let scope = Scope::Service(decoded(service));
            needs(&[Role::Read, Role::Register], scope, kind)
        }
        (["v1", "data", dataset, ..], _) => {
            let roles: &[Role] = match is_read {
                true => &[Role::Read],
                false => &[Role::Write],
            };
            let body_max = match parts.len() {
                3 => BATCH_BYTES_MAX,
                _ => VALUE_BYTES_MAX,
            };
            Need {
                body_max,
                ..needs(roles, Scope::Dataset(decoded(dataset)), kind)
            }
        }
        (["v1", "conflicts" | "fixed" | "units", ..], true) => {
            needs(&[Role::Read], Scope::AllDatasets, kind)
        }
        (_, true) => needs(&[Role::Read], Scope::All, kind),
        (_, false) => needs(&[Role::Admin], Scope::All, kind),
    }
}

/// The need of one data update in a batch.
pub(crate) fn update_of(dataset: &str) -> Need<'_> {
    Need {
        roles: &[Role::Report],
        scope: Scope::Dataset(Cow::Borrowed(dataset)),
        kind: Kind::Write,
        body_max: VALUE_BYTES_MAX,
        is_open: false,
    }
}

fn decoded(part: &str) -> Cow<'_, str> {
    percent_decode_str(part).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_and_the_files_of_the_console_need_no_credential_and_nothing_else_does() {
        let is_open = |method: Method, path| need(&method, path).is_open;
        for path in ["/readyz", "/ui", "/ui/", "/ui/app.js"] {
            assert!(is_open(Method::GET, path), "{path}");
            assert!(!is_open(Method::POST, path), "{path}");
        }
        for path in ["/v1/ui", "/uix", "/v1/services", "/metrics", "/"] {
            assert!(!is_open(Method::GET, path), "{path}");
        }
    }

    #[test]
    fn each_path_needs_what_it_changes() {
        let of = |method: Method, path| {
            let need = need(&method, path);
            let roles: Vec<&str> = need.roles.iter().map(|role| role.as_str()).collect();
            (roles.join(" "), format!("{:?}", need.scope), need.kind)
        };
        let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
        for (method, path, roles, scope, kind) in [
            (&post, "/v1/reports", "report", "All", Kind::Report),
            (
                &put,
                "/v1/services/a%2Fb/instances/x",
                "register",
                "Service(\"a/b\")",
                Kind::Report,
            ),
            (
                &get,
                "/v1/services/a/instances",
                "read report register",
                "Service(\"a\")",
                Kind::Read,
            ),
            (&get, "/v1/services", "read", "All", Kind::Read),
            (
                &put,
                "/v1/data/carts/a/b",
                "write",
                "Dataset(\"carts\")",
                Kind::Write,
            ),
            (
                &post,
                "/v1/data/c%61rts",
                "write",
                "Dataset(\"carts\")",
                Kind::Write,
            ),
            (
                &get,
                "/v1/data/carts",
                "read",
                "Dataset(\"carts\")",
                Kind::Read,
            ),
            (&get, "/v1/conflicts", "read", "AllDatasets", Kind::Read),
            (&post, "/v1/updates", "report", "All", Kind::Write),
            (&post, "/v1/compact", "admin", "All", Kind::Write),
            (&put, "/v1/units/west", "admin", "All", Kind::Write),
            (
                &Method::DELETE,
                "/v1/services/a",
                "admin",
                "All",
                Kind::Write,
            ),
            (&post, "/nowhere", "admin", "All", Kind::Write),
            (&get, "/metrics", "read", "All", Kind::Look),
        ] {
            let expected = (roles.to_owned(), scope.to_owned(), kind);
            assert_eq!(of(method.clone(), path), expected, "{method} {path}");
        }
    }
}
