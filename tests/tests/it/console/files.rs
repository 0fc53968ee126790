//! The files of the console: open to all clients, with a content security policy that lets nothing else in.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, redirect};
use unitring_tests::companion::Settings;

#[tokio::test]
async fn the_files_need_no_token_and_their_policy_lets_no_other_site_in() -> Result<()> {
    let companion = Settings::default()
        .variable("UNITRING_TOKEN", "s3cret")
        .start()
        .await?;
    let root = format!("http://127.0.0.1:{}", companion.port);
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .build()?;
    let answer = client.get(format!("{root}/ui")).send().await?;
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.headers()["location"], "ui/");

    for (path, kind) in [
        ("/ui/", "text/html; charset=utf-8"),
        ("/ui/index.html", "text/html; charset=utf-8"),
        ("/ui/app.js", "text/javascript; charset=utf-8"),
        ("/ui/views/units.js", "text/javascript; charset=utf-8"),
        ("/ui/style.css", "text/css; charset=utf-8"),
        ("/ui/icon.svg", "image/svg+xml"),
        ("/ui/vendor/LICENSE", "text/plain; charset=utf-8"),
    ] {
        let url = format!("{root}{path}");
        let answer = client.get(&url).send().await?;
        assert_eq!(answer.status(), 200, "{path}");
        let header = |name: &str| {
            let value = answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.with_context(|| format!("{path} has no {name}"))
        };
        assert_eq!(header("content-type")?, kind);
        assert_eq!(header("x-content-type-options")?, "nosniff");
        assert_eq!(header("referrer-policy")?, "no-referrer");
        let policy = header("content-security-policy")?;
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            ensure!(policy.contains(part), "{path}: no {part} in {policy}");
        }
        ensure!(!policy.contains("unsafe"), "{policy}");
        let tag = header("etag")?.to_owned();
        let again = client.get(&url).header("if-none-match", tag).send().await?;
        assert_eq!(again.status(), 304, "{path}");
        assert!(again.bytes().await?.is_empty());
    }
    // Nothing else is open, and no way leads out of the folder.
    for (path, status) in [
        ("/ui/nothing.js", 404),
        ("/ui/..%2f..%2fCargo.toml", 404),
        ("/v1/services", 401),
        ("/uix", 401),
    ] {
        let answer = client.get(format!("{root}{path}")).send().await?;
        assert_eq!(answer.status(), status, "{path}");
    }
    let answer = client.post(format!("{root}/ui/")).send().await?;
    assert_eq!(answer.status(), 401);
    let other = client
        .get(format!("{root}/ui/"))
        .header("host", "attacker.example");
    assert_eq!(other.send().await?.status(), 421);
    Ok(())
}
