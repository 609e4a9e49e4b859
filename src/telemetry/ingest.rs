//! From the bytes of a push into the store, by the short way where there is one.

use std::time::Instant;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;

use super::refusal::Reason;
use super::snapshot::Snapshot;
use super::store::{Accepted, Begun, Refusal, SharedStore, Ticket};
use super::template::Template;

impl SharedStore {
    /// Replaces what the process of `ticket` said before by the push `body`. Counts what it refuses.
    ///
    /// # Errors
    /// [`Reason::Malformed`] when `body` is no OTLP; [`Reason::Late`] when the process has ended, or begun anew, since
    /// it was admitted.
    pub fn ingest(&self, ticket: &Ticket, body: &[u8], now: Instant) -> Result<Accepted, Refusal> {
        let (limits, begun) = {
            let mut store = self.lock();
            (store.limits(), store.begin(ticket, body, now)?)
        };
        let template = match begun {
            Begun::Done(accepted) => return Ok(accepted),
            // Peers come and go in a process that has just started: a shape is worth a template once it is seen twice.
            Begun::New => None,
            Begun::Settled => Template::of(body, &limits),
        };
        let Ok(request) = ExportMetricsServiceRequest::decode(body) else {
            return Err(self.lock().refuse(Reason::Malformed));
        };
        let snapshot = Snapshot::from_request(request, &limits);
        self.lock().keep(ticket, snapshot, template, now)
    }
}

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
