use proptest::prelude::*;

use super::*;

fn read(line: &str) -> Announcement {
    Announcement::read([line.as_bytes()].into_iter())
}

fn put(name: &str, ttl_ms: Option<u64>, body: bool) -> Announced {
    announced(name, Change::Put { ttl_ms, body })
}

fn announced(name: &str, change: Change) -> Announced {
    let (dataset, key) = name.split_once('/').unwrap();
    Announced {
        dataset: dataset.parse().unwrap(),
        key: key.parse().unwrap(),
        change,
    }
}

#[test]
fn updates_have_a_record_and_parameters() {
    for (line, expected) in [
        ("carts/ada", vec![put("carts/ada", None, false)]),
        (
            "carts/ada;ttl=60s",
            vec![put("carts/ada", Some(60_000), false)],
        ),
        ("carts/ada;body", vec![put("carts/ada", None, true)]),
        (
            "carts/ada ;\tbody; ttl=250ms , carts/bob;delete",
            vec![
                put("carts/ada", Some(250), true),
                announced("carts/bob", Change::Delete),
            ],
        ),
        (
            "a/b;ttl=2m,a/c;ttl=1h",
            vec![
                put("a/b", Some(120_000), false),
                put("a/c", Some(3_600_000), false),
            ],
        ),
        ("users/42/cart", vec![put("users/42/cart", None, false)]),
        ("a/%C3%A9%2c%3B%25", vec![put("a/é,;%", None, false)]),
        ("a/b=c:d@e+f", vec![put("a/b=c:d@e+f", None, false)]),
        ("a//", vec![put("a//", None, false)]),
        (" , a/b,, ", vec![put("a/b", None, false)]),
        ("", vec![]),
    ] {
        let announcement = read(line);
        assert_eq!(announcement.updates, expected, "{line}");
        assert_eq!(announcement.malformed, 0, "{line}");
    }
}

#[test]
fn a_malformed_update_is_left_out_and_the_others_are_used() {
    for (text, why) in [
        ("carts", Malformed::NoKey),
        (";body", Malformed::NoKey),
        ("/a", Malformed::Dataset),
        ("a b/c", Malformed::Dataset),
        ("ca%72ts/a", Malformed::Dataset),
        ("carts/", Malformed::Key),
        ("carts/%00", Malformed::Key),
        ("carts/%FF", Malformed::Key),
        ("carts/a b", Malformed::Encoding),
        ("carts/a\"b", Malformed::Encoding),
        ("carts/a?b", Malformed::Encoding),
        ("carts/é", Malformed::Encoding),
        ("carts/%", Malformed::Encoding),
        ("carts/%4", Malformed::Encoding),
        ("carts/%4x", Malformed::Encoding),
        ("carts/%+1", Malformed::Encoding),
        ("carts/a;", Malformed::Parameter),
        ("carts/a;BODY", Malformed::Parameter),
        ("carts/a;body=1", Malformed::Parameter),
        ("carts/a;delete=true", Malformed::Parameter),
        ("carts/a;max-age=1", Malformed::Parameter),
        ("carts/a;ttl", Malformed::Parameter),
        ("carts/a;ttl=", Malformed::Ttl),
        ("carts/a;ttl=60", Malformed::Ttl),
        ("carts/a;ttl=0s", Malformed::Ttl),
        ("carts/a;ttl=-1s", Malformed::Ttl),
        ("carts/a;ttl=+1s", Malformed::Ttl),
        ("carts/a;ttl=1.5s", Malformed::Ttl),
        ("carts/a;ttl=1d", Malformed::Ttl),
        ("carts/a;ttl=99999999999999999999s", Malformed::Ttl),
        ("carts/a;ttl=18446744073709551615h", Malformed::Ttl),
        ("carts/a;ttl=87841h", Malformed::Ttl),
        ("carts/a;ttl=1s;ttl=1s", Malformed::Conflict),
        ("carts/a;body;body", Malformed::Conflict),
        ("carts/a;delete;delete", Malformed::Conflict),
        ("carts/a;delete;body", Malformed::Conflict),
        ("carts/a;ttl=1s;delete", Malformed::Conflict),
    ] {
        let announcement = read(&format!("x/1, {text} ,y/2"));
        let good = [put("x/1", None, false), put("y/2", None, false)];
        assert_eq!(announcement.updates, good, "{text}");
        assert_eq!(announcement.malformed, 1, "{text}");
        let (shown, seen) = announcement.first_malformed.unwrap();
        assert_eq!(seen, why, "{text}");
        assert!(shown.is_ascii() && !shown.contains('\n'), "{shown}");
    }
    let long = format!("a/{}", "k".repeat(513));
    assert_eq!(read(&long).first_malformed.unwrap().1, Malformed::Key);
}

#[test]
fn one_answer_announces_so_many_and_lines_of_the_header_are_one_list() {
    let line = vec!["a/b"; 40].join(",");
    let announcement = Announcement::read([line.as_bytes(), line.as_bytes()].into_iter());
    assert_eq!(announcement.updates.len(), ANNOUNCED_MAX);
    assert_eq!(announcement.malformed, 16);
    assert_eq!(announcement.first_malformed.unwrap().1, Malformed::TooMany);
}

/// Words of the grammar and its neighbours, so that random lines are often nearly right.
const WORDS: &[&str] = &[
    "carts",
    "a",
    "unitring.x",
    "/",
    "/",
    ",",
    ";",
    ";",
    " ",
    "\t",
    "ttl=",
    "ttl",
    "=",
    "60",
    "s",
    "ms",
    "m",
    "h",
    "0",
    "delete",
    "body",
    "%",
    "%2F",
    "%00",
    "%c3%a9",
    "%ff",
    "é",
    "\"",
    "?",
    "-1",
    "18446744073709551615",
    "\n",
    "\0",
];

/// A million lines in CI's run; more by `UPDATE_LINES`.
fn lines() -> u32 {
    let lines = std::env::var("UPDATE_LINES").ok();
    lines.map_or(1_000_000, |lines| lines.parse().unwrap())
}

#[test]
fn no_line_breaks_the_grammar() {
    // A generator of its own: a million cases of proptest take minutes.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let (mut good, mut bad) = (0_u64, 0_u64);
    let mut line = Vec::new();
    for _ in 0..lines() {
        line.clear();
        // Half of them begin well.
        if random(2) == 0 {
            line.extend_from_slice(b"carts/a");
        }
        for _ in 0..random(14) {
            match random(8) {
                0 => line.push(u8::try_from(random(256)).unwrap()),
                _ => line.extend_from_slice(WORDS[random(WORDS.len())].as_bytes()),
            }
        }
        let announcement = Announcement::read([line.as_slice()].into_iter());
        let elements = line.split(|byte| *byte == b',').map(trim);
        let elements = elements.filter(|text| !text.is_empty()).count();
        let read = announcement.updates.len();
        let malformed = usize::try_from(announcement.malformed).unwrap();
        assert_eq!(read + malformed, elements, "{}", line.escape_ascii());
        assert_eq!(announcement.first_malformed.is_some(), malformed > 0);
        for update in &announcement.updates {
            // A parsed update is written in one way, and parses to the same again.
            assert_eq!(read_again(update), *update);
        }
        good += u64::try_from(read).unwrap();
        bad += announcement.malformed;
    }
    // Otherwise the lines would show nothing.
    assert!(good > 10_000 && bad > 10_000, "{good} good, {bad} bad");
}

fn read_again(update: &Announced) -> Announced {
    let key: String = update
        .key
        .as_str()
        .bytes()
        .map(|b| format!("%{b:02X}"))
        .collect();
    let parameters = match update.change {
        Change::Delete => ";delete".to_owned(),
        Change::Put { ttl_ms, body } => {
            let ttl = ttl_ms.map_or(String::new(), |ms| format!(";ttl={ms}ms"));
            ttl + if body { ";body" } else { "" }
        }
    };
    let again = read(&format!("{}/{key}{parameters}", update.dataset));
    assert_eq!((again.updates.len(), again.malformed), (1, 0));
    again.updates[0].clone()
}

proptest! {
    #[test]
    fn every_key_can_be_announced(key in "\\PC{1,100}") {
        let update = put(&format!("carts/{key}"), Some(1), true);
        prop_assert_eq!(read_again(&update), update);
    }
}
