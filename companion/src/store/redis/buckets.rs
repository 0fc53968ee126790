//! Every bucket on its own: in a Redis Cluster each is somewhere else.

use futures::{StreamExt as _, TryStreamExt as _};
use unitring_protocol::digest::BUCKETS;

use crate::store::StoreError;

/// Buckets that are asked at a time.
const ASKED_MAX: usize = 32;

/// Asks about every bucket on its own: in a Redis Cluster each is somewhere else.
pub(super) async fn of_each_bucket<T, F: Future<Output = Result<T, StoreError>>>(
    ask: impl Fn(u8) -> F,
) -> Result<Vec<T>, StoreError> {
    let buckets = (0..BUCKETS).filter_map(|bucket| u8::try_from(bucket).ok());
    let answers = futures::stream::iter(buckets.map(ask)).buffered(ASKED_MAX);
    answers.try_collect().await
}

/// Some buckets at a time, in any order but that of one bucket's own; the answers are in order.
pub(super) async fn of_these<A, T, F: Future<Output = Result<T, StoreError>>>(
    items: impl IntoIterator<Item = A>,
    ask: impl Fn(A) -> F,
) -> Result<Vec<T>, StoreError> {
    let answers = futures::stream::iter(items.into_iter().map(ask)).buffered(ASKED_MAX);
    answers.try_collect().await
}
