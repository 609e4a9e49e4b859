//! Builds a TURN server's entry: defaults filled in, ports claimed, and what its engine cannot do refused.

use std::net::SocketAddr;
use std::ops::Range;

use super::defaults;
use super::entries::Build;
use super::mistake::Mistake;
use super::model::{Entry, Part};
use super::names::Declared;
use super::plan::{TurnEngine, TurnPorts, TurnSettings};
use super::ports::{Claim, Kind};
use super::raw::{RawRelayPorts, RawTurn};
use super::reader::{At, Key};
use super::turn_values::ENGINES;

impl Build<'_> {
    /// A TURN server. `shares_port`: others, too, leave their port to `[ports]`.
    pub(super) fn turn(&mut self, at: &At<RawTurn>, declared: &Declared, shares_port: bool) -> Entry {
        let raw = &at.value;
        let engine = raw.engine.value().map_or(TurnEngine::Embedded, |engine| engine.0);
        self.foreign_keys(raw, engine);
        let listens = engine != TurnEngine::External && !raw.engine.is_bad();
        let port = match (&raw.port, self.shared_turn_port()) {
            (Key::Bad, _) | (Key::Absent, Some(Key::Bad)) => (0, at.span.clone()),
            (Key::Given(own), _) => (own.value.number(), own.span.clone()),
            (Key::Absent, Some(Key::Given(shared))) => {
                let span = if shares_port { &at.span } else { &shared.span };
                (shared.value.number(), span.clone())
            }
            (Key::Absent, None | Some(Key::Absent)) => (defaults::TURN_PORT, at.span.clone()),
        };
        let tls = listens.then(|| self.certificate(&raw.tls)).flatten();
        let tls_port =
            match (&tls, &raw.tls_port) {
                (None, Key::Given(given)) if listens && matches!(raw.tls, Key::Absent) => {
                    let mistake =
                        Mistake::new(given.span.clone(), "`tls_port` without a certificate", "needs `tls`");
                    self.mistakes.push(mistake.help(
                        "name the certificate's files: tls = { certificate = \"FILE\", key = \"FILE\" }",
                    ));
                    None
                }
                (None, _) => None,
                (Some(_), Key::Given(given)) => Some((given.value.number(), given.span.clone())),
                (Some(_), _) => Some((defaults::TURN_TLS_PORT, at.span.clone())),
            };
        if listens {
            self.claim_turn(declared, &port, Kind::Service);
            self.claim_turn(declared, &port, Kind::ServiceUdp);
            if let Some(port) = &tls_port {
                self.claim_turn(declared, port, Kind::Service);
            }
        }
        let bind = self.bind;
        let settings = TurnSettings {
            engine,
            listen: SocketAddr::new(bind, port.0),
            tls_listen: tls_port.map(|(port, _)| SocketAddr::new(bind, port)),
            tls,
            realm: raw.realm.value().map_or(defaults::TURN_REALM, |realm| &realm.0).to_owned(),
            secret_file: raw.secret_file.value().map(|path| path.0.clone()),
            host: raw.host.value().map(|host| host.0.clone()),
            external_address: raw.external_address.value().map(|address| address.0),
            relay_ports: self.relay_ports(&raw.relay_ports),
            allow: raw.allow.value().into_iter().flat_map(|list| &list.items).map(|at| at.value.0).collect(),
            deny: raw.deny.value().into_iter().flat_map(|list| &list.items).map(|at| at.value.0).collect(),
            max_allocations: raw.max_allocations.value().map_or(defaults::TURN_MAX_ALLOCATIONS, |max| max.0),
            max_per_user: raw.max_per_user.value().map_or(defaults::TURN_MAX_PER_USER, |max| max.0),
            max_per_address: raw.max_per_address.value().map_or(defaults::TURN_MAX_PER_ADDRESS, |max| max.0),
            stranger_answers_per_second: raw
                .stranger_answers_per_second
                .value()
                .map_or(defaults::TURN_STRANGER_ANSWERS, |answers| answers.0),
            bytes_per_second: raw.bytes_per_second.value().map(|size| size.0),
            credential_lifetime: raw
                .credential_lifetime
                .value()
                .map_or(defaults::TURN_CREDENTIAL_LIFETIME, |period| period.0),
            config_file: raw.config_file.value().map(|path| path.0.clone()),
        };
        self.entry(declared, &raw.restart, &raw.timing, Part::Turn(settings))
    }

    /// Records the keys that say something about what `engine` does not do.
    fn foreign_keys(&mut self, raw: &RawTurn, engine: TurnEngine) {
        /// Who knows a key, beside `embedded`, which knows all.
        #[derive(PartialEq)]
        enum Known {
            ToServers,
            ToEmbeddedAlone,
        }
        fn place<T>(key: &Key<T>) -> Option<Range<usize>> {
            key.given().map(|at| at.span.clone())
        }
        use Known::{ToEmbeddedAlone, ToServers};
        let keys = [
            ("port", place(&raw.port), ToServers),
            ("tls", place(&raw.tls), ToServers),
            ("tls_port", place(&raw.tls_port), ToServers),
            ("realm", place(&raw.realm), ToServers),
            ("secret_file", place(&raw.secret_file), ToServers),
            ("host", place(&raw.host), ToServers),
            ("external_address", place(&raw.external_address), ToServers),
            ("relay_ports", place(&raw.relay_ports), ToServers),
            ("allow", place(&raw.allow), ToServers),
            ("deny", place(&raw.deny), ToServers),
            ("max_allocations", place(&raw.max_allocations), ToServers),
            ("max_per_user", place(&raw.max_per_user), ToServers),
            ("max_per_address", place(&raw.max_per_address), ToEmbeddedAlone),
            ("stranger_answers_per_second", place(&raw.stranger_answers_per_second), ToEmbeddedAlone),
            ("bytes_per_second", place(&raw.bytes_per_second), ToServers),
        ];
        let word = ENGINES.iter().find(|(_, known)| *known == engine).map_or("", |(word, _)| word);
        for (key, span, known) in keys {
            let foreign = match engine {
                TurnEngine::Embedded => false,
                TurnEngine::Coturn => known == ToEmbeddedAlone,
                TurnEngine::External => true,
            };
            let Some(span) = span.filter(|_| foreign) else { continue };
            let help = match engine {
                TurnEngine::External => {
                    "remove it: an external server is described in config/turn_config.json, or in the file that `config_file` names"
                }
                _ => {
                    "remove it, or use engine = \"embedded\": coturn has limits for users and for all, not for addresses"
                }
            };
            let message = format!("`{key}` does not belong to engine = \"{word}\"");
            self.mistakes.push(Mistake::new(span, message, "not of this engine").help(help));
        }
    }

    fn relay_ports(&mut self, own: &Key<RawRelayPorts>) -> TurnPorts {
        let base = defaults::TURN_RELAY_PORTS;
        let Some(At { value, span }) = own.given() else { return base };
        let ports = TurnPorts {
            min: value.min.value().map_or(base.min, |port| port.number_u16()),
            max: value.max.value().map_or(base.max, |port| port.number_u16()),
        };
        if ports.min > ports.max && !value.min.is_bad() && !value.max.is_bad() {
            let message = format!("`min` is {}, more than `max`, which is {}", ports.min, ports.max);
            self.mistakes.push(
                Mistake::new(span.clone(), message, "no port is left")
                    .help("`min` must be at most `max`; a key not given here has its default"),
            );
        }
        ports
    }

    fn claim_turn(&mut self, declared: &Declared, (port, span): &(u16, Range<usize>), kind: Kind) {
        self.claims.push(Claim {
            socket: SocketAddr::new(self.bind, *port),
            owner: super::entries::owner(declared),
            span: Some(span.clone()),
            kind,
        });
    }
}
