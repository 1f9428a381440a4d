//! Work shared out over the machine's cores.

use std::panic;
use std::thread;

/// The results of `work` for each item, in their order. Neighbours share a thread.
///
/// # Errors
/// The first that `work` returns, in the order of the items.
///
/// # Panics
/// Where `work` does.
pub fn map<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(threads).max(1);
    let work = &work;
    thread::scope(|scope| {
        let part = |items| scope.spawn(move || <[T]>::iter(items).map(work).collect());
        let running: Vec<_> = items.chunks(share).map(part).collect();
        let mut results = Vec::with_capacity(items.len());
        for part in running {
            let part: Result<Vec<R>, E> =
                part.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
            results.extend(part?);
        }
        Ok(results)
    })
}

#[cfg(test)]
mod tests {
    use super::map;

    #[test]
    fn results_keep_their_order_and_the_first_error_wins() {
        for count in [0u32, 1, 2, 1000] {
            let items: Vec<u32> = (0..count).collect();
            let doubled = map(&items, |item| Ok::<u32, ()>(2 * item)).unwrap();
            assert!(doubled.iter().enumerate().all(|(at, value)| *value == 2 * at as u32));
            assert_eq!(doubled.len(), items.len());
        }
        let items: Vec<u32> = (0..1000).collect();
        let failed = map(&items, |item| if *item < 300 { Ok(*item) } else { Err(*item) });
        assert_eq!(failed, Err(300));
    }
}
