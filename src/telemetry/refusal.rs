//! Why telemetry is refused, and how often it was.

use std::fmt;

/// Why a request or one of its series was refused. The word is the label `reason` of
/// `hippius_telemetry_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Reason {
    /// The request carries no token, or one that nobody was given.
    Unauthenticated,
    /// The token belongs to an earlier generation, or to a process that has ended.
    Late,
    /// The process sends more often than its bucket fills.
    RateLimited,
    /// The body is over the limit.
    TooLarge,
    /// The body is not announced as OTLP protobuf.
    MediaType,
    /// The body is not OTLP protobuf.
    Malformed,
    /// The process has more series than a process may have.
    Series,
    /// All processes together have more metric names than are kept.
    Names,
    /// A metric has no name.
    Name,
    /// A label's name is empty, reserved, or there twice.
    LabelName,
    /// A label's value is no string, number or boolean.
    LabelValue,
    /// A series has too many labels.
    LabelCount,
    /// A name or a label's value is too long.
    Length,
    /// The same series is there twice.
    Duplicate,
    /// The name is already in use for another type of metric.
    TypeConflict,
    /// The name belongs to the supervisor.
    Reserved,
    /// A series claims another `process` or `role` than the sender's; it is kept under the sender's.
    Identity,
    /// The sum or histogram is not cumulative.
    Delta,
    /// Exponential histograms cannot be shown in the text format.
    ExponentialHistogram,
    /// Summaries are not taken.
    Summary,
    /// A value is missing, not finite, negative in a counter, or a histogram contradicts itself.
    Value,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Reason; 21] = [
        Reason::Unauthenticated,
        Reason::Late,
        Reason::RateLimited,
        Reason::TooLarge,
        Reason::MediaType,
        Reason::Malformed,
        Reason::Series,
        Reason::Names,
        Reason::Name,
        Reason::LabelName,
        Reason::LabelValue,
        Reason::LabelCount,
        Reason::Length,
        Reason::Duplicate,
        Reason::TypeConflict,
        Reason::Reserved,
        Reason::Identity,
        Reason::Delta,
        Reason::ExponentialHistogram,
        Reason::Summary,
        Reason::Value,
    ];

    /// The word in the label `reason` and in replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unauthenticated => "unauthenticated",
            Reason::Late => "late",
            Reason::RateLimited => "rate",
            Reason::TooLarge => "too_large",
            Reason::MediaType => "media_type",
            Reason::Malformed => "malformed",
            Reason::Series => "series",
            Reason::Names => "names",
            Reason::Name => "name",
            Reason::LabelName => "label_name",
            Reason::LabelValue => "label_value",
            Reason::LabelCount => "label_count",
            Reason::Length => "length",
            Reason::Duplicate => "duplicate",
            Reason::TypeConflict => "type_conflict",
            Reason::Reserved => "reserved",
            Reason::Identity => "identity",
            Reason::Delta => "delta",
            Reason::ExponentialHistogram => "exponential_histogram",
            Reason::Summary => "summary",
            Reason::Value => "value",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often each [`Reason`] applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused([u64; Reason::ALL.len()]);

impl Refused {
    /// Counts `reason` once more.
    pub fn count(&mut self, reason: Reason) {
        self.add(reason, 1);
    }

    /// Counts `reason` `times` more.
    pub fn add(&mut self, reason: Reason, times: u64) {
        let slot = &mut self.0[reason as usize];
        *slot = slot.saturating_add(times);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Refused) {
        for (reason, times) in other.iter() {
            self.add(reason, times);
        }
    }

    /// How often `reason` applied.
    #[must_use]
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason that applied, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().map(|reason| (reason, self.get(reason))).filter(|(_, times)| *times > 0)
    }

    /// All counts together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, times| sum.saturating_add(*times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_slot_and_word() {
        let mut refused = Refused::default();
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            refused.add(reason, index as u64 + 1);
        }
        assert_eq!(refused.iter().count(), Reason::ALL.len());
        let words: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
