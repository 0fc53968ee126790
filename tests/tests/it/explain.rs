//! The allocation is returned to the caller, if the settings say so.

use anyhow::Result;
use serde_json::json;
use unitring_tests::site::Site;

const HEADERS: [&str; 3] = [
    "x-unitring-instance",
    "x-unitring-reason",
    "x-unitring-ring",
];

#[tokio::test]
async fn an_explained_answer_names_the_instance_that_gave_it() -> Result<()> {
    let site = Site::start_with(|config| config.setting("explain", json!(true))).await?;
    for number in 0..50 {
        let answer = site.envoy.get(&format!("user-{number}")).await?;
        let said = answer
            .header("x-unitring-instance")
            .unwrap_or_default()
            .to_owned();
        let owner = site
            .instances
            .iter()
            .find(|instance| instance.id == answer.instance);
        assert_eq!(Some(said), owner.map(|owner| owner.address()));
        assert_eq!(answer.header("x-unitring-reason"), Some("primary"));
        assert!(
            answer
                .header("x-unitring-ring")
                .is_some_and(|ring| !ring.is_empty())
        );
    }
    let keyless = unitring_tests::envoy::send(site.envoy.request("/")).await?;
    assert_eq!(keyless.header("x-unitring-reason"), Some("fallback"));
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_not_explained_tells_nothing() -> Result<()> {
    let site = Site::start_with(|config| config.setting("explain", json!(false))).await?;
    let answer = site.envoy.get("ada").await?;
    assert_eq!(answer.status, 200);
    for header in HEADERS {
        assert_eq!(answer.header(header), None);
    }
    Ok(())
}

#[tokio::test]
async fn locate_agrees_with_the_filter() -> Result<()> {
    let site = Site::start().await?;
    unitring_tests::deadline::until("the companion to have a report", async || {
        site.companion
            .get("/v1/services/orders/locate?key=ada")
            .await
    })
    .await?;
    for number in 0..50 {
        let key = format!("user-{number}");
        let located = site
            .companion
            .get(&format!("/v1/services/orders/locate?key={key}"))
            .await?;
        let answer = site.envoy.get(&key).await?;
        let said = answer.header("x-unitring-instance");
        assert_eq!(
            located["owner"]["address"].as_str(),
            said,
            "{key}: {located}"
        );
    }
    Ok(())
}
