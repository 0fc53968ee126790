//! The cost of a choice and of a change of membership, without Envoy: criterion's figures of
//! `routing/benches/`.

use anyhow::Result;

use super::criterion::{self, Group, INSTANCES};

const NS: (&str, f64) = ("ns", 1.0);
const US: (&str, f64) = ("µs", 1e3);

const GROUPS: [Group; 6] = [
    Group {
        title: "The hash",
        unit: NS,
        columns: [("8", "8 bytes"), ("36", "36 bytes"), ("256", "256 bytes")],
        rows: &[
            ("hash/xxh64", "xxh64 (`twox-hash`), of keys and points"),
            ("hash/murmur2", "murmur2, of points if so set"),
        ],
    },
    Group {
        title: "A key's hash and its owner, 256 points for each instance",
        unit: NS,
        columns: INSTANCES,
        rows: &[
            ("lookup/unitring", "unitring"),
            ("lookup/btreemap", "`BTreeMap<u64, u32>`, `range`"),
            ("lookup/hashring", "`hashring` (SipHash)"),
            (
                "lookup/pingora-ketama",
                "`pingora-ketama` (points of 32 bits)",
            ),
        ],
    },
    Group {
        title: "The whole choice: hash, owner, bound, three candidates, place taken and given back",
        unit: NS,
        columns: INSTANCES,
        rows: &[
            ("select/fixed-no-load", "no load; 256 points each"),
            (
                "select/envoy-no-load",
                "no load; `fill: envoy`, its defaults",
            ),
            ("select/maglev-no-load", "no load; `maglev`, its defaults"),
            (
                "select/fixed-owner-full",
                "the owner is full, the next has room; 256 points each",
            ),
            (
                "select/fixed-fifth-full",
                "a fifth of the instances is full; 256 points each",
            ),
            (
                "select/fixed-all-full",
                "every instance is at its hard cap; 256 points each",
            ),
        ],
    },
    Group {
        title: "The ring made anew, 256 points for each instance",
        unit: US,
        columns: INSTANCES,
        rows: &[
            ("build/unitring", "unitring"),
            ("build/btreemap", "`BTreeMap`"),
            ("build/hashring", "`hashring`, `batch_add`"),
            ("build/pingora-ketama", "`pingora-ketama`"),
        ],
    },
    Group {
        title: "One instance comes, 256 points for each",
        unit: US,
        columns: INSTANCES,
        rows: &[
            ("add/unitring-merge", "unitring: a merge"),
            ("add/btreemap-in-place", "`BTreeMap`, in place"),
            (
                "add/btreemap-copy",
                "`BTreeMap`, a copy for readers to swap to",
            ),
            ("add/hashring-in-place", "`hashring`, `batch_add` in place"),
        ],
    },
    Group {
        title: "One instance goes, 256 points for each",
        unit: US,
        columns: INSTANCES,
        rows: &[
            ("remove/unitring-merge", "unitring: a merge"),
            ("remove/btreemap-in-place", "`BTreeMap`, in place"),
            (
                "remove/btreemap-copy",
                "`BTreeMap`, a copy for readers to swap to",
            ),
            ("remove/hashring-in-place", "`hashring`, `remove` in place"),
        ],
    },
];

/// Runs all of them and returns the tables.
pub(crate) async fn measure() -> Result<String> {
    let tables = criterion::tables("routing", &GROUPS).await?;
    Ok(format!(
        "{tables}`pingora-ketama` can only be made anew, whatever changes. The instance that comes or goes is \
         the last.\nMedians of criterion; native, one thread, the ring warm in the cache.\n"
    ))
}
