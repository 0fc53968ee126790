//! The contract of a store for several companions of one unit.

use std::collections::BTreeSet;

use crate::events::{Entry, GroupChange, GroupEvent};
use crate::store::Store;

/// The promises about leadership. Both are the store of the same unit, which has had no leader.
pub async fn leadership(first: &dyn Store, second: &dyn Store) {
    let lead = async |store: &dyn Store, me: &str| store.lead(me).await.unwrap();
    assert_eq!(lead(first, "a").await, Some(1));
    assert_eq!(lead(second, "b").await, None);
    assert_eq!(lead(first, "a").await, Some(1), "renewed");
    second.resign("b").await.unwrap();
    assert_eq!(
        lead(second, "b").await,
        None,
        "it was not theirs to give back"
    );
    first.resign("a").await.unwrap();
    assert_eq!(lead(second, "b").await, Some(2));

    // A former leader may no longer write.
    let event = |reason: &str| {
        Entry::Group(GroupEvent {
            at_ms: 1,
            kind: GroupChange::GroupDegraded,
            reason: reason.to_owned(),
        })
    };
    assert!(!first.append(1, &event("old")).await.unwrap());
    assert!(second.append(2, &event("new")).await.unwrap());
    let stored = second.events(None, 10).await.unwrap();
    let stored: Vec<&Entry> = stored.iter().map(|(_, entry)| entry).collect();
    assert_eq!(stored, [&event("new")]);

    first.hint(7).await.unwrap();
    let (_, after) = second.hints("").await.unwrap();
    assert_eq!(
        second.hints(&after).await.unwrap(),
        (BTreeSet::new(), after.clone())
    );
    first.hint(9).await.unwrap();
    first.hint(9).await.unwrap();
    let (buckets, _) = second.hints(&after).await.unwrap();
    assert_eq!(buckets, BTreeSet::from([9]));
}
