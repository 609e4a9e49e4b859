//! From OpenTelemetry names to Prometheus names, and the few old names kept beside the new ones.
//!
//! The rules are those of "Prometheus and OpenMetrics Compatibility" in the OpenTelemetry specification: a character
//! that Prometheus does not allow becomes `_`, and a counter ends in `_total`.

use std::borrow::Cow;

/// Exposed names that have an untyped twin, with the twin's name.
///
/// The twins are what existing queries and dashboards use. They would break the naming rules as typed series
/// (a counter without `_total`, a gauge that ends in `_count`), so they are untyped, which linters leave alone.
const TWINS: &[(&str, &str)] = &[
    ("p2p_bytes_received_total", "p2p_bytes_received"),
    ("p2p_bytes_sent_total", "p2p_bytes_sent"),
    ("p2p_messages_received_total", "p2p_messages_received"),
    ("p2p_messages_sent_total", "p2p_messages_sent"),
    ("process_threads", "system_thread_count"),
    ("ws_connections_total", "ws_total_connections"),
    ("ws_messages_received_total", "ws_messages_received"),
    ("ws_messages_sent_total", "ws_messages_sent"),
];

/// The untyped twin of an exposed name.
pub(super) fn twin_of(exposed: &str) -> Option<&'static str> {
    TWINS.iter().find(|(name, _)| *name == exposed).map(|(_, twin)| *twin)
}

/// The exposed name of a counter that was recorded as `name`.
///
/// `X` becomes `X_total`, once; `ws_total_connections` becomes `ws_connections_total`, not a name with two totals.
pub(super) fn counter_name(mut name: String) -> String {
    if name == "ws_total_connections" {
        return "ws_connections_total".to_owned();
    }
    if !name.ends_with("_total") {
        name.push_str("_total");
    }
    name
}

/// A valid Prometheus metric name made of `raw`; `None` when `raw` is empty.
pub(super) fn metric_name(raw: String) -> Option<String> {
    mapped(raw)
}

/// A valid Prometheus label name made of `raw`; `None` when it is empty or one that Prometheus keeps for itself.
pub(super) fn label_name(raw: String) -> Option<String> {
    mapped(raw).filter(|name| !name.starts_with("__"))
}

fn mapped(raw: String) -> Option<String> {
    let first = *raw.as_bytes().first()?;
    // The colon is valid in a metric name but kept for recording rules, so it is mapped as well.
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !first.is_ascii_digit() && raw.chars().all(allowed) {
        return Some(raw);
    }
    let mut name = String::with_capacity(raw.len() + 1);
    if first.is_ascii_digit() {
        name.push('_');
    }
    name.extend(raw.chars().map(|c| if allowed(c) { c } else { '_' }));
    Some(name)
}

/// The first `max` bytes of `text`, cut at a character.
pub(super) fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dots_and_leading_digits_are_mapped() {
        assert_eq!(metric_name("system.cpu.usage".to_owned()).unwrap(), "system_cpu_usage");
        assert_eq!(metric_name("2fast".to_owned()).unwrap(), "_2fast");
        assert_eq!(metric_name("straße".to_owned()).unwrap(), "stra_e");
        assert_eq!(metric_name("a:b".to_owned()).unwrap(), "a_b");
        assert_eq!(metric_name(String::new()), None);
        assert_eq!(label_name("__name__".to_owned()), None);
    }

    #[test]
    fn a_counter_has_one_total() {
        assert_eq!(counter_name("x".to_owned()), "x_total");
        assert_eq!(counter_name("x_total".to_owned()), "x_total");
        assert_eq!(counter_name("ws_total_connections".to_owned()), "ws_connections_total");
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(shortened("aé", 2), "a");
        assert_eq!(shortened("aé", 3), "aé");
    }

    proptest! {
        #[test]
        fn any_mapped_name_is_valid(raw in ".*") {
            if let Some(name) = metric_name(raw) {
                let mut chars = name.chars();
                let first = chars.next().unwrap();
                prop_assert!(first.is_ascii_alphabetic() || first == '_');
                prop_assert!(chars.all(|c| c.is_ascii_alphanumeric() || c == '_'));
            }
        }
    }
}
