//! The metric store: who may push, and what each process last said. No clock, socket or task.
//!
//! Identity comes from the token that a process was given, never from what it sends. Gauges of a process vanish
//! when it ends; its counters stay until its next generation pushes and begin again there, which Prometheus
//! sees as an ordinary reset.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

use super::families::{Families, FamilyInfo};
use super::refusal::{Reason, Refused};
pub use super::snapshot::Limits;
use super::snapshot::{Series, Snapshot};
use super::template::Template;
use super::token::Token;
use crate::token_bucket::{Rate, TokenBucket};

/// The rules of a [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// Bounds on one push.
    pub limits: Limits,
    /// How often one process may push; see [`PUSHES`].
    pub rate: Rate,
    /// Gauges older than this are not shown. `None` where [`Store::exited`] tells when a process ends.
    pub stale_after: Option<Duration>,
}

/// The usual rate of one process's pushes. It leaves a factor of ten over the usual interval of one second, and the burst
/// covers a child that was suspended and catches up, or that flushes while it stops. Of a child gone wild that
/// pushes 1,000 times in its first second 30 pass; 970 are refused and counted, at the price of a header each.
pub const PUSHES: Rate = Rate::per_second(20, 10);

impl Default for StoreSettings {
    fn default() -> Self {
        Self { limits: Limits::default(), rate: PUSHES, stale_after: None }
    }
}

/// What of a request was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Accepted {
    /// Series kept.
    pub series: usize,
    /// Series refused, by reason.
    pub refused: Refused,
}

/// A whole request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("telemetry refused: {0}")]
pub struct Refusal(pub Reason);

/// The right to hand in one push, given by [`Store::admit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    process: Arc<str>,
    generation: u64,
}

/// The store; see the module.
#[derive(Debug)]
pub struct Store {
    settings: StoreSettings,
    families: Families,
    /// By [`Token::selector`]. At most two per process: the current token and the one before.
    tokens: HashMap<u64, Vec<Entry>>,
    processes: BTreeMap<Arc<str>, Process>,
    refused: Refused,
}

#[derive(Debug)]
struct Entry {
    token: Token,
    process: Arc<str>,
    generation: u64,
}

#[derive(Debug)]
struct Process {
    role: Arc<str>,
    generation: u64,
    alive: bool,
    /// Opened by the first push.
    bucket: Option<TokenBucket>,
    last_push: Option<Instant>,
    families: Arc<Vec<StoredFamily>>,
    /// Of the push that made `families`, where it is known.
    template: Option<Template>,
    /// Bytes of the last push that was decoded.
    last_length: usize,
}

/// How [`Store::begin`] went.
#[derive(Debug, PartialEq)]
pub(super) enum Begun {
    /// Only numbers had changed: the push is stored.
    Done(Accepted),
    /// It is to be decoded. The one before looked different.
    New,
    /// It is to be decoded. The one before may have been like it.
    Settled,
}

/// One metric of one process.
#[derive(Debug, Clone)]
pub(super) struct StoredFamily {
    pub info: Arc<FamilyInfo>,
    pub series: Vec<Series>,
}

/// What is to be shown of one process; cheap to take, so that rendering needs no lock.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub process: Arc<str>,
    pub role: Arc<str>,
    /// Whether gauges are shown.
    pub gauges: bool,
    pub families: Arc<Vec<StoredFamily>>,
}

/// A store shared by the receiver, the exposition and whoever registers processes.
#[derive(Debug, Clone)]
pub struct SharedStore(Arc<Mutex<Store>>);

impl SharedStore {
    /// Shares `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    /// The store itself. Hold it for a few statements only.
    pub fn lock(&self) -> MutexGuard<'_, Store> {
        // Every method leaves the store whole, so a panic elsewhere must not end all telemetry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SharedStore {
    fn default() -> Self {
        Self::new(Store::new(StoreSettings::default()))
    }
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(settings: StoreSettings) -> Self {
        Self {
            settings,
            families: Families::new(),
            tokens: HashMap::new(),
            processes: BTreeMap::new(),
            refused: Refused::default(),
        }
    }

    /// Lets generation `generation` of `process` push with `token`. Earlier generations may not any more; a
    /// registration of an earlier generation than the current one is ignored.
    pub fn register(&mut self, token: &Token, process: &str, role: &str, generation: u64) {
        let name: Arc<str> = match self.processes.get_key_value(process) {
            Some((_, known)) if known.generation > generation => return,
            Some((name, _)) => name.clone(),
            None => process.into(),
        };
        let previous = self.processes.get(process).map(|known| known.generation);
        // The token before is kept to tell a late push from a stranger's.
        self.retain_tokens(|entry| {
            *entry.process != *name || (Some(entry.generation) == previous && entry.generation != generation)
        });
        let entry = Entry { token: token.clone(), process: name.clone(), generation };
        self.tokens.entry(token.selector()).or_default().push(entry);
        let families = self.processes.get(process).map(|known| known.durable()).unwrap_or_default();
        self.processes.insert(
            name,
            Process {
                role: role.into(),
                generation,
                alive: true,
                bucket: None,
                last_push: None,
                families,
                template: None,
                last_length: 0,
            },
        );
    }

    /// Generation `generation` of `process` has ended: its gauges vanish and it may push no more. The end of an
    /// earlier generation than the current one changes nothing.
    pub fn exited(&mut self, process: &str, generation: u64) {
        if let Some(known) = self.processes.get_mut(process)
            && known.generation == generation
        {
            known.alive = false;
            known.families = known.durable();
            known.template = None;
        }
    }

    /// Forgets `process` with all its series and tokens.
    pub fn remove(&mut self, process: &str) {
        self.processes.remove(process);
        self.retain_tokens(|entry| *entry.process != *process);
    }

    fn retain_tokens(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.tokens.retain(|_, entries| {
            entries.retain(&keep);
            !entries.is_empty()
        });
    }

    /// Whether the holder of `token` may push now. Counts what it refuses.
    ///
    /// # Errors
    /// [`Reason::Unauthenticated`], [`Reason::Late`] or [`Reason::RateLimited`].
    pub fn admit(&mut self, token: Option<&Token>, now: Instant) -> Result<Ticket, Refusal> {
        let ticket = token.and_then(|token| {
            let entries = self.tokens.get(&token.selector())?;
            let entry = entries.iter().find(|entry| entry.token.matches(token))?;
            Some(Ticket { process: entry.process.clone(), generation: entry.generation })
        });
        let Some(ticket) = ticket else { return Err(self.refuse(Reason::Unauthenticated)) };
        let rate = self.settings.rate;
        let passes = self
            .current(&ticket)
            .map(|process| process.bucket.get_or_insert_with(|| TokenBucket::full(rate, now)).take(1, now));
        match passes {
            None => Err(self.refuse(Reason::Late)),
            Some(false) => Err(self.refuse(Reason::RateLimited)),
            Some(true) => Ok(ticket),
        }
    }

    /// Stores `body` if it differs from the push before in its numbers only.
    pub(super) fn begin(&mut self, ticket: &Ticket, body: &[u8], now: Instant) -> Result<Begun, Refusal> {
        let Some(process) = self.current(ticket) else { return Err(self.refuse(Reason::Late)) };
        let Some(template) = process.template.take() else {
            let settled = process.last_length == body.len();
            process.last_length = body.len();
            return Ok(if settled { Begun::Settled } else { Begun::New });
        };
        if !template.update(body, &mut process.families) {
            // A sender that puts its series in another order each time would want a new template each time.
            process.last_length = body.len();
            return Ok(Begun::New);
        }
        let series = template.series();
        process.template = Some(template);
        process.last_push = Some(now);
        Ok(Begun::Done(Accepted { series, refused: Refused::default() }))
    }

    /// Replaces what the process of `ticket` said before by `snapshot`. Counts what it refuses.
    ///
    /// # Errors
    /// [`Reason::Late`] when the process has ended, or begun anew, since it was admitted.
    pub fn accept(&mut self, ticket: &Ticket, snapshot: Snapshot, now: Instant) -> Result<Accepted, Refusal> {
        self.keep(ticket, snapshot, None, now)
    }

    /// [`Store::accept`], with the template of the push that `snapshot` was made of.
    pub(super) fn keep(
        &mut self,
        ticket: &Ticket,
        snapshot: Snapshot,
        template: Option<Template>,
        now: Instant,
    ) -> Result<Accepted, Refusal> {
        let Some(process) = self.current(ticket) else { return Err(self.refuse(Reason::Late)) };
        let role = process.role.clone();
        let Snapshot { families, mut refused, claims } = snapshot;
        for claim in claims {
            if !claim.agrees_with(&ticket.process, &role) {
                refused.count(Reason::Identity);
            }
        }
        let mut kept = Vec::with_capacity(families.len());
        let mut series = 0;
        for family in families {
            match self.families.claim(&family.name, family.kind, &family.help) {
                Ok(info) => {
                    series += family.series.len();
                    kept.push(StoredFamily { info, series: family.series });
                }
                Err(reason) => refused.add(reason, family.series.len() as u64),
            }
        }
        self.refused.merge(&refused);
        if let Some(process) = self.current(ticket) {
            process.families = Arc::new(kept);
            // Where something was refused, it is to be refused and counted each time.
            process.template = template.filter(|_| refused.total() == 0);
            process.last_push = Some(now);
        }
        Ok(Accepted { series, refused })
    }

    /// [`Store::admit`] and [`Store::accept`] in one, for a request that is already decoded.
    ///
    /// # Errors
    /// See both.
    pub fn push(
        &mut self,
        token: &Token,
        request: ExportMetricsServiceRequest,
        now: Instant,
    ) -> Result<Accepted, Refusal> {
        let ticket = self.admit(Some(token), now)?;
        let snapshot = Snapshot::from_request(request, &self.settings.limits);
        self.accept(&ticket, snapshot, now)
    }

    /// Counts a refusal.
    pub fn refuse(&mut self, reason: Reason) -> Refusal {
        self.refused.count(reason);
        Refusal(reason)
    }

    /// Everything refused so far.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// The bounds on one push.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.settings.limits
    }

    pub(super) fn views(&self, now: Instant) -> Vec<View> {
        let fresh = |process: &Process| match (self.settings.stale_after, process.last_push) {
            (Some(limit), Some(last)) => now.saturating_duration_since(last) <= limit,
            _ => true,
        };
        self.processes
            .iter()
            .map(|(name, process)| View {
                process: name.clone(),
                role: process.role.clone(),
                gauges: fresh(process),
                families: process.families.clone(),
            })
            .collect()
    }

    fn current(&mut self, ticket: &Ticket) -> Option<&mut Process> {
        self.processes
            .get_mut(&ticket.process)
            .filter(|process| process.alive && process.generation == ticket.generation)
    }
}

impl Process {
    /// The families that outlive the process.
    fn durable(&self) -> Arc<Vec<StoredFamily>> {
        let durable = self.families.iter().filter(|family| family.info.kind.outlives_process());
        Arc::new(durable.cloned().collect())
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
