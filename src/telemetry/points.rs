//! One data point of OTLP: its value and its labels, or why it is refused.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{DataPointFlags, HistogramDataPoint, NumberDataPoint};

use super::catalogue::Kind;
use super::naming;
use super::refusal::Reason;
use super::snapshot::{Histogram, Limits, Value};

/// What a series says of its sender. The token decides; see [`Reason::Identity`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ClaimedIdentity {
    pub process: Option<String>,
    pub role: Option<String>,
}

impl ClaimedIdentity {
    pub(super) fn is_empty(&self) -> bool {
        self.process.is_none() && self.role.is_none()
    }

    pub(super) fn agrees_with(&self, process: &str, role: &str) -> bool {
        self.process.as_deref().is_none_or(|claimed| claimed == process)
            && self.role.as_deref().is_none_or(|claimed| claimed == role)
    }
}

/// A point that says that there is no value (section "Data point flags" of the metrics data model) is `None`.
pub(super) fn number(point: &NumberDataPoint, kind: Kind) -> Result<Option<Value>, Reason> {
    if no_value(point.flags) {
        return Ok(None);
    }
    let value = match point.value {
        Some(Number::AsDouble(value)) => value,
        // Prometheus knows only this one type: integers above 2^53 lose their last digits, as everywhere in it.
        Some(Number::AsInt(value)) => value as f64,
        None => return Err(Reason::Value),
    };
    if valid(value, kind) { Ok(Some(Value::Number(value))) } else { Err(Reason::Value) }
}

/// Whether a series of `kind` may have this value.
pub(super) fn valid(value: f64, kind: Kind) -> bool {
    value.is_finite() && !(kind == Kind::Counter && value < 0.0)
}

/// Turns per-bucket counts into cumulative ones, and checks that they add up.
pub(super) fn histogram(point: &HistogramDataPoint) -> Result<Option<Value>, Reason> {
    if no_value(point.flags) {
        return Ok(None);
    }
    let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
    let ascending = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    let without_buckets = bounds.is_empty() && counts.is_empty();
    if !(without_buckets || counts.len() == bounds.len() + 1)
        || !ascending
        || !bounds.iter().all(|bound| bound.is_finite())
    {
        return Err(Reason::Value);
    }
    let sum = point.sum.unwrap_or(0.0);
    if !sum.is_finite() {
        return Err(Reason::Value);
    }
    if !without_buckets && !add_up(counts.iter().copied(), point.count) {
        return Err(Reason::Value);
    }
    let mut total = 0;
    let cumulative = |(bound, count): (&f64, &u64)| {
        total += count;
        (*bound, total)
    };
    let buckets = bounds.iter().zip(counts).map(cumulative).collect();
    Ok(Some(Value::Histogram(Box::new(Histogram { buckets, sum, count: point.count }))))
}

/// Whether the buckets of a histogram count as much together as it says itself.
pub(super) fn add_up(mut buckets: impl Iterator<Item = u64>, count: u64) -> bool {
    buckets.try_fold(0, u64::checked_add) == Some(count)
}

fn no_value(flags: u32) -> bool {
    flags & DataPointFlags::NoRecordedValueMask as u32 != 0
}

/// The labels of a point, sorted by name, and apart from them what it claims to be.
pub(super) fn labels(
    attributes: Vec<KeyValue>,
    limits: &Limits,
) -> Result<(Vec<(String, String)>, ClaimedIdentity), Reason> {
    // Two more than the limit: `process` and `role` are not kept.
    if attributes.len() > limits.labels + 2 {
        return Err(Reason::LabelCount);
    }
    let mut labels = Vec::with_capacity(attributes.len());
    let mut claim = ClaimedIdentity::default();
    for KeyValue { key, value, .. } in attributes {
        if key.len() > limits.text_bytes {
            return Err(Reason::Length);
        }
        let name = naming::label_name(key).ok_or(Reason::LabelName)?;
        let value = label_value(value)?;
        if value.len() > limits.text_bytes {
            return Err(Reason::Length);
        }
        match name.as_str() {
            "process" => claim.process = Some(value),
            "role" => claim.role = Some(value),
            // These carry a meaning of their own in histograms and summaries.
            "le" | "quantile" => return Err(Reason::LabelName),
            _ => labels.push((name, value)),
        }
    }
    if labels.len() > limits.labels {
        return Err(Reason::LabelCount);
    }
    labels.sort();
    if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Reason::LabelName);
    }
    // A label without a value is to Prometheus no label at all.
    labels.retain(|(_, value)| !value.is_empty());
    Ok((labels, claim))
}

fn label_value(value: Option<AnyValue>) -> Result<String, Reason> {
    match value.and_then(|value| value.value) {
        Some(Any::StringValue(text)) => Ok(text),
        Some(Any::BoolValue(value)) => Ok(value.to_string()),
        Some(Any::IntValue(value)) => Ok(value.to_string()),
        Some(Any::DoubleValue(value)) => Ok(value.to_string()),
        _ => Err(Reason::LabelValue),
    }
}
