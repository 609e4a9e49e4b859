//! A push that differs from the one before in its numbers only, taken without decoding it.
//!
//! OTLP writes the times and the value of a number in eight bytes each, whatever they are (`fixed64`, `sfixed64` and
//! `double`, fields 2, 3, 4 and 6 of `NumberDataPoint` in `metrics/v1/metrics.proto`). Two pushes of one length that
//! are equal outside of such places therefore hold the same series in the same order, and all that was found out about
//! the first is true of the second, except about the numbers themselves.
//!
//! Which place holds the number of which series is found by trial, so that the rules of [`snapshot`](super::snapshot)
//! stand in one place: the places of a copy are numbered, the copy is judged like any push, and the numbers of the
//! series that come out name their places.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;

use super::points;
use super::snapshot::{Limits, Snapshot, Value};
use super::store::StoredFamily;
use super::wire::{Field, Fields};

/// The bytes of a push, and where its numbers are in them.
#[derive(Debug)]
pub(super) struct Template {
    body: Box<[u8]>,
    /// In the order of the bytes; no two overlap.
    places: Box<[Place]>,
    series: usize,
}

/// Eight bytes that may change from push to push.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u32,
    holds: Holds,
    /// Family and series in the snapshot; `None` for a time and for a number that is not shown.
    shown: Option<(u32, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Double,
    /// An integer of either sign, or a time.
    Integer,
}

impl Place {
    fn range(&self) -> std::ops::Range<usize> {
        self.at as usize..self.at as usize + 8
    }

    /// The number that `body` has here.
    fn number(&self, body: &[u8]) -> Option<f64> {
        let bytes = body.get(self.range())?.try_into().ok()?;
        Some(match self.holds {
            Holds::Double => f64::from_le_bytes(bytes),
            Holds::Integer => i64::from_le_bytes(bytes) as f64,
        })
    }
}

impl Template {
    /// The template of pushes like `body`; `None` where there is none: something in it would be refused, or it has
    /// histograms, whose lines depend on one another.
    pub(super) fn of(body: &[u8], limits: &Limits) -> Option<Self> {
        let mut places = Vec::new();
        request(body, &mut places)?;
        let mut numbered: Box<[u8]> = body.into();
        for (index, place) in places.iter().enumerate() {
            let bytes = match place.holds {
                Holds::Double => (index as f64).to_le_bytes(),
                Holds::Integer => (index as i64).to_le_bytes(),
            };
            numbered[place.range()].copy_from_slice(&bytes);
        }
        let snapshot = Snapshot::from_request(ExportMetricsServiceRequest::decode(&*numbered).ok()?, limits);
        if snapshot.refused().total() > 0 {
            return None;
        }
        for (family_index, family) in snapshot.families.iter().enumerate() {
            for (series_index, series) in family.series.iter().enumerate() {
                let Value::Number(number) = series.value else { return None };
                let shown = &mut places.get_mut(number as usize)?.shown;
                if shown.replace((family_index as u32, series_index as u32)).is_some() {
                    return None;
                }
            }
        }
        Some(Self { body: numbered, places: places.into(), series: snapshot.series() })
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
        for place in &self.places {
            if let Some((family, series)) = place.shown
                && let Some(number) = place.number(body)
            {
                families[family as usize].series[series as usize].value = Value::Number(number);
            }
        }
        true
    }

    fn fits(&self, body: &[u8], families: &[StoredFamily]) -> bool {
        if body.len() != self.body.len() {
            return false;
        }
        let mut from = 0;
        for place in &self.places {
            let range = place.range();
            if body[from..range.start] != self.body[from..range.start] {
                return false;
            }
            from = range.end;
            if let Some((family, _)) = place.shown {
                let kind = families[family as usize].info.kind;
                if !place.number(body).is_some_and(|number| points::valid(number, kind)) {
                    return false;
                }
            }
        }
        body[from..] == self.body[from..]
    }
}

// What follows is the way down to the numbers: field numbers of `collector/metrics/v1/metrics_service.proto` and
// `metrics/v1/metrics.proto`. `None` is a body that is not followed, for whatever reason.

fn request(body: &[u8], places: &mut Vec<Place>) -> Option<()> {
    Fields::of(body).try_for_each(|field| match field? {
        Field::Message(1, resource_metrics) => {
            within(resource_metrics, 2, places, |scope_metrics, places| {
                within(scope_metrics, 2, places, metric)
            })
        }
        _ => Some(()),
    })
}

/// Goes on with `next` in each field `number` of a message.
fn within<'b>(
    mut message: Fields<'b>,
    number: u32,
    places: &mut Vec<Place>,
    next: impl Fn(Fields<'b>, &mut Vec<Place>) -> Option<()>,
) -> Option<()> {
    message.try_for_each(|field| match field? {
        Field::Message(found, inner) if found == number => next(inner, places),
        _ => Some(()),
    })
}

fn metric(mut message: Fields<'_>, places: &mut Vec<Place>) -> Option<()> {
    message.try_for_each(|field| match field? {
        // `gauge` and `sum`, whose `data_points` are field 1 in both.
        Field::Message(5 | 7, data) => within(data, 1, places, number_data_point),
        // Histograms and summaries.
        Field::Message(9..=11, _) => None,
        _ => Some(()),
    })
}

fn number_data_point(mut message: Fields<'_>, places: &mut Vec<Place>) -> Option<()> {
    message.try_for_each(|field| {
        let (at, holds) = match field? {
            // `start_time_unix_nano`, `time_unix_nano`, `as_int`.
            Field::Fixed64(2 | 3 | 6, at) => (at, Holds::Integer),
            // `as_double`.
            Field::Fixed64(4, at) => (at, Holds::Double),
            _ => return Some(()),
        };
        places.push(Place { at: u32::try_from(at).ok()?, holds, shown: None });
        Some(())
    })
}
