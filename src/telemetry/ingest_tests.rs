//! Every push gives the same by the short way as by the long one.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use prometheus::Registry;
use proptest::prelude::*;

use super::super::exposition;
use super::super::store::{PUSHES, Store, StoreSettings};
use super::super::token::Token;
use super::*;
use crate::token_bucket::Rate;

/// A store with one process.
struct Fixture {
    store: SharedStore,
    registry: Registry,
    ticket: Ticket,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let (registry, now, token) = (Registry::new(), Instant::now(), Token::random());
        let rate = Rate { burst: u32::MAX, ..PUSHES };
        let store = SharedStore::new(Store::new(StoreSettings { rate, ..StoreSettings::default() }));
        exposition::register(&registry, store.clone()).unwrap();
        store.lock().register(&token, "node-0", "node", 1);
        let ticket = store.lock().admit(Some(&token), now).unwrap();
        Self { store, registry, ticket, now }
    }

    fn ingest(&self, body: &[u8]) -> Accepted {
        self.store.ingest(&self.ticket, body, self.now).unwrap()
    }

    /// Whether `body` is taken by the short way; it is, if so.
    fn short(&self, body: &[u8]) -> bool {
        matches!(self.store.lock().begin(&self.ticket, body, self.now), Ok(Begun::Done(_)))
    }

    /// As if there were no short way.
    fn decode(&self, body: &[u8]) -> Accepted {
        let limits = self.store.lock().limits();
        let request = ExportMetricsServiceRequest::decode(body).unwrap();
        self.store.lock().accept(&self.ticket, Snapshot::from_request(request, &limits), self.now).unwrap()
    }

    fn text(&self) -> String {
        exposition::render(&self.registry)
    }
}

fn body(metrics: Vec<Metric>) -> Vec<u8> {
    let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..Default::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), data: Some(data), ..Default::default() }
}

fn sum(data_points: Vec<NumberDataPoint>) -> Data {
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
}

fn point(time_unix_nano: u64, peer: &str, value: Number) -> NumberDataPoint {
    let value_of_label = Some(AnyValue { value: Some(Any::StringValue(peer.to_owned())) });
    let attributes = vec![KeyValue { key: "peer".to_owned(), value: value_of_label, ..Default::default() }];
    NumberDataPoint { time_unix_nano, value: Some(value), attributes, ..Default::default() }
}

/// A push of a node at a time, whose peers come in no order.
fn node(time: u64, peer: &str, sent: i64, latency: f64) -> Vec<u8> {
    let sent = [("z", 1), (peer, sent)].map(|(peer, sent)| point(time, peer, Number::AsInt(sent)));
    let latency = vec![point(time, peer, Number::AsDouble(latency))];
    body(vec![
        metric("sent", sum(sent.into())),
        metric("latency", Data::Gauge(Gauge { data_points: latency })),
    ])
}

#[test]
fn the_third_push_of_one_shape_is_not_decoded() {
    let (fixture, model) = (Fixture::new(), Fixture::new());
    for (time, sent) in [(1, 5), (2, 6)] {
        let body = node(time, "a", sent, 0.5);
        assert_eq!(fixture.ingest(&body), model.decode(&body));
    }
    let third = node(u64::MAX, "a", i64::MAX, 1e-300);
    assert!(fixture.short(&third));
    let _ = model.decode(&third);
    assert_eq!(fixture.text(), model.text());
    assert!(fixture.text().contains("sent_total{process=\"node-0\",role=\"node\",peer=\"z\"} 1\n"));
}

/// A fixture that knows the shape of [`node`] with the peer `a`.
fn settled() -> Fixture {
    let fixture = Fixture::new();
    for time in 1..4 {
        let _ = fixture.ingest(&node(time, "a", 7, 0.5));
    }
    assert!(fixture.short(&node(4, "a", 7, 0.5)));
    fixture
}

#[test]
fn what_is_to_be_judged_anew_is_decoded() {
    let (known, shown) = (node(5, "a", 7, 0.5), settled().text());
    let other_peer = node(5, "b", 7, 0.5);
    let mut damaged = known.clone();
    damaged[0] ^= 0x07;
    for body in [node(5, "a", -1, 0.5), node(5, "a", 7, f64::NAN), other_peer.clone(), damaged] {
        let fixture = settled();
        assert_eq!(body.len(), known.len());
        assert!(!fixture.short(&body));
        assert_eq!(fixture.text(), shown, "nothing of it is written");
    }
    let (fixture, model) = (settled(), Fixture::new());
    for body in [node(5, "a", -1, 0.5), other_peer, known] {
        assert_eq!(fixture.ingest(&body), model.decode(&body));
        assert_eq!(fixture.text(), model.text());
    }
}

#[test]
fn a_process_that_ended_is_late_by_the_short_way_too() {
    let fixture = settled();
    fixture.store.lock().exited("node-0", 1);
    let refusal = fixture.store.ingest(&fixture.ticket, &node(5, "a", 8, 0.5), fixture.now);
    assert_eq!(refusal.unwrap_err(), Refusal(Reason::Late));
    assert!(!fixture.text().contains(" 8\n"));
}

#[test]
fn a_page_that_is_being_made_keeps_its_numbers() {
    let fixture = settled();
    let views = fixture.store.lock().views(fixture.now);
    let before = format!("{views:?}");
    assert!(fixture.short(&node(5, "a", 999, 0.5)));
    assert_eq!(format!("{views:?}"), before);
    assert!(fixture.text().contains(" 999\n"));
}

fn cumulative(data_points: Vec<HistogramDataPoint>) -> Data {
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    Data::Histogram(Histogram { data_points, aggregation_temporality })
}

/// A histogram with the bounds 1, 2, … and a count for each bucket.
fn histogram_point(time_unix_nano: u64, peer: &str, bucket_counts: Vec<u64>, sum: f64) -> HistogramDataPoint {
    let attributes = point(0, peer, Number::AsInt(0)).attributes;
    let count = bucket_counts.iter().fold(0, |sum: u64, count| sum.wrapping_add(*count));
    let explicit_bounds = (1..bucket_counts.len()).map(|bound| bound as f64).collect();
    HistogramDataPoint {
        time_unix_nano,
        attributes,
        count,
        sum: Some(sum),
        bucket_counts,
        explicit_bounds,
        min: Some(sum / 2.0),
        ..Default::default()
    }
}

/// A push with a number and a histogram of two series.
fn timed(time: u64, fast: [u64; 3], slow: [u64; 3], sum: f64) -> Vec<u8> {
    let histograms = [("slow", slow), ("fast", fast)];
    let histograms = histograms.map(|(peer, counts)| histogram_point(time, peer, counts.to_vec(), sum));
    body(vec![
        metric("sent", sum_of_one(time)),
        metric("took", cumulative(histograms.into())),
        metric("latency", Data::Gauge(Gauge { data_points: vec![point(time, "a", Number::AsDouble(sum))] })),
    ])
}

fn sum_of_one(time: u64) -> Data {
    sum(vec![point(time, "a", Number::AsInt(1))])
}

#[test]
fn histograms_are_followed_too() {
    let (fixture, model) = (Fixture::new(), Fixture::new());
    for time in 1..4 {
        let body = timed(time, [time, 0, 0], [1, 2, 3], 0.5);
        assert_eq!(fixture.ingest(&body), model.decode(&body));
    }
    let fourth = timed(9, [5, 6, 7], [1, 2, u64::from(u32::MAX)], 1e300);
    assert!(fixture.short(&fourth));
    let _ = model.decode(&fourth);
    assert_eq!(fixture.text(), model.text());
    assert!(
        fixture.text().contains("took_bucket{process=\"node-0\",role=\"node\",peer=\"fast\",le=\"2\"} 11\n")
    );
    assert!(fixture.text().contains("took_count{process=\"node-0\",role=\"node\",peer=\"fast\"} 18\n"));
    let shown = fixture.text();
    let (mut too_few, mut overflowing) = (fourth.clone(), timed(9, [u64::MAX, 1, 1], [1, 2, 3], 0.5));
    let count = too_few.windows(8).position(|bytes| bytes == 18_u64.to_le_bytes()).unwrap();
    too_few[count] = 17;
    overflowing.truncate(fourth.len());
    for wrong in [too_few, overflowing, timed(9, [5, 6, 7], [1, 2, 3], f64::INFINITY)] {
        assert_eq!(wrong.len(), fourth.len());
        assert!(!fixture.short(&wrong));
        assert_eq!(fixture.text(), shown, "nothing of it is written");
    }
}

#[test]
fn what_was_refused_is_always_decoded() {
    let twice = vec![point(1, "a", Number::AsInt(1)), point(1, "a", Number::AsInt(2))];
    let not_summed_up = HistogramDataPoint { count: 5, ..histogram_point(1, "a", vec![1, 1], 1.0) };
    for body in
        [body(vec![metric("h", cumulative(vec![not_summed_up]))]), body(vec![metric("x", sum(twice))])]
    {
        let (fixture, model) = (Fixture::new(), Fixture::new());
        for _ in 0..4 {
            assert!(!fixture.short(&body));
            assert_eq!(fixture.ingest(&body), model.decode(&body));
        }
        assert_eq!(fixture.store.lock().refused(), model.store.lock().refused());
    }
}

fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        8 => (0..100_i64).prop_map(Number::AsInt),
        8 => (0.0..100.0).prop_map(Number::AsDouble),
        1 => any::<i64>().prop_map(Number::AsInt),
        1 => any::<f64>().prop_map(Number::AsDouble),
    ]
}

prop_compose! {
    fn any_point()(key in "peer|kind|process", value in "[ab]|node-0", number in any_number(), flags in 0..8_u32)
        -> NumberDataPoint {
        let mut point = NumberDataPoint { flags: u32::from(flags == 7), ..point(1, &value, number) };
        point.attributes[0].key = key;
        point
    }
}

prop_compose! {
    fn any_histogram()(
        peer in "[ab]",
        counts in prop::collection::vec(prop_oneof![9 => 0..9_u64, 1 => any::<u64>()], 0..4),
        sum in prop::option::of(0.0..9.0),
        odd in 0..20_u32,
    ) -> HistogramDataPoint {
        let mut point = histogram_point(1, &peer, counts, 0.0);
        point.sum = sum;
        match odd {
            0 => point.count = 5,
            1 => point.flags = 1,
            2 => point.explicit_bounds.reverse(),
            _ => {}
        }
        point
    }
}

fn any_metric() -> impl Strategy<Value = Metric> {
    let points = || prop::collection::vec(any_point(), 0..3);
    let temporality = prop_oneof![9 => Just(2), 1 => 0..3];
    let sum = (points(), any::<bool>(), temporality).prop_map(|(data_points, is_monotonic, temporality)| {
        Data::Sum(Sum { data_points, is_monotonic, aggregation_temporality: temporality })
    });
    let histogram = prop::collection::vec(any_histogram(), 0..3).prop_map(cumulative);
    let data =
        prop_oneof![points().prop_map(|data_points| Data::Gauge(Gauge { data_points })), sum, histogram];
    ("[a-d]|a[.]b|p2p_messages_sent", data).prop_map(|(name, data)| metric(&name, data))
}

/// The same series at another time: each number becomes the next of `numbers`, of its own type.
fn renumber(metrics: &mut [Metric], time: u64, numbers: &[(i64, f64)]) {
    let mut numbers = numbers.iter().cycle();
    for metric in metrics {
        let points = match &mut metric.data {
            Some(Data::Gauge(gauge)) => &mut gauge.data_points,
            Some(Data::Sum(sum)) => &mut sum.data_points,
            Some(Data::Histogram(histogram)) => {
                for (point, (count, sum)) in histogram.data_points.iter_mut().zip(&mut numbers) {
                    point.time_unix_nano = time;
                    point.sum = point.sum.and(Some(*sum));
                    if let Some(last) = point.bucket_counts.last_mut() {
                        let before = std::mem::replace(last, count.cast_unsigned());
                        point.count = point.count.wrapping_sub(before).wrapping_add(*last);
                    }
                }
                continue;
            }
            _ => continue,
        };
        for point in points {
            point.time_unix_nano = time;
            match (&mut point.value, numbers.next()) {
                (Some(Number::AsInt(value)), Some((number, _))) => *value = *number,
                (Some(Number::AsDouble(value)), Some((_, number))) => *value = *number,
                _ => {}
            }
        }
    }
}

proptest! {
    /// Two shapes in any order, each time with other numbers, some of them bad.
    #[test]
    fn both_ways_give_the_same(
        shapes in prop::collection::vec(prop::collection::vec(any_metric(), 1..5), 2),
        pushes in prop::collection::vec(
            (prop_oneof![4 => Just(0_usize), 1 => Just(1)],
             prop::collection::vec((-1..50_i64, prop_oneof![9 => -1.0..50.0, 1 => Just(f64::NAN)]), 1..4)),
            1..10,
        ),
    ) {
        let (fixture, model) = (Fixture::new(), Fixture::new());
        for (time, (shape, numbers)) in pushes.into_iter().enumerate() {
            let mut metrics = shapes[shape].clone();
            renumber(&mut metrics, time as u64 + 1, &numbers);
            let body = body(metrics);
            prop_assert_eq!(fixture.ingest(&body), model.decode(&body));
            prop_assert_eq!(fixture.text(), model.text());
        }
        prop_assert_eq!(fixture.store.lock().refused(), model.store.lock().refused());
    }

    /// A template never takes bytes that decoding would refuse or see otherwise.
    #[test]
    fn a_damaged_repetition_is_judged_like_any_push(
        timed_one in any::<bool>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (fixture, model) = (Fixture::new(), Fixture::new());
        let whole = |time| if timed_one { timed(time, [1, 2, 3], [4, 5, 6], 0.5) } else { node(time, "a", 7, 0.5) };
        for time in 1..4 {
            let _ = fixture.ingest(&whole(time));
        }
        prop_assert!(fixture.short(&whole(4)));
        let mut body = whole(5);
        let at = at.index(body.len());
        body[at] = byte;
        match fixture.store.ingest(&fixture.ticket, &body, fixture.now) {
            Ok(accepted) => {
                prop_assert_eq!(accepted, model.decode(&body));
                prop_assert_eq!(fixture.text(), model.text());
            }
            Err(_) => prop_assert!(ExportMetricsServiceRequest::decode(body.as_slice()).is_err()),
        }
    }
}
