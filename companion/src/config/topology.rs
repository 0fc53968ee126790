//! The servers behind a Redis URL: one server, the primary that Sentinels name, or a Redis Cluster.
//! Pure.
//!
//! ```text
//! redis[s]://[user:password@]host[:port][/db]                             one server
//! redis[s]-sentinel://[user:password@]host[:port],…/<name of the primary>[/db]
//! redis[s]-cluster://[user:password@]host[:port],…
//! ```
//! User and password are those of the servers; `rediss` is TLS.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};

use super::Url;
use super::secret::ENCODED;

/// The default port of a Sentinel.
const SENTINEL_PORT: &str = "26379";
/// Most hosts in a URL.
const HOSTS_MAX: usize = 64;

/// The servers behind a URL.
#[derive(Debug, Clone)]
pub(crate) enum Topology {
    /// One server, or a name that resolves to the primary.
    One(Box<ConnectionInfo>),
    /// The server that the Sentinels name as the primary.
    Sentinel(Sentinels),
    /// The primaries of a Redis Cluster that these nodes belong to.
    Cluster(Vec<ConnectionInfo>),
}

/// The Sentinels, and the login at the primary.
#[derive(Debug, Clone)]
pub(crate) struct Sentinels {
    pub(crate) addresses: Vec<ConnectionAddr>,
    /// The Sentinels' name of the primary.
    pub(crate) name: String,
    /// User, password and database at the primary, and whether it uses TLS; the address is unused.
    pub(crate) login: Box<ConnectionInfo>,
}

impl Sentinels {
    /// Whether Sentinels and servers use TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.login.addr(), ConnectionAddr::TcpTls { .. })
    }
}

impl Topology {
    /// Parses a URL.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn of(url: &Url) -> Result<Self, String> {
        let rule = "must start with one of redis://, redis-sentinel://, redis-cluster:// (rediss for TLS), \
                    unix://";
        let (scheme, rest) = url.reveal().split_once("://").ok_or(rule)?;
        if url.has_late_at() {
            return Err(ENCODED.to_owned());
        }
        match scheme {
            "redis" | "rediss" | "unix" | "redis+unix" => {
                Ok(Self::One(Box::new(read(url.reveal())?)))
            }
            "redis-sentinel" => sentinel("redis", rest),
            "rediss-sentinel" => sentinel("rediss", rest),
            "redis-cluster" => cluster("redis", rest),
            "rediss-cluster" => cluster("rediss", rest),
            _ => Err(rule.to_owned()),
        }
    }
}

fn sentinel(scheme: &str, rest: &str) -> Result<Topology, String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, db) = path.split_once('/').unwrap_or((path, ""));
    if name.is_empty() {
        return Err("must name the primary, as the Sentinels do: …/mymaster".to_owned());
    }
    let (login, hosts) = hosts(authority)?;
    let addresses: Result<Vec<ConnectionAddr>, String> = hosts
        .iter()
        .map(|host| {
            // A port within brackets is not one: [::1].
            let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
            let host = if has_port {
                (*host).to_owned()
            } else {
                format!("{host}:{SENTINEL_PORT}")
            };
            Ok(read(&format!("{scheme}://{host}"))?.addr().clone())
        })
        .collect();
    Ok(Topology::Sentinel(Sentinels {
        addresses: addresses?,
        name: name.to_owned(),
        login: Box::new(read(&format!("{scheme}://{login}primary/{db}"))?),
    }))
}

fn cluster(scheme: &str, rest: &str) -> Result<Topology, String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err("must name no database: a Redis Cluster has only one".to_owned());
    }
    let (login, hosts) = hosts(authority)?;
    let nodes = hosts
        .iter()
        .map(|host| read(&format!("{scheme}://{login}{host}")));
    let nodes: Result<Vec<ConnectionInfo>, String> = nodes.collect();
    Ok(Topology::Cluster(nodes?))
}

/// `user:password@` or nothing, and the hosts after it.
fn hosts(authority: &str) -> Result<(&str, Vec<&str>), String> {
    let at = authority.rfind('@').map_or(0, |at| at + 1);
    let (login, hosts) = authority.split_at(at);
    let hosts: Vec<&str> = hosts.split(',').collect();
    if hosts.iter().any(|host| host.is_empty()) || hosts.len() > HOSTS_MAX {
        return Err(format!(
            "must name 1 to {HOSTS_MAX} hosts, as a:26379,b:26379"
        ));
    }
    Ok((login, hosts))
}

fn read(url: &str) -> Result<ConnectionInfo, String> {
    // The error never repeats the URL, which may contain a password.
    url.into_connection_info()
        .map_err(|error| format!("must be a Redis URL: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Topology, String> {
        Topology::of(&Url::new(url))
    }

    #[test]
    fn a_sentinel_url_names_sentinels_primary_and_login() {
        let read = of("redis-sentinel://app:s%40cret@a,[::1]:7,c:27000/orders/3").unwrap();
        let Topology::Sentinel(sentinels) = read else {
            panic!("{read:?}")
        };
        let shown: Vec<String> = sentinels
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["a:26379", "::1:7", "c:27000"]);
        assert_eq!(sentinels.name, "orders");
        let login = sentinels.login.redis_settings();
        assert_eq!(login.username(), Some("app"));
        assert_eq!(login.password(), Some("s@cret"));
        assert_eq!(login.db(), 3);
        assert!(!sentinels.is_tls());
    }

    #[test]
    fn a_cluster_url_names_several_nodes() {
        let read = of("rediss-cluster://:pw@a:7001,b:7002").unwrap();
        let Topology::Cluster(nodes) = read else {
            panic!("{read:?}")
        };
        assert_eq!(nodes.len(), 2);
        for node in nodes {
            assert!(matches!(node.addr(), ConnectionAddr::TcpTls { .. }));
            assert_eq!(node.redis_settings().password(), Some("pw"));
        }
    }

    #[test]
    fn a_plain_url_is_one_server_or_a_socket() {
        for url in ["redis://a", "rediss://u:p@a:1/2", "unix:///run/redis.sock"] {
            assert!(matches!(of(url), Ok(Topology::One(_))), "{url}");
        }
    }

    #[test]
    fn what_is_no_redis_is_refused_with_the_rule() {
        for url in [
            "http://a",
            "a:6379",
            "redis-sentinel://a:1",
            "redis-sentinel:///name",
            "redis-sentinel://a:1,/name",
            "redis-cluster://a:1/2",
            "redis://a:99999",
        ] {
            let rule = of(url).map(|_| ()).unwrap_err();
            assert!(rule.starts_with("must "), "{url}: {rule}");
        }
    }
}
