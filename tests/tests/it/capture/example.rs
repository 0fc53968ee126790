//! The example that the pages show: sessions in the unit group, and the loss of a unit.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, StatusCode};
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::sessions::Sessions;

async fn post(
    envoy: &Envoy,
    path: &str,
    cookie: &str,
) -> Result<(StatusCode, String, Option<String>)> {
    let request = Client::new().post(envoy.url(path)).header("cookie", cookie);
    let answer = request.send().await?;
    let cookie = answer
        .headers()
        .get("set-cookie")
        .and_then(|value| value.to_str().ok());
    let cookie = cookie
        .and_then(|value| value.split(';').next())
        .map(str::to_owned);
    Ok((answer.status(), answer.text().await?, cookie))
}

async fn cart(envoy: &Envoy, cookie: &str) -> Result<(StatusCode, String)> {
    let request = Client::new()
        .get(envoy.url("/cart"))
        .header("cookie", cookie);
    let answer = request.send().await?;
    Ok((answer.status(), answer.text().await?))
}

#[tokio::test]
async fn a_session_goes_on_in_the_other_unit_when_its_own_is_lost() -> Result<()> {
    let mut sessions = Sessions::start().await?;
    let east = &sessions.sides.first().context("no unit")?.envoy;
    let (status, _, cookie) = post(east, "/login?user=ada", "").await?;
    let cookie = cookie.context("no cookie")?;
    assert_eq!(status, 200);
    for item in ["shoes", "socks"] {
        assert_eq!(
            post(east, &format!("/cart?add={item}"), &cookie).await?.0,
            200
        );
    }
    let here = cart(east, &cookie).await?;
    assert_eq!(here.1, r#"{"user": "ada", "cart": ["shoes", "socks"]}"#);
    let west = &sessions.sides.last().context("no unit")?.envoy;
    until("the session to be in the other unit", async || {
        let there = cart(west, &cookie).await?;
        ensure!(there == here, "{there:?}");
        Ok(())
    })
    .await?;
    sessions.lose_the_first()?;
    let west = &sessions.sides.last().context("no unit")?.envoy;
    let (status, body, _) = post(west, "/cart?add=hat", &cookie).await?;
    assert_eq!(
        (status.as_u16(), body.as_str()),
        (200, r#"{"user": "ada", "cart": ["shoes", "socks", "hat"]}"#)
    );
    assert_eq!(post(west, "/logout", &cookie).await?.0, 200);
    assert_eq!(cart(west, &cookie).await?.0, 401);
    Ok(())
}
