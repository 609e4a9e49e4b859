use std::io::Write;

use proptest::prelude::*;

use super::*;

fn line(second: u32, text: &str) -> String {
    format!("{{\"timestamp\":\"2026-01-01T00:00:{second:02}Z\",\"message\":\"{text}\"}}\n")
}

/// The last lines, all at once.
fn tail(dir: &Path, processes: &[String], count: usize) -> io::Result<Vec<LogLine>> {
    let mut lines = History::open(dir, processes)?.last(count)?;
    std::iter::from_fn(|| lines.next().transpose()).collect()
}

fn messages(lines: &[LogLine]) -> Vec<String> {
    let message = |line: &LogLine| {
        let value: serde_json::Value = serde_json::from_str(&line.json).unwrap();
        value["message"].as_str().unwrap().to_owned()
    };
    lines.iter().map(message).collect()
}

#[test]
fn lines_of_several_processes_are_merged_by_time_across_rotated_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.log.1"), line(1, "one") + &line(3, "three")).unwrap();
    fs::write(dir.path().join("a.log"), line(5, "five")).unwrap();
    fs::write(dir.path().join("b.log"), line(2, "two") + &line(4, "four") + "{\"torn").unwrap();
    fs::write(dir.path().join("turn_bandwidth.log"), line(3, "no process")).unwrap();
    let names = processes(dir.path()).unwrap();
    assert_eq!(names, ["a", "b"]);
    let expected = ["one", "two", "three", "four", "five"];
    for count in [0, 1, 2, 3, 4, 5, 6, usize::MAX] {
        let lines = tail(dir.path(), &names, count).unwrap();
        assert_eq!(messages(&lines), expected[5 - count.min(5)..], "{count}");
    }
}

#[test]
fn a_pipe_among_the_files_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.log"), line(1, "one")).unwrap();
    nix::unistd::mkfifo(&dir.path().join("a.log.1"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (done, lines) = std::sync::mpsc::channel();
    let folder = dir.path().to_owned();
    std::thread::spawn(move || done.send(tail(&folder, &["a".to_owned()], 10)));
    let lines = lines.recv_timeout(std::time::Duration::from_secs(10)).expect("no wait for a writer");
    assert_eq!(messages(&lines.unwrap()), ["one"]);
}

#[test]
fn lines_without_a_time_stay_where_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let untimed = "no JSON\n{}\n";
    fs::write(dir.path().join("a.log"), line(1, "one") + untimed + &line(3, "three") + "end\n").unwrap();
    fs::write(dir.path().join("b.log"), line(2, "two")).unwrap();
    let names = ["a".to_owned(), "b".to_owned()];
    let all: Vec<String> =
        tail(dir.path(), &names, 10).unwrap().iter().map(|line| line.json.to_string()).collect();
    let timed = |second, text| line(second, text).trim_end().to_owned();
    let expected =
        [timed(1, "one"), "no JSON".into(), "{}".into(), timed(2, "two"), timed(3, "three"), "end".into()];
    assert_eq!(all, expected);
}

#[test]
fn what_happens_to_the_files_after_they_were_opened_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    fs::write(dir.path().join("a.log.1"), line(1, "one")).unwrap();
    fs::write(&path, line(2, "two")).unwrap();
    let history = History::open(dir.path(), &["a".to_owned()]).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(line(3, "later").as_bytes()).unwrap();
    fs::remove_file(dir.path().join("a.log.1")).unwrap();
    fs::rename(&path, dir.path().join("a.log.1")).unwrap();
    fs::write(&path, line(4, "later")).unwrap();
    let mut lines = history.last(10).unwrap();
    let read: Vec<LogLine> = std::iter::from_fn(|| lines.next().unwrap()).collect();
    assert_eq!(messages(&read), ["one", "two"]);
}

#[test]
fn older_files_are_found_when_the_newest_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.log.1"), line(1, "one")).unwrap();
    assert_eq!(messages(&tail(dir.path(), &["a".to_owned()], 9).unwrap()), ["one"]);
}

#[test]
fn a_line_without_end_is_read_in_bounded_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let huge = "x".repeat(3 * MAX_LINE_BYTES + 7);
    fs::write(dir.path().join("a.log"), line(1, "one") + &huge + "\n" + &line(2, "two")).unwrap();
    let lines = tail(dir.path(), &["a".to_owned()], 9).unwrap();
    assert!(lines.iter().all(|line| line.json.len() <= MAX_LINE_BYTES));
    assert_eq!(messages(&lines[..1]), ["one"]);
    assert_eq!(messages(&lines[lines.len() - 1..]), ["two"]);
}

proptest! {
    /// Against the obvious way: all lines, the last of them.
    #[test]
    fn the_last_lines_are_the_last_lines(
        sizes in prop::collection::vec(prop::collection::vec(0_usize..40_000, 0..6), 1..4),
        torn in any::<bool>(),
        count in 0_usize..20,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for (age, sizes) in sizes.iter().enumerate().rev() {
            let lines: Vec<String> = sizes.iter().map(|size| format!("{age}").repeat(*size)).collect();
            let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            if torn && age == 0 {
                text.push_str("{\"torn");
            }
            let path = dir.path().join("a.log");
            fs::write(if age == 0 { path } else { rotated(&path, age as u32) }, text).unwrap();
            all.extend(lines);
        }
        let read: Vec<String> =
            tail(dir.path(), &["a".to_owned()], count).unwrap().iter().map(|line| line.json.to_string()).collect();
        prop_assert_eq!(read, &all[all.len().saturating_sub(count)..]);
    }
}
