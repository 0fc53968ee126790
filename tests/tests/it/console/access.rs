//! Access: the page asks for a token where the companion has some, and says which role a token lacks.

use anyhow::{Result, ensure};
use unitring_tests::companion::Settings;

use super::{goes, opened, origin};

const TOKENS: &str = "[looker]\ntoken = 'may-look'\nroles = ['read']\n\
    [writer]\ntoken = 'may-write'\nroles = ['write']\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_console_asks_for_a_token_says_why_it_does_not_take_one_and_keeps_it_out_of_the_address()
-> Result<()> {
    let companion = Settings::default()
        .variable("UNITRING_TOKENS", TOKENS)
        .start()
        .await?;
    let page = opened(&companion).await?;
    let asks =
        "document.getElementById('access-title')?.textContent === 'This companion needs a token'";
    page.until(asks).await?;
    page.until("document.getElementById('health').innerText.startsWith('Ready')")
        .await?;
    let note = page.value("document.getElementById('token-note').textContent");
    assert!(
        note.await?
            .as_str()
            .is_some_and(|note| note.contains("role read"))
    );
    let barriers = page.barriers().await?;
    ensure!(barriers.is_empty(), "{barriers:#?}");

    let tries = async |token: &str| {
        page.value(
            "document.getElementById('token').focus(); document.getElementById('token').select()",
        )
        .await?;
        page.types(token).await?;
        page.presses("Enter").await
    };
    let says = async |part: &str| {
        let shown = "[...document.querySelectorAll('.problem')].map(one => one.textContent).join()";
        page.until(&format!("({shown}).includes('{part}')")).await
    };
    tries("no token").await?;
    says("visible ASCII").await?;
    tries("a-guess").await?;
    says("does not know this token").await?;
    assert_eq!(page.value("sessionStorage.length").await?, 0);

    // It is known, and lacks the role.
    tries("may-write").await?;
    says("The token does not allow this view").await?;
    page.value("document.getElementById('forget').click()")
        .await?;
    page.until(asks).await?;

    tries("may-look").await?;
    page.until("document.querySelector('main').innerText.includes('No Envoy has reported yet')")
        .await?;
    goes(&page, "units", "Units").await?;
    // The token stays in this tab only, and through a reload.
    page.value("location.reload()").await?;
    page.until("document.querySelector('main')?.innerText.includes('This unit is alone') === true")
        .await?;
    let kept =
        "JSON.stringify([location.href, document.cookie, {...localStorage}]).includes('may-')";
    assert_eq!(page.value(kept).await?, false);
    let in_address = page.requests().into_iter();
    let in_address: Vec<String> = in_address.filter(|url| url.contains("may-")).collect();
    ensure!(in_address.is_empty(), "{in_address:?}");
    let faults = page.faults(&origin(&companion), &[401, 403]);
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}
