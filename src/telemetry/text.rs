//! The Prometheus text format, version 0.0.4.
//!
//! The encoder of the `prometheus` crate cannot write untyped metrics (it panics), so this one is used.

use std::fmt::Write;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// The value of `Content-Type`.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes `families` out.
pub(super) fn encode(families: &[MetricFamily]) -> String {
    // About 90 bytes a line in practice; growing a string of megabytes by doubling would copy it often.
    let lines: usize = families.iter().map(|family| family.get_metric().len() + 2).sum();
    let mut out = String::with_capacity(lines * 96);
    for family in families.iter().filter(|family| !family.get_metric().is_empty()) {
        let name = family.name();
        if !family.help().is_empty() {
            out.push_str("# HELP ");
            out.push_str(name);
            out.push(' ');
            escape(&mut out, family.help(), Quotes::Plain);
            out.push('\n');
        }
        out.push_str("# TYPE ");
        out.push_str(name);
        out.push_str(match family.get_field_type() {
            MetricType::COUNTER => " counter\n",
            MetricType::GAUGE => " gauge\n",
            MetricType::SUMMARY => " summary\n",
            MetricType::UNTYPED => " untyped\n",
            MetricType::HISTOGRAM => " histogram\n",
        });
        for metric in family.get_metric() {
            match family.get_field_type() {
                MetricType::COUNTER => {
                    sample(&mut out, name, "", metric, None, metric.get_counter().get_value())
                }
                MetricType::GAUGE | MetricType::UNTYPED => {
                    sample(&mut out, name, "", metric, None, metric.get_gauge().get_value())
                }
                MetricType::HISTOGRAM => histogram(&mut out, name, metric),
                MetricType::SUMMARY => summary(&mut out, name, metric),
            }
        }
    }
    out
}

fn histogram(out: &mut String, name: &str, metric: &Metric) {
    let histogram = metric.get_histogram();
    let count = histogram.get_sample_count() as f64;
    for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
        let bound = bucket.upper_bound().to_string();
        sample(out, name, "_bucket", metric, Some(("le", &bound)), bucket.cumulative_count() as f64);
    }
    sample(out, name, "_bucket", metric, Some(("le", "+Inf")), count);
    sample(out, name, "_sum", metric, None, histogram.get_sample_sum());
    sample(out, name, "_count", metric, None, count);
}

fn summary(out: &mut String, name: &str, metric: &Metric) {
    let summary = metric.get_summary();
    for quantile in summary.get_quantile() {
        let rank = quantile.quantile().to_string();
        sample(out, name, "", metric, Some(("quantile", &rank)), quantile.value());
    }
    sample(out, name, "_sum", metric, None, summary.sample_sum());
    sample(out, name, "_count", metric, None, summary.sample_count() as f64);
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    metric: &Metric,
    extra: Option<(&str, &str)>,
    value: f64,
) {
    out.push_str(name);
    out.push_str(suffix);
    let labels = metric.get_label().iter().map(|pair: &LabelPair| (pair.name(), pair.value())).chain(extra);
    let mut separator = '{';
    for (label, text) in labels {
        out.push(separator);
        separator = ',';
        out.push_str(label);
        out.push_str("=\"");
        escape(out, text, Quotes::Escaped);
        out.push('"');
    }
    if separator == ',' {
        out.push('}');
    }
    out.push(' ');
    number(out, value);
    out.push('\n');
}

fn number(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value.fract() == 0.0 && value.abs() < 1e15 {
        // Most values are whole, and integers are written several times faster.
        let _ = write!(out, "{}", value as i64);
    } else {
        let _ = write!(out, "{value}");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Plain,
    Escaped,
}

fn escape(out: &mut String, text: &str, quotes: Quotes) {
    if !text.bytes().any(|byte| matches!(byte, b'\\' | b'\n' | b'"')) {
        return out.push_str(text);
    }
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes == Quotes::Escaped => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(kind: MetricType, metric: Metric) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name("m".to_owned());
        family.set_help("a \"b\" \\ c\nd".to_owned());
        family.set_field_type(kind);
        family.set_metric(vec![metric]);
        family
    }

    fn labelled(value: &str) -> Metric {
        let mut label = LabelPair::default();
        label.set_name("l".to_owned());
        label.set_value(value.to_owned());
        Metric::from_label(vec![label])
    }

    #[test]
    fn text_is_escaped() {
        let mut metric = labelled("x\"\\\ny");
        let mut value = prometheus::proto::Gauge::default();
        value.set_value(1.5);
        metric.set_gauge(value);
        let expected = "# HELP m a \"b\" \\\\ c\\nd\n# TYPE m untyped\nm{l=\"x\\\"\\\\\\ny\"} 1.5\n";
        assert_eq!(encode(&[family(MetricType::UNTYPED, metric)]), expected);
    }

    #[test]
    fn a_histogram_ends_in_infinity() {
        let mut metric = Metric::default();
        let mut histogram = prometheus::proto::Histogram::default();
        let mut bucket = prometheus::proto::Bucket::default();
        bucket.set_upper_bound(0.5);
        bucket.set_cumulative_count(2);
        histogram.set_bucket(vec![bucket]);
        histogram.set_sample_count(3);
        histogram.set_sample_sum(4.25);
        metric.set_histogram(histogram);
        let text = encode(&[family(MetricType::HISTOGRAM, metric)]);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let expected = [
            "# TYPE m histogram",
            "m_bucket{le=\"0.5\"} 2",
            "m_bucket{le=\"+Inf\"} 3",
            "m_sum 4.25",
            "m_count 3",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn numbers_are_those_of_the_format() {
        let text = |value| {
            let mut out = String::new();
            number(&mut out, value);
            out
        };
        assert_eq!(text(0.0), "0");
        assert_eq!(text(-3.0), "-3");
        assert_eq!(text(0.25), "0.25");
        assert_eq!(text(f64::INFINITY), "+Inf");
        assert_eq!(text(f64::NAN), "NaN");
        assert_eq!(text(1e18).parse::<f64>().unwrap(), 1e18);
    }
}
