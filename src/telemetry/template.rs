//! A push that differs from the one before in its numbers only, taken without decoding it.
//!
//! OTLP writes times, counts and values in eight bytes each, whatever they are (`fixed64`, `sfixed64` and `double` in
//! `NumberDataPoint` and `HistogramDataPoint` of `metrics/v1/metrics.proto`). Two pushes of one length that are equal
//! outside of such places therefore hold the same series in the same order, and all that was found out about the first
//! is true of the second, except about the numbers themselves.
//!
//! Which point is which series is found by trial, so that the rules of [`snapshot`](super::snapshot) stand in one
//! place: the points of a copy are numbered, the copy is judged like any push, and the values of the series that come
//! out name their points.

use std::ops::Range;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;

use super::points;
use super::snapshot::{Histogram, Limits, Snapshot, Value};
use super::store::StoredFamily;
use super::wire::{Field, Fields};

/// The bytes of a push, and where its numbers are in them.
#[derive(Debug)]
pub(super) struct Template {
    body: Box<[u8]>,
    /// Bytes that may change from push to push, in their order; no two overlap.
    gaps: Box<[Range<usize>]>,
    shown: Box<[Shown]>,
    series: usize,
}

/// A point that is shown as a series.
#[derive(Debug)]
struct Shown {
    point: Point,
    /// Index in the snapshot.
    family: usize,
    /// Index in the family.
    series: usize,
}

/// Where the numbers of one data point are in the body.
#[derive(Debug, Clone)]
enum Point {
    Double(usize),
    Integer(usize),
    Histogram {
        count: usize,
        sum: Option<usize>,
        /// One count for each bucket.
        buckets: Range<usize>,
    },
}

/// Eight bytes of `body`; [`Template::fits`] has seen that it is long enough.
fn eight(body: &[u8], at: usize) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&body[at..at + 8]);
    bytes
}

fn integer(body: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(eight(body, at))
}

fn double(body: &[u8], at: usize) -> f64 {
    f64::from_le_bytes(eight(body, at))
}

impl Point {
    /// Makes this the point `number`.
    fn mark(&self, number: usize, body: &mut [u8]) {
        let mut put = |at: usize, bytes: [u8; 8]| body[at..at + 8].copy_from_slice(&bytes);
        match self {
            Self::Double(at) => put(*at, (number as f64).to_le_bytes()),
            Self::Integer(at) => put(*at, (number as u64).to_le_bytes()),
            Self::Histogram { count, sum, buckets } => {
                put(*count, (number as u64).to_le_bytes());
                sum.iter().for_each(|at| put(*at, 0_f64.to_le_bytes()));
                for (index, at) in buckets.clone().step_by(8).enumerate() {
                    put(at, if index == 0 { number as u64 } else { 0 }.to_le_bytes());
                }
            }
        }
    }

    /// The number that a series says by its value.
    fn marked(value: &Value) -> usize {
        match value {
            Value::Number(number) => *number as usize,
            Value::Histogram(histogram) => histogram.count as usize,
        }
    }

    /// The value that `body` has here, where it is a number.
    fn number(&self, body: &[u8]) -> Option<f64> {
        match self {
            Self::Double(at) => Some(double(body, *at)),
            Self::Integer(at) => Some(integer(body, *at).cast_signed() as f64),
            Self::Histogram { .. } => None,
        }
    }

    /// Whether `body` has here what a series of the family may be.
    fn is_valid(&self, body: &[u8], family: &StoredFamily) -> bool {
        match self {
            Self::Histogram { count, sum, buckets } => {
                sum.is_none_or(|at| double(body, at).is_finite())
                    && (buckets.is_empty() || points::add_up(counts(body, buckets), integer(body, *count)))
            }
            _ => self.number(body).is_some_and(|number| points::valid(number, family.info.kind)),
        }
    }

    /// Writes what `body` has here into `value`, which is of the same shape.
    fn write(&self, body: &[u8], value: &mut Value) {
        match (self, value) {
            (Self::Histogram { count, sum, buckets }, Value::Histogram(histogram)) => {
                let Histogram { buckets: shown, sum: shown_sum, count: shown_count } = &mut **histogram;
                let mut total = 0;
                for (bucket, count) in shown.iter_mut().zip(counts(body, buckets)) {
                    total += count;
                    bucket.1 = total;
                }
                *shown_sum = sum.map_or(0.0, |at| double(body, at));
                *shown_count = integer(body, *count);
            }
            (_, value) => {
                if let Some(number) = self.number(body) {
                    *value = Value::Number(number);
                }
            }
        }
    }
}

/// What each bucket counts by itself.
fn counts(body: &[u8], buckets: &Range<usize>) -> impl Iterator<Item = u64> {
    buckets.clone().step_by(8).map(|at| integer(body, at))
}

impl Template {
    /// The template of pushes like `body`; `None` where there is none: something in it would be refused, or it has
    /// what is written in another way than the SDKs do.
    pub(super) fn of(body: &[u8], limits: &Limits) -> Option<Self> {
        let mut found = Found::default();
        request(body, &mut found)?;
        let Found { gaps, points } = found;
        let mut numbered: Box<[u8]> = body.into();
        for (number, point) in points.iter().enumerate() {
            point.mark(number, &mut numbered);
        }
        let snapshot = Snapshot::from_request(ExportMetricsServiceRequest::decode(&*numbered).ok()?, limits);
        if snapshot.refused().total() > 0 {
            return None;
        }
        let all = snapshot.families.iter().enumerate().flat_map(|(family, of)| {
            of.series.iter().enumerate().map(move |(series, of)| (family, series, Point::marked(&of.value)))
        });
        let shown = all.map(|(family, series, number)| {
            points.get(number).map(|point| Shown { point: point.clone(), family, series })
        });
        let shown: Box<[Shown]> = shown.collect::<Option<_>>()?;
        Some(Self { body: numbered, gaps: gaps.into(), shown, series: snapshot.series() })
    }

    /// How many series a push like this has.
    pub(super) fn series(&self) -> usize {
        self.series
    }

    /// Writes the numbers of `body` into `families`, which are those of the push that this is the template of.
    /// `false`, with nothing written, where `body` is another kind of push or has a number that is to be refused.
    pub(super) fn update(&self, body: &[u8], families: &mut Arc<Vec<StoredFamily>>) -> bool {
        if !self.fits(body, families) {
            return false;
        }
        // Copies only while a page with the previous numbers is being made.
        let families = Arc::make_mut(families);
        for Shown { point, family, series } in &self.shown {
            point.write(body, &mut families[*family].series[*series].value);
        }
        true
    }

    fn fits(&self, body: &[u8], families: &[StoredFamily]) -> bool {
        if body.len() != self.body.len() {
            return false;
        }
        let mut from = 0;
        for gap in &self.gaps {
            if body[from..gap.start] != self.body[from..gap.start] {
                return false;
            }
            from = gap.end;
        }
        body[from..] == self.body[from..]
            && self.shown.iter().all(|shown| shown.point.is_valid(body, &families[shown.family]))
    }
}

// What follows is the way down to the numbers: field numbers of `collector/metrics/v1/metrics_service.proto` and
// `metrics/v1/metrics.proto`. `None` is a body that is not followed, for whatever reason.

/// What was met on the way.
#[derive(Default)]
struct Found {
    gaps: Vec<Range<usize>>,
    points: Vec<Point>,
}

fn request(body: &[u8], found: &mut Found) -> Option<()> {
    Fields::of(body).try_for_each(|field| match field? {
        Field::Message(1, resource_metrics) => {
            within(resource_metrics, 2, found, |scope_metrics, found| within(scope_metrics, 2, found, metric))
        }
        _ => Some(()),
    })
}

/// Goes on with `next` in each field `number` of a message.
fn within<'b>(
    mut message: Fields<'b>,
    number: u32,
    found: &mut Found,
    next: impl Fn(Fields<'b>, &mut Found) -> Option<()>,
) -> Option<()> {
    message.try_for_each(|field| match field? {
        Field::Message(at, inner) if at == number => next(inner, found),
        _ => Some(()),
    })
}

fn metric(mut message: Fields<'_>, found: &mut Found) -> Option<()> {
    message.try_for_each(|field| match field? {
        // `gauge` and `sum`, whose `data_points` are field 1 in both.
        Field::Message(5 | 7, data) => within(data, 1, found, number_data_point),
        Field::Message(9, histogram) => within(histogram, 1, found, histogram_data_point),
        // Exponential histograms and summaries.
        Field::Message(10 | 11, _) => None,
        _ => Some(()),
    })
}

fn number_data_point(mut message: Fields<'_>, found: &mut Found) -> Option<()> {
    let mut value = None;
    message.try_for_each(|field| {
        let (at, point) = match field? {
            // `start_time_unix_nano`, `time_unix_nano`.
            Field::Fixed64(2 | 3, at) => (at, None),
            // `as_double`, `as_int`.
            Field::Fixed64(4, at) => (at, Some(Point::Double(at))),
            Field::Fixed64(6, at) => (at, Some(Point::Integer(at))),
            _ => return Some(()),
        };
        found.gaps.push(at..at + 8);
        match point {
            None => Some(()),
            Some(point) => once(&mut value, point),
        }
    })?;
    found.points.extend(value);
    Some(())
}

fn histogram_data_point(mut message: Fields<'_>, found: &mut Found) -> Option<()> {
    let (mut count, mut sum, mut buckets) = (None, None, None);
    message.try_for_each(|field| {
        let gap = match field? {
            // `start_time_unix_nano`, `time_unix_nano`, `min`, `max`.
            Field::Fixed64(2 | 3 | 11 | 12, at) => at..at + 8,
            Field::Fixed64(4, at) => {
                once(&mut count, at)?;
                at..at + 8
            }
            Field::Fixed64(5, at) => {
                once(&mut sum, at)?;
                at..at + 8
            }
            // `bucket_counts`, packed; one by one they are not followed.
            Field::Message(6, counts) => {
                let counts = counts.range();
                once(&mut buckets, counts.clone())?;
                (counts.len() % 8 == 0).then_some(counts)?
            }
            Field::Fixed64(6, _) => return None,
            _ => return Some(()),
        };
        found.gaps.push(gap);
        Some(())
    })?;
    found.points.push(Point::Histogram { count: count?, sum, buckets: buckets.unwrap_or(0..0) });
    Some(())
}

/// Fills `place`, unless it is filled: of a field that comes twice it is the last that counts, and nobody sends that.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}
