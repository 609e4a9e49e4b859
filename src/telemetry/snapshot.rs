//! One push of one process, checked and brought into the form that is kept.
//!
//! A push is a process's whole state: the SDK's reader sends every instrument at every interval. So a snapshot
//! replaces the one before it, and a series that is no longer sent (a peer that left) is gone. Each series is
//! judged by itself: a bad one is refused and counted, the others are kept.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric};

use super::catalogue::Kind;
use super::naming;
use super::points::{self, ClaimedIdentity};
use super::refusal::{Reason, Refused};

/// Bounds on what one process may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most series of one process; a histogram counts as one for each of its lines. Default 2,000: a node with 64
    /// peers has about 450.
    pub series: usize,
    /// Most labels of one series, `process` and `role` not counted. Default 16; the catalogue has at most 2.
    pub labels: usize,
    /// Longest name of a metric or label, longest value of a label, in bytes. Default 256: a peer's id has 52.
    pub text_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { series: 2_000, labels: 16, text_bytes: 256 }
    }
}

/// A description longer than this many bytes is cut.
const MAX_HELP_BYTES: usize = 512;

/// Names that begin so are the supervisor's own figures about its processes.
const RESERVED_PREFIX: &str = "hippius_";

/// What one process reported: metrics, each with its series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub(super) families: Vec<Family>,
    pub(super) refused: Refused,
    /// What the series say of the sender; compared with what the token says.
    pub(super) claims: Vec<ClaimedIdentity>,
}

/// One metric of a process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    /// The exposed name.
    pub name: String,
    pub kind: Kind,
    pub help: String,
    /// Sorted by labels, each set of labels once.
    pub series: Vec<Series>,
}

/// One series: its labels, sorted by name, without `process` and `role`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub labels: Vec<(String, String)>,
    pub value: Value,
}

/// The value of a series.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Histogram(Box<Histogram>),
}

/// A histogram with cumulative buckets; the last bucket, `+Inf`, is `count`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
    pub count: u64,
}

impl Snapshot {
    /// Judges `request` by `limits`. What is refused is in [`Snapshot::refused`].
    #[must_use]
    pub fn from_request(request: ExportMetricsServiceRequest, limits: &Limits) -> Self {
        let mut builder =
            Builder { limits, snapshot: Snapshot::default(), by_name: HashMap::new(), lines: 0 };
        let metrics = request
            .resource_metrics
            .into_iter()
            .flat_map(|resource| resource.scope_metrics)
            .flat_map(|scope| scope.metrics);
        for metric in metrics {
            builder.metric(metric);
        }
        builder.finish()
    }

    /// How much was refused, by reason.
    #[must_use]
    pub fn refused(&self) -> &Refused {
        &self.refused
    }

    /// How many series it holds.
    #[must_use]
    pub fn series(&self) -> usize {
        self.families.iter().map(|family| family.series.len()).sum()
    }
}

struct Builder<'l> {
    limits: &'l Limits,
    snapshot: Snapshot,
    by_name: HashMap<String, usize>,
    /// Lines of exposition taken up so far.
    lines: usize,
}

impl Builder<'_> {
    fn metric(&mut self, metric: Metric) {
        let Metric { name, description, data, .. } = metric;
        let Some(data) = data else { return };
        let refuse = |builder: &mut Self, reason, points: usize| {
            // A metric without points still counts: a child that sends rubbish shows.
            builder.snapshot.refused.add(reason, points.max(1) as u64);
        };
        let cumulative = AggregationTemporality::Cumulative as i32;
        let (kind, points) = match data {
            Data::Gauge(gauge) => (Kind::Gauge, Points::Numbers(gauge.data_points)),
            Data::Sum(sum) if sum.aggregation_temporality != cumulative => {
                return refuse(self, Reason::Delta, sum.data_points.len());
            }
            Data::Sum(sum) => {
                let kind = if sum.is_monotonic { Kind::Counter } else { Kind::Gauge };
                (kind, Points::Numbers(sum.data_points))
            }
            Data::Histogram(histogram) if histogram.aggregation_temporality != cumulative => {
                return refuse(self, Reason::Delta, histogram.data_points.len());
            }
            Data::Histogram(histogram) => (Kind::Histogram, Points::Histograms(histogram.data_points)),
            Data::ExponentialHistogram(histogram) => {
                return refuse(self, Reason::ExponentialHistogram, histogram.data_points.len());
            }
            Data::Summary(summary) => return refuse(self, Reason::Summary, summary.data_points.len()),
        };
        let count = points.len();
        if name.len() > self.limits.text_bytes {
            return refuse(self, Reason::Length, count);
        }
        let Some(name) = naming::metric_name(name) else {
            return refuse(self, Reason::Name, count);
        };
        if name.starts_with(RESERVED_PREFIX) {
            return refuse(self, Reason::Reserved, count);
        }
        let name = if kind == Kind::Counter { naming::counter_name(name) } else { name };
        if count == 0 {
            return;
        }
        let family = match self.by_name.get(&name) {
            Some(&index) if self.snapshot.families[index].kind != kind => {
                return refuse(self, Reason::TypeConflict, count);
            }
            Some(&index) => index,
            None => {
                let help = naming::shortened(&description, MAX_HELP_BYTES).into_owned();
                self.by_name.insert(name.clone(), self.snapshot.families.len());
                self.snapshot.families.push(Family { name, kind, help, series: Vec::new() });
                self.snapshot.families.len() - 1
            }
        };
        self.points(family, kind, points);
    }

    fn points(&mut self, family: usize, kind: Kind, points: Points) {
        match points {
            Points::Numbers(points) => {
                for point in points {
                    let value = points::number(&point, kind);
                    self.series(family, value, point.attributes);
                }
            }
            Points::Histograms(points) => {
                for point in points {
                    let value = points::histogram(&point);
                    self.series(family, value, point.attributes);
                }
            }
        }
    }

    fn series(
        &mut self,
        family: usize,
        value: Result<Option<Value>, Reason>,
        attributes: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>,
    ) {
        let value = match value {
            Ok(Some(value)) => value,
            Ok(None) => return,
            Err(reason) => return self.snapshot.refused.count(reason),
        };
        let lines = match &value {
            Value::Number(_) => 1,
            Value::Histogram(histogram) => histogram.buckets.len() + 3,
        };
        if self.lines + lines > self.limits.series {
            return self.snapshot.refused.count(Reason::Series);
        }
        match points::labels(attributes, self.limits) {
            Ok((labels, claim)) => {
                self.lines += lines;
                self.snapshot.families[family].series.push(Series { labels, value });
                if !claim.is_empty() && !self.snapshot.claims.contains(&claim) {
                    self.claim(claim);
                }
            }
            Err(reason) => self.snapshot.refused.count(reason),
        }
    }

    /// Remembers a claim; a few are enough to compare, the rest is a false claim whoever the sender is.
    fn claim(&mut self, claim: ClaimedIdentity) {
        const MAX_CLAIMS: usize = 8;
        if self.snapshot.claims.len() < MAX_CLAIMS {
            self.snapshot.claims.push(claim);
        } else {
            self.snapshot.refused.count(Reason::Identity);
        }
    }

    fn finish(mut self) -> Snapshot {
        for family in &mut self.snapshot.families {
            // A stable sort: of two equal series the one sent first stays.
            family.series.sort_by(|a, b| a.labels.cmp(&b.labels));
            let before = family.series.len();
            family.series.dedup_by(|later, first| later.labels == first.labels);
            self.snapshot.refused.add(Reason::Duplicate, (before - family.series.len()) as u64);
        }
        self.snapshot.families.retain(|family| !family.series.is_empty());
        self.snapshot
    }
}

enum Points {
    Numbers(Vec<opentelemetry_proto::tonic::metrics::v1::NumberDataPoint>),
    Histograms(Vec<opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint>),
}

impl Points {
    fn len(&self) -> usize {
        match self {
            Points::Numbers(points) => points.len(),
            Points::Histograms(points) => points.len(),
        }
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
