//! The last lines of log files, those of several processes merged by time. Works without a running supervisor.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::LogLine;
use super::file::rotated;

/// Bytes read at once on the way back from a file's end.
const BLOCK_BYTES: u64 = 64 * 1024;

/// Names of all processes that have a log in `dir`, in order.
///
/// # Errors
/// When the folder cannot be read.
pub fn processes(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        if let Some(name) = entry?.file_name().to_str().and_then(|name| name.strip_suffix(".log")) {
            names.insert(name.to_owned());
        }
    }
    Ok(names.into_iter().collect())
}

/// The last `count` lines of the given processes together, oldest first. A process without a log has no lines.
///
/// # Errors
/// When a file that exists cannot be read.
pub fn tail(dir: &Path, processes: &[String], count: usize) -> io::Result<Vec<LogLine>> {
    let mut lines: Vec<(String, LogLine)> = Vec::new();
    for process in processes {
        let name: Arc<str> = process.as_str().into();
        for line in tail_of_one(&dir.join(format!("{process}.log")), count)? {
            let line = LogLine { process: name.clone(), json: line.into() };
            lines.push((timestamp(&line.json), line));
        }
    }
    // Stable: lines of one process that carry the same time keep their order.
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    let surplus = lines.len().saturating_sub(count);
    Ok(lines.into_iter().skip(surplus).map(|(_, line)| line).collect())
}

fn tail_of_one(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut newest_first: Vec<Vec<String>> = Vec::new();
    let mut missing = count;
    for age in 0.. {
        let path = if age == 0 { path.to_owned() } else { rotated(path, age) };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        let lines = last_lines(file, missing)?;
        missing -= lines.len();
        newest_first.push(lines);
        if missing == 0 {
            break;
        }
    }
    Ok(newest_first.into_iter().rev().flatten().collect())
}

fn last_lines(mut file: File, count: usize) -> io::Result<Vec<String>> {
    let mut start = file.seek(SeekFrom::End(0))?;
    let mut bytes: Vec<u8> = Vec::new();
    // One line end more than lines: the first line found may otherwise lack its head.
    while start > 0 && bytes.iter().filter(|byte| **byte == b'\n').count() <= count {
        let block = BLOCK_BYTES.min(start);
        start -= block;
        file.seek(SeekFrom::Start(start))?;
        let mut head = vec![0; block as usize];
        file.read_exact(&mut head)?;
        head.append(&mut bytes);
        bytes = head;
    }
    // A file ends with a line end; what stands behind the last one is being written right now.
    let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..end]);
    let lines: Vec<&str> = text.lines().collect();
    let surplus = lines.len().saturating_sub(count);
    Ok(lines[surplus..].iter().map(|line| (*line).to_owned()).collect())
}

fn timestamp(json: &str) -> String {
    #[derive(Deserialize)]
    struct Line {
        timestamp: String,
    }
    serde_json::from_str::<Line>(json).map(|line| line.timestamp).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: u32, text: &str) -> String {
        format!("{{\"timestamp\":\"2026-01-01T00:00:{second:02}Z\",\"message\":\"{text}\"}}\n")
    }

    #[test]
    fn lines_of_several_processes_are_merged_by_time_across_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.log.1"), line(1, "one") + &line(3, "three")).unwrap();
        fs::write(dir.path().join("a.log"), line(5, "five")).unwrap();
        fs::write(dir.path().join("b.log"), line(2, "two") + &line(4, "four") + "{\"torn").unwrap();
        let names = processes(dir.path()).unwrap();
        assert_eq!(names, ["a", "b"]);
        let all = tail(dir.path(), &names, 10).unwrap();
        let words: Vec<String> = all
            .iter()
            .map(|line| serde_json::from_str::<serde_json::Value>(&line.json).unwrap()["message"].to_string())
            .collect();
        assert_eq!(words, ["\"one\"", "\"two\"", "\"three\"", "\"four\"", "\"five\""]);
        assert_eq!(tail(dir.path(), &names, 2).unwrap().len(), 2);
    }

    #[test]
    fn a_long_file_is_read_from_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let text: String = (0..20_000).map(|n| line(n % 60, &n.to_string())).collect();
        fs::write(dir.path().join("a.log"), text).unwrap();
        let lines = tail_of_one(&dir.path().join("a.log"), 3).unwrap();
        assert!(lines[0].contains("19997") && lines[2].contains("19999"));
    }
}
