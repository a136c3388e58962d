//! Requests to one broker that travel together: while one request is in flight, what comes meanwhile waits for the next one.
//!
//! A task for a broker runs only while there is something to send. Must never: keep a caller waiting that the task no longer serves; a task
//! that ends in a fault drops what waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::task::spawn;

/// Items of one request.
const MAX_ITEMS: usize = 2000;

/// Sends items to a broker; the answers come in the order of the items.
pub(super) type SendBatch<I, A> = Arc<dyn Fn(i32, Vec<I>) -> BoxFuture<'static, Vec<A>> + Send + Sync>;

type Waiting<I, A> = (I, oneshot::Sender<A>);
/// What waits, by broker. A broker is in the map while its task runs.
type Queues<I, A> = Arc<Mutex<BTreeMap<i32, VecDeque<Waiting<I, A>>>>>;

/// See the module.
pub(super) struct Batcher<I, A> {
    queues: Queues<I, A>,
    send: SendBatch<I, A>,
}

impl<I, A> fmt::Debug for Batcher<I, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("brokers", &self.queues.lock().len()).finish()
    }
}

impl<I: Send + 'static, A: Send + 'static> Batcher<I, A> {
    /// A batcher whose requests `send` sends.
    pub(super) fn new(send: SendBatch<I, A>) -> Self {
        Self { queues: Queues::default(), send }
    }

    /// Sends `item` with the next request to a broker. No answer comes if that fails by a fault of this broker.
    pub(super) fn request(&self, node_id: i32, item: I) -> oneshot::Receiver<A> {
        let (sender, answer) = oneshot::channel();
        let mut queues = self.queues.lock();
        match queues.get_mut(&node_id) {
            Some(queue) => queue.push_back((item, sender)),
            None => {
                queues.insert(node_id, VecDeque::from([(item, sender)]));
                spawn(send_batches(Arc::clone(&self.queues), Arc::clone(&self.send), node_id));
            }
        }
        answer
    }
}

async fn send_batches<I, A>(queues: Queues<I, A>, send: SendBatch<I, A>, node_id: i32) {
    let mut lane = Lane { queues, node_id, is_done: false };
    while let Some(batch) = lane.next_batch() {
        // A caller that is gone may have sent its item elsewhere by now.
        let live = batch.into_iter().filter(|(_, sender)| !sender.is_closed());
        let (items, senders): (Vec<I>, Vec<oneshot::Sender<A>>) = live.unzip();
        if items.is_empty() {
            continue;
        }
        let answers = send(node_id, items).await;
        for (sender, answer) in senders.into_iter().zip(answers) {
            let _ = sender.send(answer);
        }
    }
}

/// The task of one broker.
struct Lane<I, A> {
    queues: Queues<I, A>,
    node_id: i32,
    is_done: bool,
}

impl<I, A> Lane<I, A> {
    fn next_batch(&mut self) -> Option<Vec<Waiting<I, A>>> {
        let mut queues = self.queues.lock();
        let batch: Vec<_> = match queues.get_mut(&self.node_id) {
            Some(queue) => queue.drain(..queue.len().min(MAX_ITEMS)).collect(),
            None => Vec::new(),
        };
        if batch.is_empty() {
            // Under the lock: what comes from here on starts another task.
            queues.remove(&self.node_id);
            self.is_done = true;
            return None;
        }
        Some(batch)
    }
}

impl<I, A> Drop for Lane<I, A> {
    fn drop(&mut self) {
        if !self.is_done {
            self.queues.lock().remove(&self.node_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::Semaphore;

    use super::*;

    type Sent = Arc<Mutex<Vec<(i32, Vec<u32>)>>>;

    /// Records the batches; each waits for a permit, and an item is answered with its double.
    fn doubling(gate: &Arc<Semaphore>) -> (Batcher<u32, u32>, Sent) {
        let sent = Sent::default();
        let (record, gate) = (Arc::clone(&sent), Arc::clone(gate));
        let batcher = Batcher::new(Arc::new(move |node_id, items: Vec<u32>| {
            record.lock().push((node_id, items.clone()));
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                assert!(!items.contains(&13), "a fault");
                items.into_iter().map(|item| item * 2).collect()
            }
            .boxed()
        }));
        (batcher, sent)
    }

    #[tokio::test]
    async fn what_comes_during_a_request_travels_with_the_next_one() {
        let gate = Arc::new(Semaphore::new(0));
        let (batcher, sent) = doubling(&gate);
        let first = batcher.request(1, 10);
        while sent.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let (second, gone, third) = (batcher.request(1, 20), batcher.request(1, 25), batcher.request(1, 30));
        drop(gone);
        let other = batcher.request(2, 40);
        gate.add_permits(3);
        assert_eq!((first.await, second.await, third.await, other.await), (Ok(20), Ok(40), Ok(60), Ok(80)));
        let mut sent = std::mem::take(&mut *sent.lock());
        sent.sort();
        assert_eq!(sent, [(1, vec![10]), (1, vec![20, 30]), (2, vec![40])]);
        while !batcher.queues.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_fault_ends_the_wait_and_the_next_request_is_sent() {
        let gate = Arc::new(Semaphore::new(2));
        let (batcher, _) = doubling(&gate);
        assert!(batcher.request(1, 13).await.is_err());
        assert_eq!(batcher.request(1, 14).await, Ok(28));
    }
}
