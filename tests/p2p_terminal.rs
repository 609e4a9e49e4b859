//! The console on a terminal: the test runs itself again on a pseudo-terminal and types.

mod p2p_support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use hippius::cli::console::{Input, attach};
use hippius::control::{http, socket};
use hippius::roles::node_admin;
use hyper::StatusCode;
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use p2p_support::*;

/// Set for the run on the pseudo-terminal: the socket to attach to.
const SOCKET: &str = "HIPPIUS_TEST_CONSOLE_SOCKET";

#[tokio::test]
async fn on_a_terminal_one_can_complete_send_and_see_messages_above_the_prompt() {
    if let Some(path) = std::env::var_os(SOCKET) {
        attach(Path::new(&path), Input::Terminal).await.expect("a console");
        return;
    }
    let (node, friend) = (bootnode().await, bootnode().await);
    node.handle.join(lobby()).await.unwrap();
    friend.handle.join(lobby()).await.unwrap();
    node.handle.connect(friend.address().await).await.unwrap();
    friend.handle.publish(lobby(), "early").await.unwrap();
    eventually("the friend can reach the node", || async {
        friend.subscribers("lobby").await == 1
            && node.handle.past_messages(lobby(), 1).await.unwrap().is_some_and(|past| past.len() == 1)
    })
    .await;
    let mut heard = friend.handle.subscribe_events().unwrap();
    let path = node.folder.path().join("admin.sock");
    let listener = socket::bind(&path).await.unwrap();
    let handle = node.handle.clone();
    http::serve(listener, http::Limits::default(), move |request, _| {
        let handle = handle.clone();
        async move {
            let answer = node_admin::handle(&handle, request).await;
            answer.unwrap_or_else(|| http::error(StatusCode::NOT_FOUND, "not_found", "no such path"))
        }
    });

    let size = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg("on_a_terminal_one_can_complete_send_and_see_messages_above_the_prompt")
        .env(SOCKET, &path)
        .env("TERM", "xterm")
        .stdin(terminal())
        .stdout(terminal())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut keyboard = File::from(pty.master.try_clone().unwrap());
    let screen = Arc::new(Mutex::new(Vec::new()));
    let (mut output, shown) = (File::from(pty.master), screen.clone());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            shown.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
    let shows = |text: &'static str| {
        let screen = screen.clone();
        eventually(text, move || {
            let found = String::from_utf8_lossy(&screen.lock().unwrap()).contains(text);
            async move { found }
        })
    };

    shows("lobby> ").await;
    shows("(earlier) [lobby] ").await;
    keyboard.write_all(b"/jo\tnews\r").unwrap();
    shows("joined news").await;
    keyboard.write_all(b"/send lo\thello\r").unwrap();
    shows("sent to lobby: 1 peer").await;
    assert_eq!(next_message(&mut heard).await.text, "hello");
    keyboard.write_all(b"and plain text\r").unwrap();
    assert_eq!(next_message(&mut heard).await.text, "and plain text");
    // Pasted, or typed ahead: the editor finds all of it at once.
    keyboard.write_all(b"one\rtwo\rthree\r").unwrap();
    for text in ["one", "two", "three"] {
        assert_eq!(next_message(&mut heard).await.text, text);
    }
    keyboard.write_all(b"half a line").unwrap();
    friend.handle.publish(lobby(), "evil \u{1b}]0;title\u{7}").await.unwrap();
    shows("evil \\u{1b}]0;title\\u{7}").await;
    // Ctrl-U empties the line.
    keyboard.write_all(b"\x15/frobnicate\r").unwrap();
    shows("error: unknown command /frobnicate").await;
    keyboard.write_all(b"/quit\r").unwrap();
    eventually("the console ends", || {
        let ended = child.try_wait().unwrap().is_some_and(|status| status.success());
        async move { ended }
    })
    .await;
    let mode = tcgetattr(pty.slave.as_fd()).unwrap();
    assert!(
        mode.local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON),
        "the terminal is left as it was"
    );
}

#[tokio::test]
async fn a_node_that_stops_leaves_the_terminal_as_it_was() {
    if let Some(path) = std::env::var_os(SOCKET) {
        assert!(attach(Path::new(&path), Input::Terminal).await.is_err());
        return;
    }
    let node = bootnode().await;
    node.handle.join(lobby()).await.unwrap();
    let path = node.folder.path().join("admin.sock");
    let listener = socket::bind(&path).await.unwrap();
    let handle = node.handle.clone();
    http::serve(listener, http::Limits::default(), move |request, _| {
        let handle = handle.clone();
        async move {
            let answer = node_admin::handle(&handle, request).await;
            answer.unwrap_or_else(|| http::error(StatusCode::NOT_FOUND, "not_found", "no such path"))
        }
    });
    let pty = openpty(None, None).unwrap();
    let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "a_node_that_stops_leaves_the_terminal_as_it_was"])
        .env(SOCKET, &path)
        .env("TERM", "xterm")
        .stdin(terminal())
        .stdout(terminal())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let raw = || {
        let mode = tcgetattr(pty.slave.as_fd()).unwrap();
        !mode.local_flags.contains(LocalFlags::ICANON)
    };
    let mut output = File::from(pty.master);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(1..) = output.read(&mut buffer) {}
    });
    eventually("the editor waits for a line", || async { raw() }).await;
    let _folder = node.stop().await;
    eventually("the console ends", || {
        let ended = child.try_wait().unwrap().is_some_and(|status| status.success());
        async move { ended }
    })
    .await;
    assert!(!raw(), "the terminal is left as it was");
}
