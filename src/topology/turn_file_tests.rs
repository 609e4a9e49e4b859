use super::*;

fn mistakes(text: &str) -> String {
    TurnFile::parse("turn_config.json", text).expect_err(text).to_string()
}

#[test]
fn the_shipped_file_is_good_and_as_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DEFAULT_PATH);
    let file = TurnFile::load_external(Some(&path)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(file.monitoring, Monitoring::default());
}

#[test]
fn what_is_left_out_has_its_default() {
    assert_eq!(TurnFile::parse("x", "{}").unwrap(), TurnFile::default());
    let file = TurnFile::parse("x", r#"{"monitoring":{"interval_ms":250}}"#).unwrap();
    assert_eq!(file.monitoring.interval, Duration::from_millis(250));
    assert!(file.monitoring.enabled);
    let file = TurnFile::parse("x", r#"{"turn":{"urls":["turn:a.example"],"secret":"north"}}"#).unwrap();
    let turn = file.turn.unwrap();
    assert_eq!(turn.access, Access::Secret("north".to_owned()));
    assert!(!format!("{turn:?}").contains("north"));
}

#[test]
fn every_mistake_comes_with_its_place() {
    let text = r#"{
  "stun": { "urls": ["turn:a.example", 7] },
  "turn": { "urls": ["turn:a.example:0", "http://a"], "secret": "" },
  "monitoring": { "interval_ms": 0, "enabled": "yes", "file": "x" }
}"#;
    let said = mistakes(text);
    for line in [
        "turn_config.json:2:22: \"turn:a.example\" does not begin with stun: or stuns:",
        "turn_config.json:2:40: `stun.urls` must be a list of URLs, not a number",
        "turn_config.json:3:22: \"turn:a.example:0\" is no URL of a server: HOST or HOST:PORT",
        "turn_config.json:3:42: \"http://a\" is no URL of a server",
        "turn_config.json:3:65: `turn.secret` is empty",
        "turn_config.json:4:34: `monitoring.interval_ms` is 0, must be from 100 to 3600000",
        "turn_config.json:4:48: `monitoring.enabled` must be true or false, not a string",
        "turn_config.json:4:55: unknown key `file`",
        "8 mistakes in turn_config.json",
    ] {
        assert!(said.contains(line), "{line}\n in\n{said}");
    }
}

#[test]
fn credentials_are_whole_and_of_one_kind() {
    for (rest, said) in [
        (r#""username":"a""#, "lacks `credential`"),
        (r#""credential":"a""#, "lacks `username`"),
        (r#""username":"a","credential":"b","secret":"c""#, "a secret and a username"),
        (r#""username":"a","secret":"c""#, "a secret and a username"),
        (r#""secret":7"#, "must be a string"),
        (r#""secret":"a","secret":"b""#, "given twice"),
        ("", "how its servers know their users"),
    ] {
        let comma = if rest.is_empty() { "" } else { "," };
        let said_here = mistakes(&format!(r#"{{"turn":{{"urls":["turn:a.example"]{comma}{rest}}}}}"#));
        assert!(said_here.contains(said), "{rest}: {said_here}");
    }
}

#[test]
fn bounds_hold_at_the_edge_and_just_past_it() {
    let monitoring = |interval: &str| format!(r#"{{"monitoring":{{"interval_ms":{interval}}}}}"#);
    for good in ["100", "3600000"] {
        TurnFile::parse("x", &monitoring(good)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    }
    for bad in ["99", "3600001", "-1", "1.5", "1e3", "\"5000\"", "null", "99999999999999999999999"] {
        assert!(mistakes(&monitoring(bad)).contains("interval_ms"), "{bad}");
    }
    let urls = |count: usize| {
        let urls = vec!["\"stun:a.example\""; count].join(",");
        format!(r#"{{"stun":{{"urls":[{urls}]}}}}"#)
    };
    assert_eq!(TurnFile::parse("x", &urls(16)).unwrap().stun.len(), 16);
    assert!(mistakes(&urls(17)).contains("at most 16"));
}

#[test]
fn what_is_no_json_and_what_is_not_there_is_told() {
    assert!(mistakes("{\"stun\": }").contains("broken JSON"));
    assert!(mistakes("[]").contains("must be an object"));
    let missing = Path::new("/no/such/turn_config.json");
    let said = TurnFile::load(Some(missing)).expect_err("a mistake").to_string();
    assert!(said.contains("cannot read /no/such/turn_config.json"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turn.json");
    std::fs::write(&path, "{}").unwrap();
    let said = TurnFile::load_external(Some(&path)).expect_err("a mistake").to_string();
    assert!(said.contains("names no TURN server"), "{said}");
    std::fs::write(&path, " ".repeat(70_000)).unwrap();
    assert!(TurnFile::load(Some(&path)).expect_err("a mistake").to_string().contains("larger than"));
}
