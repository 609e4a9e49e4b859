use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, Gauge, Histogram as OtlpHistogram, HistogramDataPoint, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, Summary,
};
use proptest::prelude::*;
use prost::Message;

use super::*;

fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..Default::default() }],
    }
}

fn label(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    label(key, Any::StringValue(value.to_owned()))
}

fn point(value: f64, attributes: Vec<KeyValue>) -> NumberDataPoint {
    NumberDataPoint { value: Some(Number::AsDouble(value)), attributes, ..Default::default() }
}

fn gauge(name: &str, points: Vec<NumberDataPoint>) -> Metric {
    metric(name, Data::Gauge(Gauge { data_points: points }))
}

fn sum(name: &str, value: f64, temporality: AggregationTemporality, is_monotonic: bool) -> Metric {
    let data_points = vec![point(value, vec![])];
    metric(name, Data::Sum(Sum { data_points, aggregation_temporality: temporality as i32, is_monotonic }))
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), data: Some(data), ..Default::default() }
}

fn judged(metrics: Vec<Metric>) -> Snapshot {
    Snapshot::from_request(request(metrics), &Limits::default())
}

/// The single reason that `metrics` are refused for, with nothing kept.
fn reason(metrics: Vec<Metric>) -> Reason {
    let snapshot = judged(metrics);
    assert_eq!(snapshot.series(), 0, "{snapshot:?}");
    let reasons: Vec<_> = snapshot.refused.iter().collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    reasons[0].0
}

#[test]
fn types_and_names_are_those_of_prometheus() {
    let cumulative = AggregationTemporality::Cumulative;
    let snapshot = judged(vec![
        gauge("a.b", vec![point(1.0, vec![])]),
        sum("sent", 2.0, cumulative, true),
        sum("open", 3.0, cumulative, false),
    ]);
    let found: Vec<_> = snapshot.families.iter().map(|family| (family.name.as_str(), family.kind)).collect();
    assert_eq!(found, [("a_b", Kind::Gauge), ("sent_total", Kind::Counter), ("open", Kind::Gauge)]);
    assert_eq!(snapshot.refused.total(), 0);
}

#[test]
fn each_kind_of_rubbish_has_its_reason() {
    let cumulative = AggregationTemporality::Cumulative;
    let one = || vec![point(1.0, vec![])];
    assert_eq!(reason(vec![sum("x", 1.0, AggregationTemporality::Delta, true)]), Reason::Delta);
    assert_eq!(reason(vec![sum("x", 1.0, AggregationTemporality::Unspecified, true)]), Reason::Delta);
    assert_eq!(reason(vec![sum("x", -1.0, cumulative, true)]), Reason::Value);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(reason(vec![gauge("x", vec![point(value, vec![])])]), Reason::Value);
    }
    assert_eq!(reason(vec![gauge("x", vec![NumberDataPoint::default()])]), Reason::Value);
    assert_eq!(reason(vec![gauge("", one())]), Reason::Name);
    assert_eq!(reason(vec![gauge("hippius_process_up", one())]), Reason::Reserved);
    let exponential = Data::ExponentialHistogram(ExponentialHistogram::default());
    assert_eq!(reason(vec![metric("x", exponential)]), Reason::ExponentialHistogram);
    assert_eq!(reason(vec![metric("x", Data::Summary(Summary::default()))]), Reason::Summary);
    for labels in
        [vec![text("__name__", "y")], vec![text("le", "1")], vec![text("a.b", "1"), text("a_b", "2")]]
    {
        assert_eq!(reason(vec![gauge("x", vec![point(1.0, labels)])]), Reason::LabelName);
    }
    let list = label("l", Any::ArrayValue(ArrayValue::default()));
    assert_eq!(reason(vec![gauge("x", vec![point(1.0, vec![list])])]), Reason::LabelValue);
}

#[test]
fn bounds_hold_on_the_edge_and_just_past_it() {
    let limits = Limits::default();
    let long = |length| "n".repeat(length);
    let ok = |metric| assert_eq!(judged(vec![metric]).refused.total(), 0);
    ok(gauge(&long(limits.text_bytes), vec![point(1.0, vec![])]));
    assert_eq!(reason(vec![gauge(&long(limits.text_bytes + 1), vec![point(1.0, vec![])])]), Reason::Length);
    ok(gauge("x", vec![point(1.0, vec![text("l", &long(limits.text_bytes))])]));
    let too_long = vec![text("l", &long(limits.text_bytes + 1))];
    assert_eq!(reason(vec![gauge("x", vec![point(1.0, too_long)])]), Reason::Length);
    let labels = |count: usize| (0..count).map(|index| text(&format!("l{index}"), "v")).collect::<Vec<_>>();
    ok(gauge("x", vec![point(1.0, labels(limits.labels))]));
    assert_eq!(reason(vec![gauge("x", vec![point(1.0, labels(limits.labels + 1))])]), Reason::LabelCount);

    let points = (0..limits.series + 1).map(|index| point(1.0, vec![text("l", &index.to_string())]));
    let snapshot = judged(vec![gauge("x", points.collect())]);
    assert_eq!((snapshot.series(), snapshot.refused.get(Reason::Series)), (limits.series, 1));
}

#[test]
fn the_same_series_twice_is_kept_once() {
    let twice = vec![point(1.0, vec![text("l", "v")]), point(2.0, vec![text("l", "v")])];
    let snapshot = judged(vec![gauge("x", twice)]);
    assert_eq!(snapshot.families[0].series[0].value, Value::Number(1.0));
    assert_eq!((snapshot.series(), snapshot.refused.get(Reason::Duplicate)), (1, 1));
    // A claimed identity makes no difference between series.
    let claimed = vec![point(1.0, vec![text("process", "a")]), point(2.0, vec![text("process", "b")])];
    let snapshot = judged(vec![gauge("x", claimed)]);
    assert_eq!((snapshot.series(), snapshot.refused.get(Reason::Duplicate)), (1, 1));
}

#[test]
fn two_types_under_one_name_keep_the_first() {
    let snapshot = judged(vec![
        gauge("x_total", vec![point(1.0, vec![])]),
        sum("x", 2.0, AggregationTemporality::Cumulative, true),
    ]);
    assert_eq!((snapshot.series(), snapshot.refused.get(Reason::TypeConflict)), (1, 1));
    assert_eq!(snapshot.families[0].kind, Kind::Gauge);
}

fn histogram(counts: Vec<u64>, bounds: Vec<f64>, count: u64) -> Metric {
    let point = HistogramDataPoint {
        bucket_counts: counts,
        explicit_bounds: bounds,
        count,
        sum: Some(1.5),
        ..Default::default()
    };
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    metric("h", Data::Histogram(OtlpHistogram { data_points: vec![point], aggregation_temporality }))
}

#[test]
fn a_histogram_becomes_cumulative_and_must_add_up() {
    let snapshot = judged(vec![histogram(vec![1, 2, 3], vec![0.1, 0.5], 6)]);
    let expected = Histogram { buckets: vec![(0.1, 1), (0.5, 3)], sum: 1.5, count: 6 };
    assert_eq!(snapshot.families[0].series[0].value, Value::Histogram(Box::new(expected)));
    assert_eq!(judged(vec![histogram(vec![], vec![], 4)]).series(), 1);
    for bad in [
        histogram(vec![1, 2, 3], vec![0.1, 0.5], 7),
        histogram(vec![1, 2], vec![0.1, 0.5], 3),
        histogram(vec![1, 2, 3], vec![0.5, 0.1], 6),
        histogram(vec![1, 2, 3], vec![0.5, f64::NAN], 6),
        histogram(vec![u64::MAX, 2, 3], vec![0.1, 0.5], 4),
    ] {
        assert_eq!(reason(vec![bad]), Reason::Value);
    }
}

fn any_attribute() -> impl Strategy<Value = KeyValue> {
    let value = prop_oneof![
        ".{0,12}".prop_map(Any::StringValue),
        any::<bool>().prop_map(Any::BoolValue),
        any::<i64>().prop_map(Any::IntValue),
        any::<f64>().prop_map(Any::DoubleValue),
        Just(Any::ArrayValue(ArrayValue::default())),
    ];
    ("(process|role|le|[a-c._]{0,3}|.{0,4})", value).prop_map(|(key, value)| label(&key, value))
}

prop_compose! {
    fn any_point()(value in any::<f64>(), flags in 0..2_u32, attributes in prop::collection::vec(any_attribute(), 0..6))
        -> NumberDataPoint {
        NumberDataPoint { flags, ..point(value, attributes) }
    }
}

fn any_metric() -> impl Strategy<Value = Metric> {
    let points = || prop::collection::vec(any_point(), 0..8);
    let sum = (points(), any::<bool>(), -1..4_i32).prop_map(
        |(data_points, is_monotonic, aggregation_temporality)| {
            Data::Sum(Sum { data_points, is_monotonic, aggregation_temporality })
        },
    );
    let (counts, bounds) =
        (prop::collection::vec(any::<u64>(), 0..4), prop::collection::vec(any::<f64>(), 0..4));
    let histogram = (counts, bounds, any::<u64>())
        .prop_map(|(counts, bounds, count)| histogram(counts, bounds, count).data.expect("it has data"));
    let data =
        prop_oneof![points().prop_map(|data_points| Data::Gauge(Gauge { data_points })), sum, histogram];
    ("[a-c._]{0,3}|.{0,8}", data).prop_map(|(name, data)| metric(&name, data))
}

fn assert_bounds(snapshot: &Snapshot, limits: &Limits) {
    assert!(snapshot.series() <= limits.series);
    for family in &snapshot.families {
        assert!(family.series.windows(2).all(|pair| pair[0].labels < pair[1].labels), "{family:?}");
        for series in &family.series {
            assert!(series.labels.len() <= limits.labels);
            assert!(series.labels.iter().all(|(name, value)| {
                name != "process" && name != "role" && value.len() <= limits.text_bytes
            }));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_keep_the_bounds(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let limits = Limits::default();
        if let Ok(request) = ExportMetricsServiceRequest::decode(bytes.as_slice()) {
            assert_bounds(&Snapshot::from_request(request, &limits), &limits);
        }
    }

    #[test]
    fn any_request_keeps_the_bounds(metrics in prop::collection::vec(any_metric(), 0..12)) {
        let limits = Limits { series: 20, labels: 3, text_bytes: 8 };
        let bytes = request(metrics).encode_to_vec();
        let decoded = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
        assert_bounds(&Snapshot::from_request(decoded, &limits), &limits);
    }

    #[test]
    fn damaged_requests_keep_the_bounds(
        metrics in prop::collection::vec(any_metric(), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = request(metrics).encode_to_vec();
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let limits = Limits::default();
        if let Ok(request) = ExportMetricsServiceRequest::decode(bytes.as_slice()) {
            assert_bounds(&Snapshot::from_request(request, &limits), &limits);
        }
    }
}
