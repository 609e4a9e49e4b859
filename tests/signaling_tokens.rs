//! A signaling server that asks for tokens: who has a good one registers, everybody else is told why not and counted.

mod support;
mod support_signaling;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use hippius::signaling::SignalingConfig;
use hippius::signaling::token::{Claims, Secret};
use hippius::signaling::wire::Id;
use serde_json::{Value, json};
use support::role::Folder;
use support::text;
use support_signaling::client::{Bench, DEADLINE};
use tokio::time::Instant;

const SECRET: &str = "b0a1c2d3e4f5061728394a5b6c7d8e9fb0a1c2d3e4f5061728394a5b6c7d8e9f";
const OTHER: &str = "00000000000000000000000000000000ffffffffffffffffffffffffffffffff";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Claims {
    Claims { exp: now() + 3600, nbf: None, sub: None, room: None, aud: None }
}

fn id(text: &str) -> Option<Id> {
    Some(Id::parse(text).unwrap())
}

fn signed(secret: &str, claims: Claims) -> Value {
    Secret::new(secret.as_bytes()).unwrap().sign(&claims).into()
}

async fn bench(folder: &Folder, secrets: &str) -> Bench {
    let file = folder.path("tokens");
    fs::write(&file, secrets).unwrap();
    Bench::new(SignalingConfig { token_secret_file: Some(file), ..SignalingConfig::default() }).await
}

#[tokio::test]
async fn only_a_good_token_lets_in_and_every_other_is_counted() {
    let folder = Folder::new();
    let bench = bench(&folder, &format!("{SECRET}\n")).await;
    let mut client = bench.connect().await;
    let good = claims();
    for (payload, code) in [
        (json!({"peer_id": "a"}), "token_required"),
        (json!({"peer_id": "a", "token": null}), "token_required"),
        (json!({"peer_id": "a", "token": ""}), "token_invalid"),
        (json!({"peer_id": "a", "token": "let-me.in.please"}), "token_invalid"),
        (json!({"peer_id": "a", "token": signed(OTHER, good.clone())}), "token_invalid"),
        (
            json!({"peer_id": "a", "token": signed(SECRET, Claims { exp: now() - 60, ..good.clone() })}),
            "token_expired",
        ),
        (
            json!({"peer_id": "a", "token": signed(SECRET, Claims { nbf: Some(now() + 600), ..good.clone() })}),
            "token_invalid",
        ),
        (
            json!({"peer_id": "a", "token": signed(SECRET, Claims { sub: id("b"), ..good.clone() })}),
            "token_mismatch",
        ),
        (
            json!({"peer_id": "a", "token": signed(SECRET, Claims { room: id("attic"), ..good.clone() })}),
            "token_mismatch",
        ),
        (json!({"peer_id": "a", "token": "x".repeat(1025)}), "too_large"),
    ] {
        client.send("Register", payload).await;
        client.expect_error(code).await;
    }
    for (reason, times) in
        [("token_required", 2.0), ("token_invalid", 4.0), ("token_expired", 1.0), ("token_mismatch", 2.0)]
    {
        assert_eq!(bench.refused(reason), times, "{reason}");
    }
    // None of that ended the connection.
    let only = Claims { sub: id("a"), room: id("attic"), ..good };
    let token = signed(SECRET, only);
    client.send("Register", json!({"peer_id": "a", "room": "attic", "token": token})).await;
    let registered = client.expect("Registered").await;
    // A place is taken up again with its proof and a token, and not with the proof alone.
    let mut again = bench.connect().await;
    let resume = &registered["resume"];
    again.send("Register", json!({"peer_id": "a", "room": "attic", "resume": resume})).await;
    again.expect_error("token_required").await;
    again.send("Register", json!({"peer_id": "a", "room": "attic", "resume": resume, "token": token})).await;
    again.expect("Registered").await;
}

#[tokio::test]
async fn the_secrets_change_while_the_server_runs_and_what_the_command_prints_is_taken() {
    let folder = Folder::new();
    let bench = bench(&folder, SECRET).await;
    let mut early = bench.connect().await;
    early.send("Register", json!({"peer_id": "early", "token": signed(SECRET, claims())})).await;
    early.expect("Registered").await;

    // A new secret on top, the old one still good; the command signs with the new one.
    fs::write(folder.path("tokens"), format!("{OTHER}\n{SECRET}\n")).unwrap();
    let command = ["signaling", "token", "--secret-file", "tokens", "--peer-id", "new", "--expires", "1m"];
    let output = folder.command(&command).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let token = text(&output.stdout).trim_end().to_owned();
    let until = Instant::now() + DEADLINE;
    loop {
        let mut client = bench.connect().await;
        client.send("Register", json!({"peer_id": "new", "token": token})).await;
        if client.next().await["type"] == "Registered" {
            break;
        }
        assert!(Instant::now() < until, "the new secret is not taken");
    }
    let mut late = bench.connect().await;
    late.send("Register", json!({"peer_id": "late", "token": signed(SECRET, claims())})).await;
    late.expect("Registered").await;

    for (arguments, said) in [
        (["--secret-file", "nowhere"], "cannot read nowhere"),
        (["--secret-file", "/dev/null"], "there is no secret in it"),
    ] {
        let output = folder.command(&[&["signaling", "token"][..], &arguments].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
    for wrong in [["--expires", "soon"], ["--peer-id", "a b"], ["--room", ""]] {
        let arguments = [&["signaling", "token", "--secret-file", "tokens"][..], &wrong].concat();
        assert_eq!(folder.command(&arguments).output().unwrap().status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_server_without_the_secrets_it_should_have_does_not_start() {
    let folder = Folder::new();
    for (table, said) in [
        ("token_secret_file = \"nowhere\"", "token_secret_file: cannot read nowhere"),
        ("tls = { certificate = \"a.pem\", key = \"a.key\" }", "tls: cannot read a.pem"),
    ] {
        fs::write(folder.path("config.toml"), format!("[signaling]\nlisten = \"127.0.0.1:0\"\n{table}\n"))
            .unwrap();
        let output = folder.command(&["signaling", "--config", "config.toml"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let printed = text(&output.stderr) + &text(&output.stdout);
        assert!(printed.contains(said), "{printed}");
    }
}
