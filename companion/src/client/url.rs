//! URLs of the command line, checked once, so that no library says its own words about them.

use ureq::http::Uri;

use super::ask::AskError;
use crate::doctor::finding::shown;

/// The URL of a server, to which paths are added: without a slash at its end.
///
/// # Errors
/// [`AskError::Usage`], which names the flag.
pub(crate) fn base(flag: &str, text: &str) -> Result<String, AskError> {
    let url = checked(flag, text)?;
    match url.contains(['?', '#']) {
        true => Err(wrong(flag, text, "must end with the host or a path")),
        false => Ok(url.trim_end_matches('/').to_owned()),
    }
}

/// Any URL that a request can be sent to.
///
/// # Errors
/// [`AskError::Usage`], which names the flag.
pub(crate) fn checked(flag: &str, text: &str) -> Result<String, AskError> {
    let parts = text.split_once("://");
    let parts = parts.map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    let Some((scheme @ ("http" | "https"), rest)) = parts
        .as_ref()
        .map(|(scheme, rest)| (scheme.as_str(), *rest))
    else {
        return Err(wrong(flag, text, "must begin with http:// or https://"));
    };
    let url = format!("{scheme}://{rest}");
    let parsed: Option<Uri> = url.parse().ok();
    let place = parsed.as_ref().and_then(Uri::authority);
    let Some(place) = place.filter(|place| !place.host().is_empty()) else {
        let rule = "must name a host, such as http://127.0.0.1:7001";
        return Err(wrong(flag, text, rule));
    };
    // A login comes before the host.
    let host = place.as_str().rsplit('@').next().unwrap_or_default();
    let port = host.strip_prefix(place.host()).unwrap_or(host);
    if !port.is_empty() && place.port_u16().is_none_or(|port| port == 0) {
        return Err(wrong(flag, text, "must have a port from 1 to 65535"));
    }
    Ok(url)
}

fn wrong(flag: &str, text: &str, rule: &str) -> AskError {
    let text = match text {
        "" => "\"\"".to_owned(),
        text => without_login(text),
    };
    AskError::Usage(format!("{flag} {text}: {rule}"))
}

/// A URL that may be shown: `http://user:password@host` is without both.
pub(crate) fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return shown(url);
    };
    // The last one: a password may have any character, unencoded by mistake.
    let place = rest.rsplit('@').next().unwrap_or(rest);
    shown(&format!("{scheme}://{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_a_url_is_shown() {
        assert_eq!(without_login("http://a:b@c:1/d"), "http://c:1/d");
        assert_eq!(without_login("http://a:b/c@d:1"), "http://d:1");
        assert_eq!(without_login("https://c"), "https://c");
        let error = base("--url", "http://a:b@c:99999").unwrap_err().to_string();
        assert_eq!(
            error,
            "--url http://c:99999: must have a port from 1 to 65535"
        );
    }

    #[test]
    fn a_url_that_no_request_can_go_to_is_refused_with_its_flag() {
        let scheme = "must begin with http:// or https://";
        let host = "must name a host, such as http://127.0.0.1:7001";
        let port = "must have a port from 1 to 65535";
        for (text, rule) in [
            ("127.0.0.1:7001", scheme),
            ("localhost", scheme),
            ("ftp://127.0.0.1", scheme),
            ("://127.0.0.1", scheme),
            ("http:/127.0.0.1", scheme),
            (" http://127.0.0.1", scheme),
            ("http://", host),
            ("https:///path", host),
            ("http://:7001", host),
            ("http://?a=b", host),
            ("http://[::1", host),
            ("http://a b", host),
            ("http://a\nb", host),
            ("http://user@", host),
            ("http://127.0.0.1:99999", port),
            ("http://127.0.0.1:", port),
            ("http://127.0.0.1:0", port),
            ("http://127.0.0.1:port", port),
            ("http://[::1]:99999", port),
        ] {
            let error = base("--admin", text).unwrap_err().to_string();
            let shown = without_login(text);
            assert_eq!(error, format!("--admin {shown}: {rule}"));
        }
        for url in ["http://h?a=b", "http://h/#top"] {
            let error = base("--url", url).unwrap_err().to_string();
            assert!(
                error.contains("must end with the host or a path"),
                "{error}"
            );
        }
        let error = base("--url", "").unwrap_err().to_string();
        assert_eq!(error, format!("--url \"\": {scheme}"));
    }

    #[test]
    fn a_scheme_has_letters_of_any_case_and_a_slash_at_the_end_is_none() {
        for (text, url) in [
            ("http://127.0.0.1:7001", "http://127.0.0.1:7001"),
            ("HTTP://127.0.0.1:7001/", "http://127.0.0.1:7001"),
            ("Https://unit.example/east//", "https://unit.example/east"),
            ("http://[::1]:7001", "http://[::1]:7001"),
            ("http://me:pass@host:1", "http://me:pass@host:1"),
        ] {
            assert_eq!(base("--url", text).unwrap(), url);
        }
        let probe = checked("--probe", "http://h:1/a?b=c").unwrap();
        assert_eq!(probe, "http://h:1/a?b=c");
    }
}
