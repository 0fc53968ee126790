//! Headers of a request and of an answer.

use anyhow::Result;
use unitring_balancer::balancer::Balancer;
use unitring_balancer::headers::Headers;
use unitring_balancer::outcome::{Answer, Status, outcome};
use unitring_balancer::request::{read, without_port};

use super::{feed, loads};

/// `name: value` lines, from which this test makes the blocks that Envoy would hand over.
const VALID: [&str; 3] = [
    ":method: POST\n:path: /cart?user=ada&x=1&\ncookie: a=1; sid=\"ada\"; b\ncookie: sid=2\nx: y",
    ":path: /?&&user=%00&=\ncookie: ;;sid=;  sid=\"\nx-user-id: 1\nx-user-id: \nx-unitring-host: a,b",
    ":status: 503\nx-forwarded-for: 10.0.0.7:5000\n:method: GET\n:path: ?user\nX-Unitring-: 1",
];

#[test]
fn headers_of_any_bytes_have_a_key_or_none() -> Result<()> {
    let settings = loads::SERVICE.replacen(
        '{',
        r#"{"key": [{"header": "x-user-id"}, {"path": true}, {"cookie": "sid"}, {"query": "user"},
            {"source_ip": true}],"#,
        1,
    );
    let settings = loads::settings(&settings);
    let mut balancer = Balancer::new(&settings);
    balancer.install(loads::directory(&loads::members()))?;
    let valid = VALID.map(|text| text.as_bytes().to_vec());
    feed(&valid, 5, |input| {
        let lines = input.split(|byte| *byte == b'\n').map(header);
        let headers: Headers = lines.collect();
        // A block that is malformed as a whole is refused, too.
        let broken = Headers::new(input.to_vec());
        assert!(broken.iter().count() <= input.len());
        let address = headers.iter().find_map(|(_, value)| {
            let text = String::from_utf8_lossy(value);
            without_port(&text).map(str::to_owned)
        });
        let steer = settings.steer.header.as_str();
        let seen = read(&headers, steer, &settings.key, || address.clone());
        let each = settings
            .key
            .chunks(1)
            .map(|source| read(&headers, steer, source, || None).hash);
        let last = each.flatten().last();
        loads::choose(&balancer, [seen.hash, last, Some(0)]);
        assert!(seen.forged.len() <= headers.iter().count());
        let answer = Answer::of(&headers);
        for (_, value) in &headers {
            let status = Status::of(value);
            outcome(&Answer { status, ..answer }, || u64::MAX);
        }
        seen.hash.is_some()
    })
}

fn header(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line.iter().skip(1).position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.map_or(line.len(), |at| at + 1));
    let name = String::from_utf8_lossy(name).to_lowercase();
    (name, value.iter().skip(2).copied().collect())
}
