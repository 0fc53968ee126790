//! Requests for every bucket on its own: in a Redis Cluster their keys are on different servers.

use futures::{StreamExt as _, TryStreamExt as _};
use unitring_protocol::digest::BUCKETS;

use crate::store::StoreError;

/// Most requests at once.
const ASKED_MAX: usize = 32;

/// Runs a request for every bucket; the answers are in order.
pub(super) async fn of_each_bucket<T, F: Future<Output = Result<T, StoreError>>>(
    ask: impl Fn(u8) -> F,
) -> Result<Vec<T>, StoreError> {
    let buckets = (0..BUCKETS).filter_map(|bucket| u8::try_from(bucket).ok());
    let answers = futures::stream::iter(buckets.map(ask)).buffered(ASKED_MAX);
    answers.try_collect().await
}

/// Runs requests concurrently; the answers are in order.
pub(super) async fn of_these<A, T, F: Future<Output = Result<T, StoreError>>>(
    items: impl IntoIterator<Item = A>,
    ask: impl Fn(A) -> F,
) -> Result<Vec<T>, StoreError> {
    let answers = futures::stream::iter(items.into_iter().map(ask)).buffered(ASKED_MAX);
    answers.try_collect().await
}
