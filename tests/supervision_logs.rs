//! What processes print: every complete line once and whole, whatever happens to the process or the disk.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use hippius::supervisor::lifecycle::State;
use serde_json::Value;
use support::{Network, wait_until};

fn topology(logs: &str) -> String {
    format!(
        r#"
name = "logs"
[ports]
signaling = 0
metrics = 0
[logs]
{logs}
[restart]
policy = "never"
[signaling]
[[nodes]]
name = "calm"
"#
    )
}

/// The log of a process, rotated files first. Each line must be one JSON object.
fn lines_of(network: &Network, process: &str) -> Vec<Value> {
    let base = network.dir().join("logs").join(format!("{process}.log"));
    let mut ages: BTreeMap<u32, String> = BTreeMap::new();
    for age in 0.. {
        let path = if age == 0 { base.clone() } else { base.with_extension(format!("log.{age}")) };
        let Ok(text) = std::fs::read_to_string(path) else { break };
        assert!(text.is_empty() || text.ends_with('\n'), "file {age} ends within a line");
        ages.insert(age, text);
    }
    let oldest_first = ages.values().rev().flat_map(|text| text.lines());
    oldest_first.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The messages of a process's log.
fn messages(network: &Network, process: &str) -> Vec<String> {
    let lines = lines_of(network, process);
    lines.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_process_killed_in_the_middle_of_a_line_loses_no_complete_one() {
    const LINES: u64 = 100_000;
    let network = Network::scripted(
        &topology("max_size = \"1 MiB\"\nkeep = 100"),
        r#"
if name == "calm": serve()
ready()
block = []
for n in range(100000):
    block.append('{"n":%d,"message":"line %d of many"}\n' % (n, n))
    if len(block) == 997:
        out("".join(block))
        block = []
out("".join(block))
out('{"n":100000,"message":"this one is never fin')
os.kill(os.getpid(), signal.SIGKILL)
"#,
    );
    network.wait_state("signaling", State::Failed);
    // The end of the pipe is read after the process is gone.
    wait_until("the torn end has come", || {
        messages(&network, "signaling").last().is_some_and(|text| text.contains("never fin"))
    });
    let lines = lines_of(&network, "signaling");
    let numbers: Vec<u64> = lines.iter().filter_map(|line| line["n"].as_u64()).collect();
    assert_eq!(numbers.len() as u64, LINES);
    assert!(numbers.iter().copied().eq(0..LINES), "in order, each once");
    assert_eq!(lines.len() as u64, LINES + 1, "beside them only the torn one, as text");
    let files = std::fs::read_dir(network.dir().join("logs")).unwrap().flatten();
    let rotated =
        files.filter(|file| file.file_name().to_string_lossy().starts_with("signaling.log")).count();
    assert!(rotated > 3, "{rotated} files");
    network.down();
}

#[test]
fn plain_text_becomes_json_and_endless_lines_are_cut() {
    const LIMIT: usize = 64 * 1024;
    let network = Network::scripted(
        &topology("keep = 3"),
        r#"
if name == "calm": serve()
ready()
out("plain text\n[1, 2]\n{\"half\": \n\n\ttab and \x1b[31mcolour\r\n")
os.write(1, b"\xff\xfe no text\n")
out("x" * (64 * 1024 + 1000) + "\n")
out("y" * (64 * 1024) + "\n")
out('{"own":"' + "z" * (1 << 20) + '"}\n')
out('{"message":"the last"}\n')
os.write(2, b"standard error\n")
sleep()
"#,
    );
    wait_until("all has come", || {
        messages(&network, "signaling").last().is_some_and(|m| m == "standard error")
    });
    let lines = lines_of(&network, "signaling");
    let texts = messages(&network, "signaling");
    let first =
        ["plain text", "[1, 2]", "{\"half\": ", "", "\ttab and \u{1b}[31mcolour", "\u{fffd}\u{fffd} no text"];
    assert_eq!(texts[..6], first);
    assert_eq!(texts[6], "x".repeat(LIMIT), "cut");
    assert_eq!(texts[7], "y".repeat(LIMIT), "just fits");
    assert_eq!(texts[8].len(), LIMIT, "a cut object is no object any more");
    assert!(texts[8].starts_with("{\"own\":\"zzz"));
    assert_eq!(texts[9..], ["the last", "standard error"]);
    for wrapped in &lines[..9] {
        let time = wrapped["timestamp"].as_str().unwrap();
        humantime::parse_rfc3339(time).unwrap();
        assert_eq!(wrapped["level"], "INFO");
    }
    assert_eq!(lines[9], serde_json::json!({"message": "the last"}), "an object stays as it is");
    network.down();
}

#[test]
fn files_are_rotated_by_size_and_only_so_many_are_kept() {
    let network = Network::scripted(
        &topology("max_size = 2048\nkeep = 2"),
        r#"
if name == "calm": serve()
ready()
for n in range(300):
    out('{"n":%d,"message":"%s"}\n' % (n, "x" * 70))
    time.sleep(0.001)
out('{"message":"the end"}\n')
sleep()
"#,
    );
    let logs = network.dir().join("logs");
    wait_until("all has come", || messages(&network, "signaling").last().is_some_and(|m| m == "the end"));
    let names = |pattern: &str| {
        let files = std::fs::read_dir(&logs).unwrap().flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with(pattern)).count()
    };
    assert_eq!(names("signaling.log"), 3, "the current one and two kept");
    for file in ["signaling.log", "signaling.log.1", "signaling.log.2"] {
        // A batch of lines read at once stays together; a single one is far smaller than the limit.
        let size = std::fs::metadata(logs.join(file)).unwrap().len();
        assert!(size <= 64 * 1024, "{file} has {size} bytes");
    }
    let numbers: Vec<u64> =
        lines_of(&network, "signaling").iter().filter_map(|line| line["n"].as_u64()).collect();
    assert_eq!(numbers.last(), Some(&299));
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "what is kept has no gap: {numbers:?}");
    network.down();
}

/// A small file system, unmounted again at the end.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None` where this user may not mount.
    fn mount(path: &'a Path, bytes: usize) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={bytes}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).status();
        status.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: a failed test may still have files open in it.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_log_folder_holds_nobody_up_and_is_counted() {
    let mut network = Network::new(&topology("max_size = \"10 MiB\""));
    let logs = network.dir().join("logs");
    let Some(_disk) = SmallDisk::mount(&logs, 128 * 1024) else {
        eprintln!("not run: it takes root to mount a small file system");
        return;
    };
    network.play(
        r#"
if name == "calm": serve()
ready()
for n in range(20000):
    out('{"n":%d,"message":"filling the disk"}\n' % n)
note("printed all")
while not os.path.exists("go"):
    time.sleep(0.01)
out('{"n":20000,"message":"room again"}\n')
sleep()
"#,
        &[],
    );
    wait_until("the process was not held up", || network.notes().len() == 1);
    let dropped = || -> u64 {
        // Figures are taken at changes: one of them is a command.
        let metrics = network.metrics();
        let line = metrics.lines().find(|line| {
            line.starts_with("hippius_log_lines_dropped_total{") && line.contains("process=\"signaling\"")
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };
    wait_until("every line is kept or counted", || {
        let kept = lines_of(&network, "signaling").len() as u64;
        dropped() > 0 && kept + dropped() == 20_000
    });
    for name in ["signaling", "calm"] {
        let process = network.process(name);
        assert_eq!((process.state, process.generation), (State::Ready, 1), "{name} runs on");
    }
    // Room again: what comes from now on is kept.
    let kept = lines_of(&network, "signaling").len();
    assert!(kept > 100);
    let status = Command::new("mount").args(["-o", "remount,size=1m"]).arg(&logs).status().unwrap();
    assert!(status.success());
    std::fs::write(network.dir().join("go"), "").unwrap();
    wait_until("it is kept", || messages(&network, "signaling").last().is_some_and(|m| m == "room again"));
    network.down();
}

#[test]
fn a_log_that_was_removed_or_ends_within_a_line_swallows_nothing() {
    let mut network = Network::new(&topology("keep = 1"));
    let file = network.dir().join("logs/signaling.log");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    // A supervisor was killed while it wrote.
    std::fs::write(&file, "{\"message\":\"half").unwrap();
    network.play(
        r#"
if name == "calm": serve()
out('{"message":"first"}\n')
ready()
while os.path.exists("logs/signaling.log"):
    time.sleep(0.01)
out('{"message":"later"}\n')
sleep()
"#,
        &[],
    );
    wait_until("the first line is whole", || {
        network.read("logs/signaling.log") == "{\"message\":\"half\n{\"message\":\"first\"}\n"
    });
    std::fs::remove_file(&file).unwrap();
    wait_until("the file is there again", || {
        network.read("logs/signaling.log") == "{\"message\":\"later\"}\n"
    });
    network.down();
}
