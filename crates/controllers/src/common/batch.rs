//! Slow start: many writes of which the first show whether the rest make sense.

use std::future::Future;

use futures::future::join_all;

/// Size of the first batch (upstream's SlowStartInitialBatchSize).
pub const INITIAL_BATCH: usize = 1;

/// Calls `write` for `0..count` in batches of 1, 2, 4, …, and stops after the first batch with an error.
///
/// Gives how many succeeded, how many were not tried, and the first error: if one pod is refused by a quota, the other
/// 499 would be too.
pub async fn slow_start<F, Fut, E>(count: usize, write: F) -> (usize, usize, Option<E>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let (mut done, mut size, mut succeeded) = (0, INITIAL_BATCH, 0);
    while done < count {
        let batch = size.min(count - done);
        let results = join_all((done..done + batch).map(&write)).await;
        done += batch;
        size *= 2;
        let mut first = None;
        for result in results {
            match result {
                Ok(()) => succeeded += 1,
                Err(error) => first = first.or(Some(error)),
            }
        }
        if first.is_some() {
            return (succeeded, count - done, first);
        }
    }
    (succeeded, 0, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_ends_it_after_its_batch() {
        let write = |i: usize| async move { if i == 4 { Err(i) } else { Ok(()) } };
        assert_eq!(slow_start(100, write).await, (6, 93, Some(4)));
        assert_eq!(slow_start(3, write).await, (3, 0, None));
    }
}
