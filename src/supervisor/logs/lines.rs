//! From a stream of bytes to whole lines, and from any line to a JSON object. Pure.

use std::time::SystemTime;

use serde::de::IgnoredAny;
use serde_json::json;

/// Longest line kept, in bytes. The rest of a longer one is cut off: no process may fill the supervisor's memory.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Collects bytes into lines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The begun line, at most [`MAX_LINE_BYTES`] of it.
    partial: Vec<u8>,
}

impl LineSplitter {
    /// Takes the next bytes and hands every line that they complete to `line`, without its end.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            if self.partial.is_empty() && head.len() <= MAX_LINE_BYTES {
                line(trim(head));
            } else {
                self.keep(head);
                line(trim(&self.partial));
                self.partial.clear();
            }
            rest = &tail[1..];
        }
        self.keep(rest);
    }

    /// Hands over what stands without a line end once the stream has ended.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(trim(&self.partial));
            self.partial.clear();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES - self.partial.len();
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Appends `line` as one JSON object: as it is if it is one, wrapped with the time otherwise.
pub fn to_json_line(line: &[u8], out: &mut Vec<u8>) {
    let is_object = line.first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(line).is_ok();
    if is_object {
        out.extend_from_slice(line);
        return;
    }
    let wrapped = json!({
        "timestamp": humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
        "level": "INFO",
        "message": String::from_utf8_lossy(line),
        "target": "output",
    });
    out.extend_from_slice(wrapped.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line| lines.push(line.to_vec()));
        }
        splitter.finish(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn a_line_longer_than_the_limit_is_cut_and_the_next_one_is_whole() {
        let long = vec![b'x'; MAX_LINE_BYTES + 10];
        let lines = split(&[&long, b"more\nnext\n"]);
        assert_eq!(lines[0].len(), MAX_LINE_BYTES);
        assert_eq!(lines[1], b"next");
    }

    #[test]
    fn what_is_no_json_object_is_wrapped() {
        for line in [&b"plain"[..], b"{\"half\":", b"[1]", b"", b"{} trailing", b"\xff"] {
            let mut out = Vec::new();
            to_json_line(line, &mut out);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(value["message"], String::from_utf8_lossy(line).as_ref());
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_where_the_stream_is_cut(
            lines in prop::collection::vec("[a-z]{0,20}", 0..20), cut in 1_usize..16,
        ) {
            let stream: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
            let chunks: Vec<&[u8]> = stream.chunks(cut).collect();
            let expected: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
            prop_assert_eq!(split(&chunks), expected);
        }
    }
}
