use super::*;

fn client(process: &str, token: &str) -> ClientConfig {
    ClientConfig { process: process.to_owned(), role: "node".to_owned(), token: token.to_owned() }
}

fn config(clients: Vec<ClientConfig>) -> CollectorConfig {
    CollectorConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), clients }
}

async fn bind(config: &CollectorConfig) -> Result<Collector, BindError> {
    Collector::bind(config, None, "collector", Path::new("/")).await
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = bind(&config(vec![])).await.unwrap();
    let taken = CollectorConfig { listen: first.local_addr(), clients: vec![] };
    let error = bind(&taken).await.unwrap_err().to_string();
    assert!(error.contains(&first.local_addr().to_string()), "{error}");
    first.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_socket_that_is_handed_down_is_used() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let collector = Collector::bind(&config(vec![]), Some(listener), "c", Path::new("/")).await.unwrap();
    assert_eq!(collector.local_addr(), address);
}

#[tokio::test]
async fn clients_need_names_and_tokens_of_their_own() {
    let (one, two) = (Token::random().to_hex(), Token::random().to_hex());
    assert!(bind(&config(vec![client("a", &one), client("b", &two)])).await.is_ok());
    for clients in [
        vec![client("a", &one), client("a", &two)],
        vec![client("a", &one), client("b", &one.to_uppercase())],
        vec![client("", &one)],
    ] {
        assert!(matches!(bind(&config(clients)).await, Err(BindError::Client(_))));
    }
    let error = bind(&config(vec![client("a", "short")])).await.unwrap_err();
    assert!(matches!(error, BindError::Token { .. }), "{error}");
}

#[test]
fn the_configuration_is_strict_and_keeps_its_secrets() {
    let text =
        "listen = \"127.0.0.1:1\"\n[[clients]]\nprocess = \"a\"\nrole = \"node\"\ntoken = \"s3cret\"\n";
    let parsed: CollectorConfig = toml::from_str(text).unwrap();
    assert_eq!(parsed.clients[0].process, "a");
    assert!(!format!("{parsed:?}").contains("s3cret"));
    assert!(toml::from_str::<CollectorConfig>("listn = 1").is_err());
    assert!(toml::from_str::<CollectorConfig>(&format!("{text}extra = 1")).is_err());
}
