//! The suite that every store passes, on a real Redis.

use anyhow::Result;
use unitring::config::Url;
use unitring::store::{contract, redis};
use unitring_tests::redis::Redis;

#[tokio::test]
async fn redis_keeps_what_every_store_promises() -> Result<()> {
    let server = Redis::start().await?;
    let store = |unit: &str| -> Result<redis::Redis> {
        Ok(redis::Redis::at(
            &Url::new(server.url()),
            unit.parse()?,
            true,
        )?)
    };
    contract::records(&store("east")?, &store("west")?).await;
    contract::fleet(&store("north")?).await;
    Ok(())
}
