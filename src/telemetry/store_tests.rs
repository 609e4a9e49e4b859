use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};
use prometheus::Registry;
use proptest::prelude::*;

use super::super::exposition;
use super::*;

fn point(value: f64, process: Option<&str>) -> NumberDataPoint {
    let attributes = process.map(|process| KeyValue {
        key: "process".to_owned(),
        value: Some(AnyValue { value: Some(Any::StringValue(process.to_owned())) }),
        ..Default::default()
    });
    let attributes = attributes.into_iter().collect();
    NumberDataPoint { value: Some(Number::AsDouble(value)), attributes, ..Default::default() }
}

fn push_of(metrics: Vec<(&str, Data)>) -> ExportMetricsServiceRequest {
    let metrics = metrics
        .into_iter()
        .map(|(name, data)| Metric { name: name.to_owned(), data: Some(data), ..Default::default() })
        .collect();
    let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..Default::default() }],
    }
}

fn gauge(value: f64, process: Option<&str>) -> Data {
    Data::Gauge(Gauge { data_points: vec![point(value, process)] })
}

fn counter(value: f64) -> Data {
    Data::Sum(Sum {
        data_points: vec![point(value, None)],
        aggregation_temporality: AggregationTemporality::Cumulative as i32,
        is_monotonic: true,
    })
}

fn usual() -> ExportMetricsServiceRequest {
    push_of(vec![("p2p_connected_peers", gauge(3.0, None)), ("p2p_messages_sent", counter(7.0))])
}

struct Fixture {
    store: SharedStore,
    registry: Registry,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let (store, registry) = (SharedStore::default(), Registry::new());
        exposition::register(&registry, store.clone()).unwrap();
        Self { store, registry, now: Instant::now() }
    }

    fn registered(&self, process: &str, generation: u64) -> Token {
        let token = Token::random();
        self.store.lock().register(&token, process, "node", generation);
        token
    }

    fn push(&self, token: &Token, request: ExportMetricsServiceRequest) -> Result<Accepted, Refusal> {
        self.store.lock().push(token, request, self.now)
    }

    fn text(&self) -> String {
        exposition::render(&self.registry)
    }
}

const PEERS: &str = "p2p_connected_peers{process=\"node-0\",role=\"node\"} 3";
const SENT: &str = "p2p_messages_sent_total{process=\"node-0\",role=\"node\"} 7";
const TWIN: &str = "p2p_messages_sent{process=\"node-0\",role=\"node\"} 7";

#[test]
fn gauges_die_with_their_process_and_counters_wait_for_the_next() {
    let fixture = Fixture::new();
    let first = fixture.registered("node-0", 1);
    assert_eq!(fixture.push(&first, usual()).unwrap().series, 2);
    let text = fixture.text();
    assert!(text.contains(PEERS) && text.contains(SENT) && text.contains(TWIN), "{text}");
    assert!(text.contains("# TYPE p2p_messages_sent untyped\n"), "{text}");

    fixture.store.lock().exited("node-0", 1);
    let text = fixture.text();
    assert!(!text.contains("p2p_connected_peers") && text.contains(SENT) && text.contains(TWIN), "{text}");

    let second = fixture.registered("node-0", 2);
    assert!(fixture.text().contains(SENT));
    let _ = fixture.push(&second, push_of(vec![("p2p_messages_sent", counter(1.0))])).unwrap();
    let text = fixture.text();
    assert!(
        !text.contains(SENT)
            && text.contains("p2p_messages_sent_total{process=\"node-0\",role=\"node\"} 1\n")
    );
}

#[test]
fn a_series_that_is_no_longer_sent_is_gone() {
    let fixture = Fixture::new();
    let token = fixture.registered("node-0", 1);
    let _ = fixture.push(&token, usual()).unwrap();
    let _ = fixture.push(&token, push_of(vec![("p2p_messages_sent", counter(7.0))])).unwrap();
    let text = fixture.text();
    assert!(text.contains(SENT) && !text.contains("p2p_connected_peers"));
}

#[test]
fn an_earlier_generation_is_late() {
    let fixture = Fixture::new();
    let first = fixture.registered("node-0", 1);
    fixture.store.lock().exited("node-0", 1);
    assert_eq!(fixture.push(&first, usual()).unwrap_err(), Refusal(Reason::Late));
    let second = fixture.registered("node-0", 2);
    assert_eq!(fixture.push(&first, usual()).unwrap_err(), Refusal(Reason::Late));
    // A late end of the first generation does not touch the second, nor does a late registration.
    let _ = fixture.push(&second, usual()).unwrap();
    fixture.store.lock().exited("node-0", 1);
    let stale = fixture.registered("node-0", 1);
    assert!(fixture.text().contains(PEERS));
    assert_eq!(fixture.push(&stale, usual()).unwrap_err(), Refusal(Reason::Unauthenticated));
    // Two generations on, the first token is a stranger's.
    let _third = fixture.registered("node-0", 3);
    assert_eq!(fixture.push(&first, usual()).unwrap_err(), Refusal(Reason::Unauthenticated));
    assert_eq!(fixture.push(&second, usual()).unwrap_err(), Refusal(Reason::Late));
    assert_eq!(fixture.store.lock().refused().get(Reason::Late), 3);
    assert_eq!(fixture.store.lock().tokens.values().map(Vec::len).sum::<usize>(), 2);
}

#[test]
fn a_push_that_ends_after_its_process_is_late() {
    let fixture = Fixture::new();
    let token = fixture.registered("node-0", 1);
    let ticket = fixture.store.lock().admit(Some(&token), fixture.now).unwrap();
    fixture.store.lock().exited("node-0", 1);
    let snapshot = Snapshot::from_request(usual(), &Limits::default());
    let refusal = fixture.store.lock().accept(&ticket, snapshot, fixture.now).unwrap_err();
    assert_eq!(refusal, Refusal(Reason::Late));
    assert_eq!(fixture.text(), "");
}

#[test]
fn identity_is_the_tokens_whatever_is_claimed() {
    let fixture = Fixture::new();
    let token = fixture.registered("node-0", 1);
    let _other = fixture.registered("node-1", 1);
    let accepted = fixture.push(&token, push_of(vec![("x", gauge(1.0, Some("node-1")))])).unwrap();
    assert_eq!(accepted.refused.get(Reason::Identity), 1);
    let honest = fixture.push(&token, push_of(vec![("x", gauge(1.0, Some("node-0")))])).unwrap();
    assert_eq!(honest.refused.total(), 0);
    let text = fixture.text();
    assert!(text.contains("x{process=\"node-0\",role=\"node\"} 1") && !text.contains("node-1"), "{text}");
}

#[test]
fn one_process_cannot_break_the_names_of_another() {
    let fixture = Fixture::new();
    let (good, bad) = (fixture.registered("node-0", 1), fixture.registered("node-1", 1));
    let _ =
        fixture.push(&good, push_of(vec![("mine", counter(1.0)), ("p2p_connected_peers", gauge(3.0, None))]));
    let clash = push_of(vec![
        ("mine_total", gauge(1.0, None)),
        ("p2p_connected_peers_total", gauge(1.0, None)),
        ("system_thread_count", gauge(1.0, None)),
        ("p2p_messages_sent", gauge(1.0, None)),
    ]);
    let accepted = fixture.push(&bad, clash).unwrap();
    assert_eq!((accepted.series, accepted.refused.get(Reason::TypeConflict)), (1, 3));
    let text = fixture.text();
    assert!(text.contains(PEERS), "{text}");
    assert_eq!(text.matches("# TYPE mine_total ").count(), 1);
}

#[test]
fn removing_a_process_leaves_nothing() {
    let fixture = Fixture::new();
    let token = fixture.registered("node-0", 1);
    let _ = fixture.push(&token, usual()).unwrap();
    fixture.store.lock().remove("node-0");
    assert_eq!(fixture.text(), "");
    assert_eq!(fixture.push(&token, usual()).unwrap_err(), Refusal(Reason::Unauthenticated));
    assert!(fixture.store.lock().tokens.is_empty());
}

#[test]
fn too_often_is_refused_and_passes_again_later() {
    let fixture = Fixture::new();
    let token = fixture.registered("node-0", 1);
    let burst = PUSHES.burst;
    let results: Vec<bool> = (0..burst + 1).map(|_| fixture.push(&token, usual()).is_ok()).collect();
    assert_eq!(results.iter().filter(|passed| **passed).count(), burst as usize);
    let later = fixture.now + PUSHES.every / PUSHES.tokens;
    assert!(fixture.store.lock().push(&token, usual(), later).is_ok());
    assert_eq!(fixture.store.lock().refused().get(Reason::RateLimited), 1);
}

#[test]
fn silent_clients_of_a_collector_lose_their_gauges() {
    let settings = StoreSettings { stale_after: Some(Duration::from_secs(10)), ..StoreSettings::default() };
    let (mut store, token, now) = (Store::new(settings), Token::random(), Instant::now());
    store.register(&token, "node-0", "node", 1);
    let _ = store.push(&token, usual(), now).unwrap();
    assert!(store.views(now + Duration::from_secs(10))[0].gauges);
    assert!(!store.views(now + Duration::from_secs(11))[0].gauges);
}

#[derive(Debug, Clone)]
enum Step {
    Register(u8, u64),
    Exit(u8, u64),
    Remove(u8),
    Push(prop::sample::Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u8, 0..4_u64).prop_map(|(process, generation)| Step::Register(process, generation)),
        (0..3_u8, 0..4_u64).prop_map(|(process, generation)| Step::Exit(process, generation)),
        (0..3_u8).prop_map(Step::Remove),
        any::<prop::sample::Index>().prop_map(Step::Push),
    ]
}

proptest! {
    /// Only the live, current generation of a process is ever heard, and only it has gauges.
    #[test]
    fn only_the_current_generation_is_heard(steps in prop::collection::vec(any_step(), 0..60)) {
        let fixture = Fixture::new();
        let mut model: BTreeMap<u8, (u64, bool)> = BTreeMap::new();
        let mut tokens: Vec<(Token, u8, u64, bool)> = Vec::new();
        let mut gauges: BTreeMap<u8, bool> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Register(process, generation) => {
                    let token = fixture.registered(&process.to_string(), generation);
                    if model.get(&process).is_none_or(|(current, _)| *current <= generation) {
                        // The same generation again replaces its token, and only the one before is remembered.
                        tokens.retain(|(_, owner, its, _)| (*owner, *its) != (process, generation));
                        tokens.push((token, process, generation, true));
                        model.insert(process, (generation, true));
                        gauges.insert(process, false);
                    }
                }
                Step::Exit(process, generation) => {
                    fixture.store.lock().exited(&process.to_string(), generation);
                    if let Some((current, alive)) = model.get_mut(&process) && *current == generation {
                        *alive = false;
                        gauges.insert(process, false);
                    }
                }
                Step::Remove(process) => {
                    fixture.store.lock().remove(&process.to_string());
                    model.remove(&process);
                    gauges.remove(&process);
                    tokens.retain(|(_, owner, _, _)| *owner != process);
                }
                Step::Push(index) => {
                    if tokens.is_empty() { continue; }
                    let (token, process, generation, _) = &tokens[index.index(tokens.len())];
                    let heard = model.get(process) == Some(&(*generation, true));
                    let result = fixture.push(token, usual());
                    let limited = matches!(result, Err(Refusal(Reason::RateLimited)));
                    prop_assert!(result.is_ok() == heard || limited);
                    if result.is_ok() {
                        gauges.insert(*process, true);
                    }
                }
            }
            let text = fixture.text();
            for process in 0..3_u8 {
                let shown = text.contains(&format!("p2p_connected_peers{{process=\"{process}\""));
                prop_assert_eq!(shown, gauges.get(&process).copied().unwrap_or(false));
            }
        }
    }
}
