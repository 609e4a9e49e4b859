//! A node's admin API over a unix socket, and consoles attached to it with input and output in memory.

use std::io::{self, BufRead, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use hippius::cli::console::{Input, Outcome, Script, attach};
use hippius::control::{http, socket};
use hippius::p2p::Handle;
use hippius::roles::node_admin;
use hyper::StatusCode;

use super::TestNode;

/// Serves the admin API of `node` as a role does.
pub async fn serve(node: &TestNode) -> PathBuf {
    let path = node.folder.path().join("admin.sock");
    let listener = socket::bind(&path).await.unwrap();
    let handle: Handle = node.handle.clone();
    http::serve(listener, http::Limits::default(), move |request, _| {
        let handle = handle.clone();
        async move {
            let answer = node_admin::handle(&handle, request).await;
            answer.unwrap_or_else(|| http::error(StatusCode::NOT_FOUND, "not_found", "no such path"))
        }
    });
    path
}

#[derive(Clone, Default)]
pub struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Input that stays open until its sender is dropped, as a pipe from another program does.
pub struct Pipe(Receiver<Vec<u8>>, Cursor<Vec<u8>>);

impl Pipe {
    pub fn new() -> (Sender<Vec<u8>>, Self) {
        let (sender, receiver) = channel();
        (sender, Self(receiver, Cursor::default()))
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Pipe {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.1.fill_buf()?.is_empty()
            && let Ok(more) = self.0.recv()
        {
            self.1 = Cursor::new(more);
        }
        self.1.fill_buf()
    }
    fn consume(&mut self, bytes: usize) {
        self.1.consume(bytes);
    }
}

pub fn script(commands: impl BufRead + Send + 'static) -> (Input, Sink, Sink) {
    let (output, errors) = (Sink::default(), Sink::default());
    let input = Script {
        commands: Box::new(commands),
        output: Box::new(output.clone()),
        errors: Box::new(errors.clone()),
    };
    (Input::Script(input), output, errors)
}

pub async fn run(path: &Path, commands: &str) -> (Outcome, String, String) {
    let (input, output, errors) = script(Cursor::new(commands.to_owned()));
    let outcome = attach(path, input).await.unwrap();
    (outcome, output.text(), errors.text())
}
