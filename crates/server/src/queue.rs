//! Whose turn it is: the client that was served longest ago, and of its requests the oldest.
//!
//! One client's hundred requests so delay another's single one by at most one answer.

use std::collections::VecDeque;

/// Waiting work of many clients.
pub struct Queue<T> {
    limit: usize,
    waiting: VecDeque<(u64, T)>,
    /// Clients that were served, the latest last; short, because only clients that wait are remembered.
    served: Vec<u64>,
}

impl<T> Queue<T> {
    /// A queue for at most so many.
    pub fn new(limit: usize) -> Self {
        Queue {
            limit,
            waiting: VecDeque::new(),
            served: Vec::new(),
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a place, or gives the work back when there is none.
    pub fn push(&mut self, client: u64, work: T) -> Result<(), T> {
        if self.waiting.len() >= self.limit {
            return Err(work);
        }
        self.waiting.push_back((client, work));
        Ok(())
    }

    /// Who is next.
    pub fn pop(&mut self) -> Option<T> {
        let turn = |client: &u64| self.served.iter().position(|served| served == client);
        // `None`, never served, is smaller than any place; of equals the first is taken, which is the oldest.
        let next = (0..self.waiting.len()).min_by_key(|&place| turn(&self.waiting[place].0))?;
        let (client, work) = self.waiting.remove(next)?;
        let waiting = &self.waiting;
        self.served
            .retain(|served| *served != client && waiting.iter().any(|(other, _)| other == served));
        self.served.push(client);
        Some(work)
    }

    /// Takes out what need not be done any more.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.waiting.retain(|(_, work)| keep(work));
    }

    /// Takes out everything.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn clients_take_turns_and_each_ones_work_keeps_its_order() {
        let mut queue = Queue::new(9);
        for (client, work) in [
            (1, "a1"),
            (1, "a2"),
            (1, "a3"),
            (2, "b1"),
            (3, "c1"),
            (2, "b2"),
        ] {
            queue.push(client, work).unwrap();
        }
        assert_eq!(drain(&mut queue), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn a_newcomer_is_not_served_twice_before_others() {
        let mut queue = Queue::new(9);
        queue.push(1, "a1").unwrap();
        queue.push(1, "a2").unwrap();
        assert_eq!(queue.pop(), Some("a1"));
        queue.push(2, "b1").unwrap();
        queue.push(2, "b2").unwrap();
        assert_eq!(drain(&mut queue), ["b1", "a2", "b2"]);
    }

    #[test]
    fn a_full_queue_gives_the_work_back() {
        let mut queue = Queue::new(1);
        assert_eq!(queue.push(1, "a"), Ok(()));
        assert_eq!(queue.push(2, "b"), Err("b"));
        queue.retain(|work| *work != "a");
        assert_eq!(queue.push(2, "b"), Ok(()));
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_all_others_are_many(clients in prop::collection::vec(0u64..5, 1..40)) {
            let mut queue = Queue::new(clients.len());
            for (index, &client) in clients.iter().enumerate() {
                queue.push(client, (client, index)).unwrap();
            }
            let order: Vec<(u64, usize)> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(order.len(), clients.len());
            for client in 0..5 {
                let places: Vec<usize> = (0..order.len()).filter(|&place| order[place].0 == client).collect();
                // Between two turns of one client no other client has more than one.
                for pair in places.windows(2) {
                    prop_assert!(order[pair[0]].1 < order[pair[1]].1);
                    let between: Vec<u64> = order[pair[0] + 1..pair[1]].iter().map(|(other, _)| *other).collect();
                    let mut once = between.clone();
                    once.sort_unstable();
                    once.dedup();
                    prop_assert_eq!(once.len(), between.len());
                }
            }
        }
    }
}
