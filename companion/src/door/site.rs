//! Whether another site made a browser send a request.
//!
//! A page of any site can make its reader's browser send requests to addresses that only this browser reaches,
//! loopback included. If the site has a name that resolves to such an address (DNS rebinding), its page could
//! even read the answers. So the companion refuses requests for a host name that is not its own, and requests
//! that a browser marks as caused by another site.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};

/// The name that filters call the companion by, and that a cluster for it has in all examples. It has no dot, so
/// no site on the internet has it.
const OWN_NAME: &str = "unitring";

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    /// No `Host`, or an invalid one.
    #[error("host: must be the address of this companion")]
    NoHost,
    /// Two: it is not known which one a proxy before us read.
    #[error("host: must be given once")]
    Hosts,
    /// A name that is not ours.
    #[error(
        "host: {0:?}: is no name of this companion; host_names in its settings lists further ones"
    )]
    Host(String),
    /// A page of another site sent it.
    #[error("origin: {0:?}: a page of another site may not use this API")]
    Origin(String),
    /// The browser says that another site caused it.
    #[error("sec-fetch-site: a page of another site may not use this API")]
    Site,
    /// A form or a plain text, which any page can send.
    #[error("content-type: {0:?}: must be application/json")]
    Type(String),
}

impl Foreign {
    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoHost | Self::Hosts => StatusCode::BAD_REQUEST,
            Self::Host(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin(_) | Self::Site => StatusCode::FORBIDDEN,
            Self::Type(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

/// Checks that no other site caused a request.
///
/// # Errors
/// [`Foreign`].
pub(crate) fn check(
    method: &Method,
    headers: &HeaderMap,
    own_names: &[String],
) -> Result<(), Foreign> {
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Foreign::Hosts);
    }
    let host = headers.get(HOST).map(|value| value.as_bytes());
    let host = std::str::from_utf8(host.unwrap_or_default()).unwrap_or_default();
    let authority: Authority = host.parse().map_err(|_| Foreign::NoHost)?;
    if !is_ours(authority.host(), own_names) {
        return Err(Foreign::Host(cut(host)));
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let of = origin.split_once("://").map(|(_, of)| of);
        // Such a page came from this very companion.
        if !of.is_some_and(|of| of.eq_ignore_ascii_case(host)) {
            return Err(Foreign::Origin(cut(&origin)));
        }
    }
    let says = |name: &str, value: &str| {
        let said = headers.get(name).map(|value| value.as_bytes());
        said.is_some_and(|said| said.eq_ignore_ascii_case(value.as_bytes()))
    };
    // A reader who follows a link to our page sees it in place of the other site's.
    let is_link = *method == Method::GET
        && says("sec-fetch-mode", "navigate")
        && says("sec-fetch-dest", "document");
    if says("sec-fetch-site", "cross-site") && !is_link {
        return Err(Foreign::Site);
    }
    if *method == Method::POST
        && let Some(kind) = headers.get(CONTENT_TYPE)
    {
        let kind = String::from_utf8_lossy(kind.as_bytes());
        if !is_json(&kind) {
            return Err(Foreign::Type(cut(&kind)));
        }
    }
    Ok(())
}

/// Whether a client may call us so: by an address, which no site can own, or a name of ours.
fn is_ours(host: &str, own_names: &[String]) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = bare.parse::<Ipv4Addr>().is_ok() || bare.parse::<Ipv6Addr>().is_ok();
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    is_address || name == "localhost" || name == OWN_NAME || own_names.contains(&name)
}

/// JSON, or lines of it.
fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    [
        "application/json",
        "application/x-ndjson",
        "application/jsonl",
    ]
    .contains(&kind.as_str())
        || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: Method, headers: &[(&'static str, &str)]) -> Result<(), u16> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let own = ["companion.shop.svc".to_owned()];
        check(&method, &headers.collect(), &own).map_err(|foreign| foreign.status().as_u16())
    }

    #[test]
    fn we_are_named_by_address_or_by_a_name_of_ours() {
        for (host, expected) in [
            ("127.0.0.1:7001", Ok(())),
            ("[::1]:7001", Ok(())),
            ("10.1.2.3", Ok(())),
            ("LOCALHOST:7001", Ok(())),
            ("localhost.", Ok(())),
            ("unitring", Ok(())),
            ("companion.shop.svc:7001", Ok(())),
            ("attacker.example:7001", Err(421)),
            ("127.0.0.1.attacker.example", Err(421)),
            ("localhost.attacker.example", Err(421)),
            ("1.2.3", Err(421)),
            ("", Err(400)),
            ("a b", Err(400)),
        ] {
            assert_eq!(checked(Method::GET, &[("host", host)]), expected, "{host}");
        }
        assert_eq!(checked(Method::GET, &[]), Err(400));
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let host = ("host", "localhost:7001");
        for (headers, expected) in [
            (&[("origin", "http://localhost:7001")][..], Ok(())),
            (&[("origin", "http://localhost:7002")], Err(403)),
            (&[("origin", "https://attacker.example")], Err(403)),
            (&[("origin", "null")], Err(403)),
            (&[("sec-fetch-site", "cross-site")], Err(403)),
            (&[("sec-fetch-site", "Cross-Site")], Err(403)),
            (&[("sec-fetch-site", "same-origin")], Ok(())),
            (&[("sec-fetch-site", "none")], Ok(())),
        ] {
            for method in [Method::POST, Method::GET, Method::DELETE] {
                let headers = [&[host], headers].concat();
                assert_eq!(checked(method, &headers), expected, "{headers:?}");
            }
        }
        let link = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(checked(Method::GET, &link), Ok(()));
        assert_eq!(checked(Method::POST, &link), Err(403));
        let frame = [&link[..3], &[("sec-fetch-dest", "iframe")]].concat();
        assert_eq!(checked(Method::GET, &frame), Err(403));
    }

    #[test]
    fn what_a_form_can_send_is_no_write() {
        for (kind, expected) in [
            ("application/json", Ok(())),
            ("Application/JSON; charset=utf-8", Ok(())),
            ("application/x-ndjson", Ok(())),
            ("application/vnd.x+json", Ok(())),
            ("text/plain", Err(415)),
            ("text/plain; a=application/json", Err(415)),
            ("application/x-www-form-urlencoded", Err(415)),
            ("multipart/form-data; boundary=x", Err(415)),
        ] {
            let headers = [("host", "127.0.0.1"), ("content-type", kind)];
            assert_eq!(checked(Method::POST, &headers), expected, "{kind}");
            assert_eq!(checked(Method::PUT, &headers), Ok(()), "{kind}");
        }
    }
}
