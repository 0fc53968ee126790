//! The spans of traced ops: while their message is on its way, and while they are applied.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry::trace::SpanKind;
use unitring_protocol::envelope::Body;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Op;
use unitring_protocol::trace::TraceParent;

use crate::store::Batch;
use crate::sync::machine::MessageId;
use crate::trace::{self, Work};

/// Most ops with a span of their own, in a message or in a batch that is applied. The others pass on the span
/// that they have.
const SPANS_MAX: usize = 64;

/// A message without a confirm of each unit.
#[derive(Debug)]
struct Waiting {
    to: BTreeSet<UnitId>,
    spans: Vec<Work>,
}

/// The messages on their way that have spans.
#[derive(Debug, Default)]
pub(super) struct Sent(BTreeMap<MessageId, Waiting>);

impl Sent {
    /// Begins a span for each traced op in a message; with the op it goes to the other units. Returns the context
    /// for the message itself: that of its first traced op.
    pub(super) fn publish(
        &mut self,
        id: MessageId,
        to: &[UnitId],
        body: &mut Body,
    ) -> Option<TraceParent> {
        let Body::Ops { parts } = body else {
            return None;
        };
        let ops = parts.iter_mut().flat_map(|part| &mut part.ops);
        let mut traced = ops.filter(|op| op.trace.is_some()).peekable();
        traced.peek()?;
        let names: Vec<&str> = to.iter().map(UnitId::as_str).collect();
        let (mut spans, mut first) = (Vec::new(), None);
        for op in traced {
            if spans.len() < SPANS_MAX
                && let Some(span) = begun(SpanKind::Producer, "publish", op)
            {
                span.set("unitring.to", names.join(","));
                op.trace = span.parent().or(op.trace);
                spans.push(span);
            }
            first = first.or(op.trace);
        }
        if !spans.is_empty() {
            let to = to.iter().cloned().collect();
            self.0.insert(id, Waiting { to, spans });
        }
        first
    }

    /// A broker confirmed a message, or did not take it.
    pub(super) fn published(&mut self, unit: &UnitId, id: MessageId, is_confirmed: bool) {
        if let Some(waiting) = self.0.get_mut(&id) {
            waiting.ended(unit, is_confirmed.then_some(()).ok_or("not confirmed"));
            if waiting.to.is_empty() {
                self.0.remove(&id);
            }
        }
    }

    /// A link is down: what waited for its broker is published again later.
    pub(super) fn link_down(&mut self, unit: &UnitId) {
        self.0.retain(|_, waiting| {
            waiting.ended(unit, Err("the link broke"));
            !waiting.to.is_empty()
        });
    }
}

impl Waiting {
    fn ended(&mut self, unit: &UnitId, how: Result<(), &str>) {
        if !self.to.remove(unit) {
            return;
        }
        for span in &self.spans {
            match how {
                Ok(()) => span.saw(format!("confirmed for {unit}")),
                Err(why) => span.failed(format!("{unit}: {why}")),
            }
        }
    }
}

/// Begins a span for each traced op that is to be applied.
pub(super) fn applying(parts: &[(u8, Batch)]) -> Vec<Work> {
    if !trace::is_on() {
        return Vec::new();
    }
    let ops = parts.iter().filter_map(|(_, batch)| match batch {
        Batch::Ops { origin, ops, .. } => Some(ops.iter().map(move |op| (origin, op))),
        Batch::Records { .. } => None,
    });
    let spans = ops.flatten().filter_map(|(origin, op)| {
        let span = begun(SpanKind::Consumer, "apply", op)?;
        span.set("unitring.from", origin.to_string());
        Some(span)
    });
    spans.take(SPANS_MAX).collect()
}

/// The span of an op's next step. A record's key may be a secret; its version is not.
fn begun(kind: SpanKind, name: &'static str, op: &Op) -> Option<Work> {
    let span = Work::after(op.trace.as_ref()?, kind, name)?;
    span.set("messaging.system", "rabbitmq");
    span.set("unitring.version", op.record.version.to_string());
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn without_a_collector_an_op_keeps_its_span_and_the_message_has_the_first() {
        let op = |sequence: u64, trace: Option<&str>| {
            let mut op =
                json!({"sequence": sequence, "dataset": "d", "key": "k", "at": "5.0@west"});
            if let Some(trace) = trace {
                op["trace"] = trace.into();
            }
            op
        };
        let first = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let second = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01";
        let ops = [op(1, None), op(2, Some(first)), op(3, Some(second))];
        let part = json!({"bucket": 1, "incarnation": 1, "ops": ops});
        let message = json!({"kind": "ops", "parts": [part]});
        let mut body: Body = serde_json::from_value(message).unwrap();
        let before = body.clone();
        let mut sent = Sent::default();
        let to = ["east".parse().unwrap()];
        let context = sent.publish(7, &to, &mut body);
        assert_eq!(context, Some(first.parse().unwrap()));
        assert_eq!(body, before);
        assert!(sent.0.is_empty());
        let mut other = Body::FixedRequest {};
        assert_eq!(sent.publish(8, &to, &mut other), None);
        sent.published(&to[0], 7, true);
        sent.link_down(&to[0]);
    }
}
