//! A Redis Cluster.

use anyhow::{Result, ensure};

use super::Redis;
use crate::{deadline, ports};

/// The servers of a Redis Cluster.
#[derive(Debug)]
pub struct Cluster {
    /// All servers; the first three began as the primaries.
    pub servers: Vec<Redis>,
}

impl Cluster {
    /// Starts three primaries, each with this many replicas, which take over after two seconds of silence.
    ///
    /// # Errors
    /// The servers do not come up.
    pub async fn start(replicas: usize) -> Result<Self> {
        let mut servers = Vec::new();
        // Nobody can take over from a primary that is slow and has no replica: the cluster would be down.
        let silence_ms = if replicas > 0 { 2_000 } else { 15_000 };
        let timeout = format!("cluster-node-timeout {silence_ms}");
        for _ in 0..3 * (1 + replicas) {
            let bus = format!("cluster-port {}", ports::free()?);
            let lines = [
                "cluster-enabled yes",
                "cluster-config-file nodes.conf",
                &timeout,
                "appendonly yes",
                &bus,
            ];
            servers.push(Redis::start_with(&lines).await?);
        }
        let mut create = vec!["--cluster".to_owned(), "create".to_owned()];
        create.extend(
            servers
                .iter()
                .map(|server| format!("127.0.0.1:{}", server.port)),
        );
        create.extend(["--cluster-replicas".to_owned(), replicas.to_string()]);
        create.push("--cluster-yes".to_owned());
        let create: Vec<&str> = create.iter().map(String::as_str).collect();
        super::cli(&[], &create)?;
        deadline::until("all agree on the cluster", async || {
            for server in &servers {
                let info = server.cli(&["CLUSTER", "INFO"])?;
                ensure!(info.contains("cluster_state:ok"), "{info}");
                let nodes = server.cli(&["CLUSTER", "NODES"])?;
                let replicating = nodes.matches("slave").count();
                ensure!(replicating == 3 * replicas, "{nodes}");
            }
            Ok(())
        })
        .await?;
        Ok(Self { servers })
    }

    /// `redis-cluster://127.0.0.1:<port>,…`.
    pub fn url(&self) -> String {
        let hosts = self.servers.iter();
        let hosts: Vec<String> = hosts
            .map(|server| format!("127.0.0.1:{}", server.port))
            .collect();
        format!("redis-cluster://{}", hosts.join(","))
    }
}
