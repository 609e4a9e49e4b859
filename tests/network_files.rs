//! Private messages and files between processes of the real program: through consoles, across the sudden end of either side, onto a
//! full disk.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::role::{Folder, Role};
use support::terminal::Terminal;
use support::wire::Place;
use support::{text, wait_for, wait_until};

/// A node that takes files from everybody unless `accept` says otherwise.
fn command(folder: &Folder, name: &str, listen: &str, accept: &str, more: &[&str]) -> Command {
    let mut command = folder.command(&[&["node", "--name", name, "--listen", listen][..], more].concat());
    command.env("HIPPIUS_NODE__FILES", format!("{{accept={accept}}}"));
    command
}

const ANY: &str = "/ip4/127.0.0.1/tcp/0";

#[track_caller]
fn start(folder: &Folder, name: &str, listen: &str, accept: &str, more: &[&str]) -> Role {
    let mut role = folder.start(command(folder, name, listen, accept, more), name);
    role.wait_ready();
    role
}

#[track_caller]
fn address(role: &Role) -> String {
    role.status()["addresses"][0].as_str().expect("an address").to_owned()
}

fn peer_id(role: &Role) -> String {
    role.status()["peer_id"].as_str().expect("a peer id").to_owned()
}

/// What the admin API says of the files.
#[track_caller]
fn files(role: &Role) -> Vec<Value> {
    let body = role.admin.request("GET", "/v1/files", "", b"").body;
    let value: Value = serde_json::from_str(&body).expect("JSON");
    value["files"].as_array().expect("a list").clone()
}

#[track_caller]
fn post(role: &Role, target: &str, body: &Value) -> (u16, Value) {
    let json = serde_json::to_vec(body).expect("JSON");
    let answer = role.admin.request("POST", target, "", &json);
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

/// Runs a script in the console of `name`.
fn console(folder: &Folder, name: &str, script: &str) -> Output {
    let path = folder.path(&format!("{name}.script"));
    fs::write(&path, script).expect("writable");
    let mut command = folder.command(&["console", name]);
    command.stdin(fs::File::open(path).expect("readable")).output().expect("the binary starts")
}

#[track_caller]
fn console_ok(folder: &Folder, name: &str, script: &str) -> String {
    let output = console(folder, name, script);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Bytes that no two places have in common.
fn content(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Bytes of the one part of a file that is arriving.
fn arrived(folder: &Folder) -> u64 {
    let Ok(entries) = fs::read_dir(folder.path("data/receiver/transfers/in")) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Where the receiver listens, without its id, so that another incarnation can listen there again.
fn listens_at(address: &str) -> String {
    address.split_once("/p2p/").expect("a peer id").0.to_owned()
}

const BYTES: usize = 32 * 1024 * 1024;

/// Somewhere in the first half: the rest takes longer than it takes to kill somebody.
fn somewhere() -> u64 {
    rand::random_range(1..BYTES as u64 / 2)
}

#[test]
fn a_file_survives_the_receivers_sudden_end() {
    let folder = Folder::new();
    let content = content(BYTES);
    fs::write(folder.path("big.bin"), &content).expect("writable");
    let mut receiver = start(&folder, "receiver", ANY, "always", &[]);
    let (id, at) = (peer_id(&receiver), address(&receiver));
    let sender = start(&folder, "sender", ANY, "never", &["--bootnode", &at]);
    let path = folder.path("big.bin");
    let (status, sent) = post(&sender, "/v1/files", &serde_json::json!({ "peer_id": id, "path": path }));
    assert_eq!(status, 200, "{sent}");
    let mut killed_at = 0;
    for _ in 0..2 {
        let enough = killed_at + somewhere() / 4;
        killed_at = wait_for("a part of it has arrived", || {
            let bytes = arrived(&folder);
            (bytes > enough).then_some(bytes)
        });
        receiver.signal(Signal::SIGKILL);
        receiver.wait_exit();
        assert_eq!(names(&folder.path("data/receiver/received")), [""; 0], "nothing half done is seen");
        assert!(arrived(&folder) < BYTES as u64, "it was killed too late");
        receiver = start(&folder, "receiver", &listens_at(&at), "always", &[]);
    }
    wait_until("it is sent", || files(&sender).iter().any(|file| file["state"] == "done"));
    assert!(fs::read(folder.path("data/receiver/received/big.bin")).expect("it is there") == content);
    assert_eq!(names(&folder.path("data/receiver/received")), ["big.bin"]);
    assert_eq!(arrived(&folder), 0);
    // What was there was not sent again: less than the rest and one window has come into this incarnation.
    let peers = receiver.admin.request("GET", "/v1/peers", "", b"").body;
    let peers: Value = serde_json::from_str(&peers).expect("JSON");
    let bytes = peers["peers"][0]["bytes_received"].as_u64().expect("a number");
    assert!(bytes < BYTES as u64 - killed_at + 1024 * 1024, "{bytes} of {BYTES}, {killed_at} were there");
}

#[test]
fn a_file_survives_the_senders_sudden_end() {
    let folder = Folder::new();
    let content = content(BYTES);
    fs::write(folder.path("big.bin"), &content).expect("writable");
    let receiver = start(&folder, "receiver", ANY, "always", &[]);
    let (id, at) = (peer_id(&receiver), address(&receiver));
    let mut sender = start(&folder, "sender", ANY, "never", &["--bootnode", &at]);
    let mut script = folder.command(&["console", "sender"]);
    fs::write(folder.path("script"), format!("/send-file {id} big.bin\n")).expect("writable");
    let script = script
        .stdin(fs::File::open(folder.path("script")).expect("readable"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut killed_at = 0;
    for _ in 0..2 {
        let enough = killed_at + somewhere() / 4;
        killed_at = wait_for("a part of it has arrived", || {
            let bytes = arrived(&folder);
            (bytes > enough).then_some(bytes)
        });
        sender.signal(Signal::SIGKILL);
        sender.wait_exit();
        assert_eq!(names(&folder.path("data/receiver/received")), [""; 0], "nothing half done is seen");
        sender = start(&folder, "sender", ANY, "never", &["--bootnode", &at]);
    }
    // Nobody has to ask for it again.
    wait_until("it has arrived", || names(&folder.path("data/receiver/received")) == ["big.bin"]);
    assert!(fs::read(folder.path("data/receiver/received/big.bin")).expect("it is there") == content);
    wait_until("the sender knows", || names(&folder.path("data/sender/transfers/out")).is_empty());
    let output = script.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "the console ended with its node: {}", text(&output.stderr));
}

/// A restart as `hippius restart` makes it.
#[track_caller]
fn stop(role: &mut Role) {
    role.signal(Signal::SIGTERM);
    role.wait_exit();
}

/// The one file of a node.
#[track_caller]
fn state(role: &Role) -> Option<String> {
    files(role).last().map(|file| file["state"].as_str().expect("a state").to_owned())
}

#[test]
fn a_file_survives_that_its_receiver_is_restarted_again_and_again() {
    let folder = Folder::new();
    let content = content(4 * BYTES);
    fs::write(folder.path("big.bin"), &content).expect("writable");
    let mut receiver = start(&folder, "receiver", ANY, "ask", &[]);
    let (id, at) = (peer_id(&receiver), address(&receiver));
    let sender = start(&folder, "sender", ANY, "never", &["--bootnode", &at]);
    let path = folder.path("big.bin");
    let (status, sent) = post(&sender, "/v1/files", &serde_json::json!({ "peer_id": id, "path": path }));
    assert_eq!(status, 200, "{sent}");
    let offered =
        |receiver: &Role| wait_until("it is offered", || state(receiver).as_deref() == Some("offered"));
    // Nobody has declined it, so it is offered again.
    for _ in 0..5 {
        offered(&receiver);
        stop(&mut receiver);
        receiver = start(&folder, "receiver", &listens_at(&at), "ask", &[]);
    }
    offered(&receiver);
    let (status, accepted) =
        post(&receiver, &format!("/v1/files/{}/accept", files(&receiver)[0]["id"]), &serde_json::json!({}));
    assert_eq!(status, 200, "{accepted}");
    // From here on nobody is asked again, and nothing comes twice.
    let mut stopped_at = 0;
    for _ in 0..5 {
        let enough = stopped_at + somewhere() / 4;
        wait_until("more of it has arrived", || arrived(&folder) > enough);
        stop(&mut receiver);
        stopped_at = arrived(&folder);
        assert!(stopped_at > 0, "what has arrived stays");
        assert_eq!(names(&folder.path("data/receiver/received")), [""; 0], "it was stopped too late");
        receiver = start(&folder, "receiver", &listens_at(&at), "ask", &[]);
    }
    wait_until("it is sent", || state(&sender).as_deref() == Some("done"));
    assert!(fs::read(folder.path("data/receiver/received/big.bin")).expect("it is there") == content);
    assert_eq!(names(&folder.path("data/receiver/received")), ["big.bin"]);
    assert_eq!(files(&receiver).len(), 1, "it was asked about once more: {:?}", files(&receiver));
}

#[test]
fn a_file_survives_that_its_sender_is_restarted_again_and_again() {
    let folder = Folder::new();
    let content = content(4 * BYTES);
    fs::write(folder.path("big.bin"), &content).expect("writable");
    let receiver = start(&folder, "receiver", ANY, "always", &[]);
    let (id, at) = (peer_id(&receiver), address(&receiver));
    let mut sender = start(&folder, "sender", ANY, "never", &["--bootnode", &at]);
    let path = folder.path("big.bin");
    let (status, sent) = post(&sender, "/v1/files", &serde_json::json!({ "peer_id": id, "path": path }));
    assert_eq!(status, 200, "{sent}");
    // Its hash is being computed, or it is being offered.
    stop(&mut sender);
    sender = start(&folder, "sender", ANY, "never", &["--bootnode", &at]);
    let mut stopped_at = 0;
    for _ in 0..5 {
        let enough = stopped_at + somewhere() / 4;
        wait_until("more of it has arrived", || arrived(&folder) > enough);
        stop(&mut sender);
        stopped_at = arrived(&folder);
        assert!(stopped_at > 0, "what has arrived stays");
        sender = start(&folder, "sender", ANY, "never", &["--bootnode", &at]);
    }
    wait_until("it has arrived", || names(&folder.path("data/receiver/received")) == ["big.bin"]);
    assert!(fs::read(folder.path("data/receiver/received/big.bin")).expect("it is there") == content);
    wait_until("the sender knows", || names(&folder.path("data/sender/transfers/out")).is_empty());
    assert_eq!(state(&sender).as_deref(), Some("done"));
}

#[test]
fn a_file_goes_on_soon_after_either_side_has_disconnected() {
    let folder = Folder::new();
    let content = content(BYTES);
    fs::write(folder.path("big.bin"), &content).expect("writable");
    let receiver = start(&folder, "receiver", ANY, "always", &[]);
    let id = peer_id(&receiver);
    let sender = start(&folder, "sender", ANY, "never", &["--bootnode", &address(&receiver)]);
    let sender_id = peer_id(&sender);
    let path = folder.path("big.bin");
    let (status, sent) = post(&sender, "/v1/files", &serde_json::json!({ "peer_id": id, "path": path }));
    assert_eq!(status, 200, "{sent}");
    let done = || files(&sender).iter().any(|file| file["state"] == "done");
    let mut broken_at = 0;
    for by_sender in [true, false] {
        broken_at = wait_for("a part of it has arrived", || {
            let bytes = arrived(&folder);
            (bytes > broken_at + BYTES as u64 / 16).then_some(bytes)
        });
        if by_sender {
            let out = console_ok(&folder, "sender", &format!("/disconnect {id}\n"));
            assert!(out.contains("disconnected"), "{out}");
        } else {
            let body = serde_json::json!({ "peer_id": sender_id });
            // What arrived may have come before the first break took effect: the sender is not back yet then.
            wait_until("it is disconnected once it is back", || {
                let (status, answer) = post(&receiver, "/v1/peers/disconnect", &body);
                assert_eq!(status, 200, "{answer}");
                answer["closed"] == true
            });
        }
        assert!(!done(), "it was disconnected too late");
    }
    // A side that is not told of the break waits for the other's next word until the deadline of this.
    wait_until("the rest has arrived", || {
        let (done, bytes) = (done(), arrived(&folder));
        assert!(done || bytes == 0 || bytes >= broken_at, "{bytes} are left of {broken_at}");
        done
    });
    assert!(fs::read(folder.path("data/receiver/received/big.bin")).expect("it is there") == content);
    assert_eq!(names(&folder.path("data/receiver/received")), ["big.bin"]);
}

#[test]
fn a_message_and_a_file_go_from_console_to_console() {
    let folder = Folder::new();
    let receiver = start(&folder, "receiver", ANY, "ask", &[]);
    let id = peer_id(&receiver);
    let end = &id[id.len() - 8..];
    let sender = start(&folder, "sender", ANY, "ask", &[]);
    fs::write(folder.path("my notes.txt"), "hello").expect("writable");
    let connect = format!("/connect {}\n", address(&receiver));

    let out = console_ok(&folder, "sender", &format!("{connect}/msg {end} \"hi there\"\n/msg {id} again\n"));
    assert_eq!(out.lines().filter(|line| *line == format!("delivered to {id}")).count(), 2, "{out}");

    let mut script = folder.command(&["console", "sender"]);
    fs::write(folder.path("script"), format!("/send-file {end} \"my notes.txt\"\n/files\n"))
        .expect("writable");
    let script = script
        .stdin(fs::File::open(folder.path("script")).expect("readable"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let offer = wait_for("the file is offered", || {
        files(&receiver).into_iter().find(|file| file["state"] == "offered")
    });
    assert_eq!((&offer["name"], &offer["size"]), (&"my notes.txt".into(), &5.into()));
    let listed = console_ok(&folder, "receiver", "/files\n");
    assert!(listed.contains("my notes.txt") && listed.contains("is offered"), "{listed}");
    let accepted = console_ok(&folder, "receiver", &format!("/accept {}\n", offer["id"]));
    assert!(accepted.contains("accepted my notes.txt"), "{accepted}");
    let output = script.wait_with_output().expect("it ends");
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert!(out.contains(&format!("sending my notes.txt (5 B) to {id}")), "{out}");
    assert!(out.contains(&format!("sent my notes.txt (5 B) to {id}")) && out.contains("is done"), "{out}");
    assert_eq!(fs::read_to_string(folder.path("data/receiver/received/my notes.txt")).unwrap(), "hello");

    for (line, words) in [
        (format!("/msg {id}"), "usage: /msg"),
        (format!("/send-file {id} nothing.txt"), "cannot read"),
        (format!("/send-file {id} /dev/zero"), "only regular files"),
        (format!("/send-file {id} ."), "is a folder"),
        ("/msg 12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp hi".to_owned(), "is not known here"),
        ("/accept 999".to_owned(), "no file 999"),
        ("/cancel 1".to_owned(), "has ended already"),
    ] {
        let output = console(&folder, "sender", &format!("{line}\n"));
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {errors}");
        assert!(errors.starts_with("error: line 1: ") && errors.contains(words), "{line}: {errors}");
    }
    drop(sender);
}

/// A receiver whose folder is a file system of 4 MiB; and where its folder is seen from here.
fn on_a_small_disk(folder: &Folder) -> (Role, PathBuf) {
    let socket = folder.path("receiver.sock");
    let data = folder.path("data/receiver");
    fs::create_dir_all(&data).expect("writable");
    let file = folder.path("receiver.toml");
    let text = format!(
        "[process]\nname = \"receiver\"\ndata_dir = {data:?}\nadmin_socket = {socket:?}\n\
         [node]\nlisten = [{ANY:?}]\nfiles = {{ accept = \"always\" }}\n"
    );
    fs::write(&file, text).expect("writable");
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount");
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let script = "mount -t tmpfs -o size=4m tmpfs \"$1\" && exec \"$2\" node --config \"$3\"";
    unshare.args(["--", "sh", "-c", script, "sh"]).arg(&data).arg(support::binary()).arg(&file);
    unshare
        .current_dir(folder.path(""))
        .env("NO_COLOR", "1")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null());
    let mut role = folder.start(unshare, "receiver");
    role.admin = Place::Unix(socket);
    role.wait_ready();
    let seen = PathBuf::from(format!("/proc/{}/root{}", role.child.id(), data.display()));
    (role, seen)
}

#[test]
fn a_full_disk_refuses_the_file_and_nothing_else() {
    let folder = Folder::new();
    let (receiver, disk) = on_a_small_disk(&folder);
    let id = peer_id(&receiver);
    let _sender = start(&folder, "sender", ANY, "never", &["--bootnode", &address(&receiver)]);
    fs::write(folder.path("large.bin"), content(6 * 1024 * 1024)).expect("writable");
    fs::write(folder.path("small.txt"), "fits").expect("writable");
    for _ in 0..2 {
        let output = console(&folder, "sender", &format!("/send-file {id} large.bin\n"));
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("the peer's disk is full"), "{errors}");
        let refused = files(&receiver).pop().expect("it was begun");
        assert_eq!(refused["reason"], "the disk is full", "{refused}");
        wait_until("the part is gone", || names(&disk.join("transfers/in")).is_empty());
        assert_eq!(names(&disk.join("received")), [""; 0]);
        // The room is there again, and the node lives.
        console_ok(&folder, "sender", &format!("/send-file {id} small.txt\n/msg {id} hi\n"));
        assert_eq!(fs::read_to_string(disk.join("received/small.txt")).expect("it is there"), "fits");
        fs::remove_file(disk.join("received/small.txt")).expect("removable");
    }
}

#[test]
fn on_a_terminal_progress_is_one_line_that_is_updated() {
    let folder = Folder::new();
    let receiver = start(&folder, "receiver", ANY, "ask", &[]);
    let id = peer_id(&receiver);
    let sender = start(&folder, "sender", ANY, "ask", &["--bootnode", &address(&receiver)]);
    wait_until("they are connected", || sender.status()["connected_peers"] == 1);
    fs::write(folder.path("a.txt"), "hello").expect("writable");
    let mut terminal = Terminal::run(&folder.command(&["console", "sender"]));
    terminal.wait_text("/help lists the commands");
    // Silent until the prompt is there again: what comes before that has no line to stand above.
    receiver.signal(Signal::SIGSTOP);
    terminal.type_in(&format!("/send-file {} a.txt\r", &id[id.len() - 8..]));
    wait_until("the prompt is back", || {
        let plain = terminal.plain();
        plain.contains("sending a.txt (5 B)") && plain.ends_with("> ")
    });
    receiver.signal(Signal::SIGCONT);
    terminal.wait_text("> a.txt waits for the peer");
    let offer = wait_for("the file is offered", || {
        files(&receiver).into_iter().find(|file| file["state"] == "offered")
    });
    let (status, answer) =
        post(&receiver, &format!("/v1/files/{}/accept", offer["id"]), &serde_json::json!({}));
    assert_eq!(status, 200, "{answer}");
    terminal.wait_text("sent a.txt (5 B)");
    let raw = terminal.raw();
    assert!(raw.contains("\x1b[1A\r\x1b[J> a.txt "), "the second takes the place of the first: {raw:?}");
}
