//! The queues of the units at their brokers.

use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::envelope::{Body, Envelope};
use unitring_protocol::ids::UnitId;

use super::super::{Input, Lasts, message};
use super::broken::Broken;
use super::faults::Faults;
use super::world::{LIMIT, Node, STALE_MS, World};

impl World {
    pub(super) fn requeue(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        for (_, envelope) in std::mem::take(&mut node.unacked).into_iter().rev() {
            node.queue.push_front((envelope, None));
        }
    }

    pub(super) fn deliver(&mut self, at: usize, faults: Faults) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[at];
        let due = node.stale.extract_if(.., |(due_ms, _)| *due_ms <= now_ms);
        node.queue.extend(due.map(|(_, envelope)| (envelope, None)));
        while self.nodes[at].reads && self.nodes[at].unacked.len() < 8 {
            let waiting = self.nodes[at].queue.len();
            let place = match self.dice.hits(faults.reordered) {
                true => self.dice.place(waiting),
                false => 0,
            };
            let Some((envelope, until_ms)) = self.nodes[at].queue.remove(place) else {
                return;
            };
            if until_ms.is_some_and(|until_ms| until_ms < now_ms) {
                continue;
            }
            if self.dice.hits(faults.repeated) {
                self.nodes[at].queue.push_back((envelope.clone(), until_ms));
            }
            if until_ms.is_none() && self.dice.hits(faults.stale) {
                let due_ms = now_ms + self.dice.roll(STALE_MS);
                self.nodes[at].stale.push((due_ms, envelope.clone()));
            }
            self.last_tag += 1;
            let tag = self.last_tag;
            let node = &mut self.nodes[at];
            if self.broken != Broken::EarlyAck {
                node.unacked.insert(tag, envelope.clone());
            }
            node.inbox.push_back(Input::Delivered(tag, envelope));
        }
    }

    /// Whether the broker confirmed a message.
    pub(super) fn publish(
        &mut self,
        at: usize,
        to: &UnitId,
        lasts: Lasts,
        body: &Body,
        faults: Faults,
    ) -> bool {
        let is_up = self.nodes[at].up.contains(to);
        if !is_up || self.refuses(at, to, faults) {
            return self.broken == Broken::Confirm;
        }
        let from = self.nodes[at].id.clone();
        if self.large > 0 && message::encoded_bytes(&from, body) > LIMIT {
            // The channel closes with the reason, and the link reports it.
            if self.broken != Broken::Limit {
                let limit = Input::Limit(to.clone(), LIMIT);
                self.nodes[at].inbox.push_back(limit);
            }
            return false;
        }
        let until_ms = match lasts {
            Lasts::UntilRead => None,
            Lasts::Ms(ms) => Some(self.now_ms + ms),
        };
        let envelope = Envelope {
            version: PROTOCOL_VERSION,
            from,
            body: body.clone(),
        };
        let Some(node) = self.nodes.iter_mut().find(|node| node.id == *to) else {
            return false;
        };
        if !node.has_queue {
            // It comes back as unroutable.
            return false;
        }
        // RabbitMQ never loses a confirmed message; a deleted queue does.
        if !self.dice.hits(faults.lost) {
            node.queue.push_back((envelope, until_ms));
        }
        // Taken, but the confirm is lost: it is sent again.
        !self.dice.hits(faults.unconfirmed)
    }

    /// Whether the broker refuses a message. For a calm unit it takes the next one.
    fn refuses(&mut self, at: usize, to: &UnitId, faults: Faults) -> bool {
        let refuses = self.dice.hits(faults.refused);
        let was_refused = &mut self.nodes[at].was_refused;
        if !faults.is_calm {
            return refuses;
        }
        if refuses && was_refused.insert(to.clone()) {
            return true;
        }
        was_refused.remove(to);
        false
    }
}

impl Node {
    /// Drops the messages on their way to this unit.
    pub(super) fn forget_queue(&mut self) {
        self.queue.clear();
        self.inbox.clear();
    }
}
