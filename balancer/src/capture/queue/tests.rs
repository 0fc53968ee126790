use proptest::prelude::*;
use unitring_protocol::record::Value;

use super::*;

const BOUNDS: Bounds = Bounds {
    updates: 4,
    bytes: 4_000,
};

fn entry(sequence: u64) -> Entry<u64> {
    of_size(sequence, 0)
}

fn of_size(sequence: u64, bytes: usize) -> Entry<u64> {
    Entry {
        update: Update {
            sequence,
            dataset: "d".parse().unwrap(),
            key: "k".parse().unwrap(),
            delete: false,
            ttl_ms: None,
            value: Some(Value(vec![0; bytes])),
        },
        deadline_ms: 1_000,
        teller: sequence,
    }
}

fn queue(keeps: bool, sequences: impl IntoIterator<Item = u64>) -> Queue<u64> {
    let mut queue = Queue::new(keeps, BOUNDS);
    for sequence in sequences {
        assert_eq!(queue.push(entry(sequence)), []);
    }
    queue
}

fn send(queue: &mut Queue<u64>) -> Vec<u64> {
    assert!(queue.is_ready(0));
    queue.batch().map(|update| update.sequence).collect()
}

fn fates(gone: Vec<(Entry<u64>, Fate)>) -> Vec<(u64, Fate)> {
    gone.into_iter()
        .map(|(entry, fate)| (entry.teller, fate))
        .collect()
}

fn failed(sequence: u64, status: u16) -> Failed {
    Failed {
        sequence,
        status,
        error: "no".to_owned(),
    }
}

#[test]
fn while_a_batch_is_under_way_the_next_one_fills() {
    let mut queue = queue(false, [1]);
    assert_eq!(send(&mut queue), [1]);
    for sequence in [2, 3] {
        queue.push(entry(sequence));
    }
    assert!(!queue.is_ready(0));
    assert_eq!(fates(queue.answered(vec![], 0)), [(1, Fate::Stored)]);
    assert_eq!(send(&mut queue), [2, 3]);
    let gone = fates(queue.answered(vec![], 0));
    assert_eq!(gone, [(2, Fate::Stored), (3, Fate::Stored)]);
    assert!(queue.is_empty() && queue.bytes() == 0 && !queue.is_ready(0));
}

#[test]
fn where_answers_wait_a_failure_ends_them() {
    let mut queue = queue(false, [1, 2, 3]);
    send(&mut queue);
    queue.push(entry(4));
    let gone = fates(queue.answered(vec![failed(1, 403), failed(3, 503)], 0));
    let away = |why: &str| Fate::Dropped(Loss::Unavailable(why.to_owned()));
    let refused = Fate::Refused("no".to_owned());
    assert_eq!(gone, [(1, refused), (2, Fate::Stored), (3, away("no"))]);
    assert_eq!(send(&mut queue), [4]);
    assert_eq!(fates(queue.failed("away", 0)), [(4, away("away"))]);
    assert!(queue.is_empty());
}

#[test]
fn where_they_do_not_updates_stay_in_order_and_pauses_grow() {
    let mut queue = queue(true, [1, 2, 3]);
    let mut now_ms = 0;
    for pause_ms in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000] {
        assert!(queue.is_ready(now_ms));
        let _ = queue.batch().count();
        assert_eq!(queue.failed("away", now_ms), []);
        assert!(!queue.is_ready(now_ms + pause_ms - 1));
        now_ms += pause_ms;
    }
    let sent: Vec<u64> = queue.batch().map(|update| update.sequence).collect();
    // The batch is smaller after the failures.
    assert_eq!(sent, [1]);
    assert_eq!(fates(queue.answered(vec![], now_ms)), [(1, Fate::Stored)]);
    assert_eq!(queue.batch().count(), 2);
    // A part of it goes, and the rest is sent again.
    let gone = fates(queue.answered(vec![failed(2, 507), failed(3, 400)], now_ms));
    assert_eq!(gone, [(3, Fate::Refused("no".to_owned()))]);
    assert!(!queue.is_ready(now_ms) && queue.is_ready(now_ms + 5_000));
    assert_eq!(queue.batch().count(), 1);
    assert_eq!(fates(queue.answered(vec![], 0)), [(2, Fate::Stored)]);
    // After a success the pauses begin anew.
    queue.push(entry(4));
    let _ = send(&mut queue);
    queue.failed("away", 0);
    assert!(queue.is_ready(250));
}

#[test]
fn a_batch_that_is_wrong_is_not_sent_again() {
    let mut queue = queue(true, [1, 2, 3]);
    assert_eq!(send(&mut queue), [1, 2, 3]);
    assert_eq!(queue.refused("bad", 0), []);
    let sent: Vec<u64> = queue.batch().map(|update| update.sequence).collect();
    assert_eq!(sent, [1]);
    let refused = || Fate::Refused("bad".to_owned());
    assert_eq!(fates(queue.refused("bad", 0)), [(1, refused())]);
    assert_eq!(send(&mut queue), [2, 3]);
}

#[test]
fn a_companion_that_does_not_answer_gets_smaller_batches_until_it_does() {
    let bounds = Bounds {
        updates: 10_000,
        bytes: 100 << 20,
    };
    let mut queue = Queue::new(true, bounds);
    for sequence in 0..2_000 {
        queue.push(entry(sequence));
    }
    let mut sizes = Vec::new();
    for _ in 0..11 {
        sizes.push(queue.batch().count());
        queue.failed("no answer", 0);
    }
    assert_eq!(sizes, [512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 1]);
    sizes.clear();
    for _ in 0..10 {
        sizes.push(queue.batch().count());
        queue.answered(vec![], 0);
    }
    assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
}

#[test]
fn a_full_queue_drops_its_oldest_or_refuses_the_new_one() {
    let full = || Fate::Dropped(Loss::Full);
    let mut keeping = queue(true, [1, 2, 3, 4]);
    assert_eq!(fates(keeping.push(entry(5))), [(1, full())]);
    // The first ones are under way.
    send(&mut keeping);
    assert_eq!(fates(keeping.push(entry(6))), [(6, full())]);
    let mut holding = queue(false, [1, 2, 3, 4]);
    assert_eq!(fates(holding.push(entry(5))), [(5, full())]);
    assert_eq!(holding.len(), 4);
}

#[test]
fn bytes_are_bounded_too() {
    let mut queue = queue(true, [1, 2]);
    let gone = fates(queue.push(of_size(3, 3_700)));
    assert_eq!(gone, [(1, Fate::Dropped(Loss::Full))]);
    let gone = fates(queue.push(of_size(4, 9_000)));
    // It fits never, and drives nothing out.
    assert_eq!(gone, [(4, Fate::Dropped(Loss::Full))]);
    assert_eq!(queue.len(), 2);
}

#[test]
fn a_batch_is_bounded_and_has_at_least_one_update() {
    let bounds = Bounds {
        updates: 10_000,
        bytes: 100 << 20,
    };
    let mut queue = Queue::new(false, bounds);
    for sequence in 0..1_000 {
        queue.push(entry(sequence));
    }
    assert_eq!(queue.batch().count(), UPDATES_MAX);
    let mut queue = Queue::new(false, bounds);
    for sequence in 0..3 {
        queue.push(of_size(sequence, BATCH_BYTES_MAX));
    }
    assert_eq!(queue.batch().count(), 1);
}

#[test]
fn what_is_too_late_goes_unless_it_is_under_way() {
    let mut queue = queue(false, [1]);
    send(&mut queue);
    queue.push(entry(2));
    assert_eq!(queue.expire(999), []);
    assert_eq!(fates(queue.expire(1_000)), [(2, Fate::Dropped(Loss::Late))]);
    assert_eq!(queue.len(), 1);
}

proptest! {
    #[test]
    fn every_update_has_one_fate_in_its_order_and_the_bounds_hold(
        keeps: bool,
        steps in prop::collection::vec((0_u8..6, 0_usize..2_000), 1..200),
    ) {
        let mut queue = Queue::new(keeps, BOUNDS);
        let (mut pushed, mut told, mut stored) = (0, Vec::new(), Vec::new());
        let mut under_way: Vec<u64> = Vec::new();
        for (step, bytes) in steps {
            let now_ms = u64::try_from(bytes).unwrap();
            let gone = match step {
                0..=2 => {
                    pushed += 1;
                    queue.push(of_size(pushed, bytes))
                }
                3 if under_way.is_empty() && !queue.is_empty() => {
                    under_way = queue.batch().map(|update| update.sequence).collect();
                    vec![]
                }
                4 if !under_way.is_empty() => {
                    let first = under_way[0];
                    under_way.clear();
                    queue.answered(vec![failed(first, if bytes % 2 == 0 { 400 } else { 503 })], 0)
                }
                5 if !under_way.is_empty() => {
                    under_way.clear();
                    queue.failed("away", 0)
                }
                _ if !keeps => queue.expire(now_ms),
                _ => vec![],
            };
            for (sequence, fate) in fates(gone) {
                if fate == Fate::Stored {
                    stored.push(sequence);
                }
                told.push(sequence);
            }
            prop_assert!(queue.len() <= BOUNDS.updates && queue.bytes() <= BOUNDS.bytes);
        }
        let rest = queue.entries.iter().map(|entry| entry.teller);
        let mut all: Vec<u64> = told.iter().copied().chain(rest).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (1..=pushed).collect::<Vec<u64>>());
        prop_assert!(keeps || stored.is_sorted());
    }
}
