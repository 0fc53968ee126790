//! How many keys move when one instance goes or comes, and how even the shares are: two tables of
//! `docs/placement.md`.
//!
//! `cargo run --release --package unitring-routing --example moved` prints them. The moved share is
//! exact for its instances, and a mean over several choices of the instance that goes or comes.

use std::num::{NonZeroU32, NonZeroU64};

use unitring_routing::hash::HashFunction;
use unitring_routing::movement::moved_share;
use unitring_routing::ring::{Host, POINTS_MAX, Ring, RingError, Shape, WEIGHT_UNIT};

fn main() -> Result<(), RingError> {
    println!("{}", table()?);
    print!("{}", evenness_table()?);
    Ok(())
}

/// Numbers of instances before and after each step.
pub(crate) const STEPS: [(usize, usize); 5] = [(4, 3), (4, 5), (10, 9), (100, 99), (1_000, 999)];

/// How many different instances go or come, one at a time; the result is their mean.
const TURNS: usize = 4;

/// The shares of all keys that a step moves, 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moved {
    /// Keys that get another owner.
    pub(crate) all: f64,
    /// Keys among them that neither leave nor join the instance that goes or comes: they move
    /// needlessly.
    pub(crate) needless: f64,
}

/// The ways of filling that are compared, with the defaults of their settings.
pub(crate) fn shapes() -> [(&'static str, Shape); 3] {
    let hash = HashFunction::XxHash64;
    let least = NonZeroU32::MIN;
    let envoy = Shape::Envoy {
        hash,
        min_size: 1_024,
        max_size: POINTS_MAX,
    };
    let fixed = Shape::Fixed {
        hash,
        virtual_nodes: NonZeroU32::new(160).unwrap_or(least),
        max_size: POINTS_MAX,
    };
    let maglev = Shape::Maglev {
        table_size: NonZeroU32::new(65_537).unwrap_or(least),
    };
    [
        ("`fill: envoy`", envoy),
        ("`fill: fixed`", fixed),
        ("`maglev`", maglev),
    ]
}

/// The keys that one step moves.
///
/// # Errors
/// None with [`shapes`], whose rings are within their limits.
pub(crate) fn moved(shape: Shape, (before, after): (usize, usize)) -> Result<Moved, RingError> {
    let names: Vec<String> = (0..before.max(after)).map(name).collect();
    let all = hosts(&names);
    let mut sum = Moved::default();
    for turn in 0..TURNS {
        // Spread over the list, since the order of hosts matters with Envoy's fill.
        let changed = turn * all.len() / TURNS;
        let mut without = all.clone();
        without.remove(changed);
        let large = Ring::build(&all, shape)?;
        let small = large.update(&all, &without, shape)?;
        let same = |large: usize, small: usize| large == small + usize::from(small >= changed);
        // Going and coming move the same share, seen from opposite sides.
        sum.all += moved_share(&large, &small, |a, b| same(a.get(), b.get()));
        sum.needless += moved_share(&large, &small, |a, b| {
            a.get() == changed || same(a.get(), b.get())
        });
    }
    let turns = 4.0;
    Ok(Moved {
        all: sum.all / turns,
        needless: sum.needless / turns,
    })
}

/// The least that any placement can move: one instance's share of the larger number.
pub(crate) fn least((before, after): (usize, usize)) -> f64 {
    u32::try_from(before.max(after)).map_or(0.0, |count| 1.0 / f64::from(count))
}

/// The table as it stands in the docs.
///
/// # Errors
/// As [`moved`].
pub(crate) fn table() -> Result<String, RingError> {
    let mut text = String::from("| instances | least possible |");
    for (name, _) in shapes() {
        text.push_str(&format!(" {name} | of it needless |"));
    }
    text.push_str(&format!("\n|---|---:|{}\n", "---:|".repeat(6)));
    for step in STEPS {
        text.push_str(&format!(
            "| {} → {} | {} |",
            step.0,
            step.1,
            percent(least(step))
        ));
        for (_, shape) in shapes() {
            let moved = moved(shape, step)?;
            text.push_str(&format!(
                " {} | {} |",
                percent(moved.all),
                percent(moved.needless)
            ));
        }
        text.push('\n');
    }
    Ok(text)
}

/// Numbers of instances for the table of evenness.
pub(crate) const SIZES: [usize; 4] = [4, 10, 100, 1_000];

/// The share of the instance that owns the most keys, divided by the fair share.
///
/// # Errors
/// As [`moved`].
pub(crate) fn heaviest(shape: Shape, instances: usize) -> Result<f64, RingError> {
    const LOOKS: u32 = 1 << 19;
    let names: Vec<String> = (0..instances).map(name).collect();
    let ring = Ring::build(&hosts(&names), shape)?;
    let mut counts = vec![0u32; instances];
    for look in 0..LOOKS {
        // Spread evenly over all hashes, and odd, since a table uses the remainder.
        let owner = ring.owner((u64::from(look) << 45) + u64::from(look) * 2 + 1);
        if let Some(count) = owner.and_then(|owner| counts.get_mut(owner.get())) {
            *count += 1;
        }
    }
    let most = counts.into_iter().max().unwrap_or(0);
    let fair = f64::from(LOOKS) * least((instances, instances));
    Ok(f64::from(most) / fair)
}

/// The table of [`heaviest`].
///
/// # Errors
/// As [`moved`].
pub(crate) fn evenness_table() -> Result<String, RingError> {
    let mut text = String::from("| instances |");
    for (name, _) in shapes() {
        text.push_str(&format!(" {name} |"));
    }
    text.push_str("\n|---|---:|---:|---:|\n");
    for size in SIZES {
        text.push_str(&format!("| {size} |"));
        for (_, shape) in shapes() {
            text.push_str(&format!(" {:.2} |", heaviest(shape, size)?));
        }
        text.push('\n');
    }
    Ok(text)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn name(number: usize) -> String {
    format!("10.0.{}.{}:8080", number / 250, number % 250 + 1)
}

fn hosts(names: &[String]) -> Vec<Host<'_>> {
    let weight = NonZeroU64::new(WEIGHT_UNIT).unwrap_or(NonZeroU64::MIN);
    names.iter().map(|name| Host::new(name, weight)).collect()
}
