//! A router that can be asked by UPnP to pass ports on: the parts of an Internet Gateway Device that a client uses. It is found by SSDP
//! and asked by SOAP, and only writes down what it is asked for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// A port that is passed on: protocol, outer port, inner host, inner port.
pub type Mapping = (String, u16, String, u16);

/// See the module's comment. Runs until its test ends.
pub struct Gateway(Arc<Mutex<Asked>>);

/// What a gateway was asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The ports that it passes on, in the order in which it was asked.
    pub mappings: Vec<Mapping>,
    /// How many it was asked for in vain.
    pub refused: usize,
}

/// How a gateway answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It passes every port on.
    Willing,
    /// It refuses all.
    Refusing,
    /// What it says of itself cannot be read.
    Babbling,
}

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
const ARGUMENTS: [&str; 8] = [
    "NewRemoteHost",
    "NewExternalPort",
    "NewProtocol",
    "NewInternalPort",
    "NewInternalClient",
    "NewEnabled",
    "NewPortMappingDescription",
    "NewLeaseDuration",
];

impl Gateway {
    /// Answers on `inner`, an address of this host; what it passes on is reached at `outer`.
    pub fn start(inner: Ipv4Addr, outer: Ipv4Addr, manner: Manner) -> Self {
        let pages = TcpListener::bind((inner, 0)).expect("a port");
        let port = pages.local_addr().expect("an address").port();
        let searches = UdpSocket::bind("0.0.0.0:1900").expect("the port of SSDP");
        searches.join_multicast_v4(&Ipv4Addr::new(239, 255, 255, 250), &inner).expect("a member");
        thread::spawn(move || {
            let mut request = [0; 1_500];
            while let Ok((length, from)) = searches.recv_from(&mut request) {
                if request.get(..length).is_some_and(|request| request.starts_with(b"M-SEARCH")) {
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nST: {SERVICE}\r\nLOCATION: http://{inner}:{port}/device.xml\r\n\r\n"
                    );
                    let _ = searches.send_to(answer.as_bytes(), from);
                }
            }
        });
        let asked = Arc::<Mutex<Asked>>::default();
        let kept = asked.clone();
        thread::spawn(move || {
            for client in pages.incoming().flatten() {
                let _ = answer(client, outer, manner, &kept);
            }
        });
        Self(asked)
    }

    /// What it was asked for so far.
    pub fn asked(&self) -> Asked {
        self.0.lock().expect("no panic").clone()
    }
}

fn answer(client: TcpStream, outer: Ipv4Addr, manner: Manner, asked: &Mutex<Asked>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let (mut first, mut length) = (String::new(), 0);
    client.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        client.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body);
    let (status, page) = match first.split(' ').nth(1).unwrap_or_default() {
        _ if manner == Manner::Babbling => ("200 OK", "<root><device>".to_owned()),
        "/device.xml" => (
            "200 OK",
            format!(
                "<root><device><serviceList><service><serviceType>{SERVICE}</serviceType>\
                 <SCPDURL>/service.xml</SCPDURL><controlURL>/control</controlURL></service></serviceList></device></root>"
            ),
        ),
        "/service.xml" => ("200 OK", service()),
        "/control" => control(&body, outer, manner, asked),
        _ => ("404 Not Found", String::new()),
    };
    write!(
        client.get_mut(),
        "HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )
}

/// What can be asked, and with which arguments.
fn service() -> String {
    let argument = |name: &&str| format!("<argument><name>{name}</name><direction>in</direction></argument>");
    let action = |name: &str, arguments: &[&str]| {
        let arguments: String = arguments.iter().map(argument).collect();
        format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>")
    };
    let actions = [
        action("GetExternalIPAddress", &[]),
        action("AddPortMapping", &ARGUMENTS),
        action("DeletePortMapping", &ARGUMENTS[..3]),
    ];
    format!("<scpd><actionList>{}</actionList></scpd>", actions.concat())
}

fn control(body: &str, outer: Ipv4Addr, manner: Manner, asked: &Mutex<Asked>) -> (&'static str, String) {
    let value = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(value, _)| value.to_owned())
    };
    let port = |name: &str| value(name).and_then(|port| port.parse::<u16>().ok()).unwrap_or_default();
    let envelope = |inner: &str| {
        format!(
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{inner}</s:Body></s:Envelope>"
        )
    };
    let done = |action: &str, more: &str| {
        (
            "200 OK",
            envelope(&format!("<u:{action}Response xmlns:u=\"{SERVICE}\">{more}</u:{action}Response>")),
        )
    };
    if body.contains("GetExternalIPAddress") {
        return done(
            "GetExternalIPAddress",
            &format!("<NewExternalIPAddress>{outer}</NewExternalIPAddress>"),
        );
    }
    let mut asked = asked.lock().expect("no panic");
    if manner == Manner::Refusing {
        asked.refused += 1;
        let fault = "<s:Fault><detail><UPnPError><errorCode>606</errorCode>\
                     <errorDescription>not authorized</errorDescription></UPnPError></detail></s:Fault>";
        return ("500 Internal Server Error", envelope(fault));
    }
    let protocol = value("NewProtocol").unwrap_or_default();
    asked.mappings.retain(|(known, outer, ..)| (known, *outer) != (&protocol, port("NewExternalPort")));
    if body.contains("DeletePortMapping") {
        return done("DeletePortMapping", "");
    }
    let client = value("NewInternalClient").unwrap_or_default();
    asked.mappings.push((protocol, port("NewExternalPort"), client, port("NewInternalPort")));
    done("AddPortMapping", "")
}
