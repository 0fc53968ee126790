//! A record written in one unit is read in the other, whatever was killed in between.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::Value;
use unitring_tests::deadline::until;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::site::UnitNode;

struct Group {
    rabbit: Rabbit,
    east: UnitNode,
    west: UnitNode,
}

impl Group {
    async fn start() -> Result<Self> {
        let rabbit = Rabbit::start().await?;
        let east = UnitNode::start("east", &["west"], &rabbit).await?;
        let west = UnitNode::start("west", &["east"], &rabbit).await?;
        Ok(Self { rabbit, east, west })
    }

    /// Checks both directions, with a key of this name.
    async fn agrees_on(&self, name: &str) -> Result<()> {
        let (from_east, from_west) = (format!("{name}-east"), format!("{name}-west"));
        self.east
            .companion
            .put_record(&from_east, "written in east")
            .await?;
        self.west
            .companion
            .put_record(&from_west, "written in west")
            .await?;
        for unit in [&self.east, &self.west] {
            unit.companion
                .has_record(&from_east, "written in east")
                .await?;
            unit.companion
                .has_record(&from_west, "written in west")
                .await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_record_written_in_one_unit_is_read_in_the_other() -> Result<()> {
    let group = Group::start().await?;
    group.agrees_on("first").await?;
    // The later of two writes wins in both units.
    group
        .east
        .companion
        .put_record("first-west", "changed in east")
        .await?;
    group
        .west
        .companion
        .has_record("first-west", "changed in east")
        .await
}

#[tokio::test]
async fn a_record_written_while_rabbitmq_is_dead_arrives_once_it_lives() -> Result<()> {
    let mut group = Group::start().await?;
    group.agrees_on("before").await?;
    group
        .rabbit
        .keeps(&["unitring.sync.east", "unitring.sync.west"])
        .await?;
    group.rabbit.kill()?;
    until("readiness to name the link", async || {
        let companion = &group.east.companion;
        let response = companion.call(Method::GET, "/readyz", vec![]).await?;
        let (status, checks) = (response.status(), response.json::<Value>().await?);
        ensure!(status.as_u16() == 503, "{status}: {checks}");
        ensure!(checks["checks"]["store"] == "ok", "{checks}");
        ensure!(checks["checks"]["link"] != "ok", "{checks}");
        Ok(())
    })
    .await?;
    group
        .east
        .companion
        .put_record("during", "no broker")
        .await?;
    group
        .east
        .companion
        .has_record("during", "no broker")
        .await?;
    group.rabbit.restart().await?;
    group
        .west
        .companion
        .has_record("during", "no broker")
        .await?;
    group.agrees_on("after").await
}

#[tokio::test]
async fn records_flow_again_once_a_killed_redis_lives() -> Result<()> {
    let mut group = Group::start().await?;
    group.agrees_on("before").await?;
    group.west.redis.kill()?;
    group
        .east
        .companion
        .put_record("during", "no redis in west")
        .await?;
    group.west.redis.restart().await?;
    group
        .west
        .companion
        .has_record("during", "no redis in west")
        .await?;
    group
        .west
        .companion
        .has_record("before-east", "written in east")
        .await?;
    group.agrees_on("after").await
}

#[tokio::test]
async fn a_unit_that_was_killed_has_what_was_written_meanwhile() -> Result<()> {
    let mut group = Group::start().await?;
    group.agrees_on("before").await?;
    group.west.companion.kill()?;
    group.east.companion.put_record("during", "no west").await?;
    group.west.companion.restart().await?;
    group.west.companion.has_record("during", "no west").await?;
    group.agrees_on("after").await
}
