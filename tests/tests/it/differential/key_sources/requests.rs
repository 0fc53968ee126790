//! Random requests: as clients send them, and malformed ones.

use std::fmt;

use unitring_tests::raw::get;
use unitring_tests::traffic::keys::Numbers;

type Bytes = &'static [u8];

/// Values for any source.
const VALUES: [Bytes; 16] = [
    b"",
    b"ada",
    b"bob",
    b"\"ada\"",
    b"\"",
    b"\"\"",
    b"\"ada",
    b"ada\"",
    b"ada=bob",
    b"=",
    b"a%20b",
    b"a+b",
    b"%61da",
    b"%00",
    b"a,b",
    b"a-value-that-is-longer-than-thirty-two-bytes-so-that-it-is-hashed-in-stripes",
];

/// Further values for headers.
const HEADER_VALUES: [Bytes; 4] = [b"a b", b"caf\xc3\xa9", b"\xff\xfe", b"a\tb"];

/// Texts before the value of a query parameter.
const PARAMETERS: [Bytes; 10] = [
    b"user=", b"user=", b"user=", b"user", b"users=", b"User=", b"us%65r=", b"x=", b"=", b"",
];

/// Texts before the value of a cookie.
const COOKIES: [Bytes; 10] = [
    b"sid=", b"sid=", b"sid=", b"sid", b"  sid=", b"\tsid=", b"sid =", b"SID=", b"x=", b"",
];

const SEPARATORS: [Bytes; 5] = [b"; ", b";", b" ; ", b";;", b"; ;"];

const PATHS: [Bytes; 6] = [b"/", b"/cart", b"/cart/", b"/a%2fb", b"//", b"/user=ada"];

const HOSTS: [Bytes; 4] = [b"unitring", b"unitring:80", b"UNITRING", b"a.example"];

/// Envoy takes the last element as the client's address, if it is one.
const FORWARDED: [Bytes; 12] = [
    b"10.1.2.3",
    b"10.1.2.4, 10.1.2.3",
    b"10.1.2.3:80",
    b"2001:db8::1",
    b"2001:0DB8:0:0:0:0:0:0001",
    b"[2001:db8::1]:80",
    b"::1.2.3.4",
    b"::ffff:1.2.3.4",
    b"64:ff9b::1.2.3.4",
    b"fe80::1%1",
    b"::",
    b"nobody",
];

pub(super) struct Request {
    path: Vec<u8>,
    headers: Vec<(&'static str, Vec<u8>)>,
}

impl Request {
    /// A request with every source.
    pub(super) fn complete() -> Self {
        let headers = ["x-a", "x-b", "host", "x-forwarded-for", "cookie"]
            .map(|name| (name, b"sid=ada".to_vec()));
        Self {
            path: b"/?user=ada".to_vec(),
            headers: headers.into(),
        }
    }

    pub(super) fn random(numbers: &mut Numbers) -> Self {
        let mut headers = Vec::new();
        for name in ["x-a", "x-b"] {
            for _ in 0..times(numbers) {
                headers.push((name, header_value(numbers).to_vec()));
            }
        }
        for _ in 0..times(numbers) {
            let separator = numbers.pick(&SEPARATORS);
            headers.push(("cookie", parts(numbers, &COOKIES, header_value, separator)));
        }
        if numbers.below(2) == 0 {
            headers.push(("x-forwarded-for", numbers.pick(&FORWARDED).to_vec()));
        }
        headers.push(("host", numbers.pick(&HOSTS).to_vec()));
        numbers.shuffle(&mut headers);
        let mut path = numbers.pick(&PATHS).to_vec();
        for _ in 0..times(numbers) {
            path.push(b'?');
            path.extend(parts(numbers, &PARAMETERS, |n| n.pick(&VALUES), b"&"));
        }
        Self { path, headers }
    }

    /// The request for Envoy, with additional headers.
    pub(super) fn bytes(&self, headers: &[(&str, &[u8])]) -> Vec<u8> {
        let own = self.headers.iter().map(|(name, value)| (*name, &**value));
        let all: Vec<(&str, &[u8])> = own.chain(headers.iter().copied()).collect();
        get(&self.path, &all)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.bytes(&[]).escape_ascii())
    }
}

/// How often a source appears: mostly not at all or once.
fn times(numbers: &mut Numbers) -> u64 {
    numbers.pick(&[0, 0, 1, 1, 1, 2, 3])
}

fn header_value(numbers: &mut Numbers) -> Bytes {
    if numbers.below(5) == 0 {
        numbers.pick(&HEADER_VALUES)
    } else {
        numbers.pick(&VALUES)
    }
}

/// A list in which some parts are well-formed.
fn parts(
    numbers: &mut Numbers,
    names: &[Bytes; 10],
    value: fn(&mut Numbers) -> Bytes,
    separator: &[u8],
) -> Vec<u8> {
    let count = numbers.below(5);
    let parts: Vec<Vec<u8>> = (0..count)
        .map(|_| [numbers.pick(names), value(numbers)].concat())
        .collect();
    parts.join(separator)
}
