//! The short form, `hippius --mode …`: a topology out of a few switches instead of a file.
//!
//! It writes the TOML text and reads it like any file, so there is one validation.

use super::address::check_bootnode;
use super::load::parse;
use super::mistake::Mistakes;
use super::model::Topology;

/// What the short form switches on. `None` leaves a part out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShortForm {
    /// The network's name.
    pub name: String,
    /// A bootnode on this port of 127.0.0.1.
    pub bootnode: Option<u16>,
    /// A node.
    pub node: Option<ShortNode>,
    /// The signaling server on this port.
    pub signaling: Option<u16>,
    /// The web server on this port.
    pub web: Option<u16>,
    /// The port of `/metrics` and `/stats`; 0 is any free one.
    pub metrics: u16,
}

/// The node of a [`ShortForm`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShortNode {
    /// Its name, which is also that of the folder of its identity: two nodes of one folder need two names.
    pub name: String,
    /// A bootnode elsewhere, a multiaddr that ends in `/p2p/<peer id>`. `None`: that of this topology, if any.
    pub bootnode: Option<String>,
}

impl ShortNode {
    /// Whether `address` can be that of a bootnode elsewhere.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check_bootnode(address: &str) -> Result<(), String> {
        check_bootnode(address)
    }
}

impl ShortForm {
    /// The same as a topology file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = format!("name = {}\n\n[ports]\nmetrics = {}\n", quoted(&self.name), self.metrics);
        for (key, port) in [("signaling", self.signaling), ("web", self.web)] {
            if let Some(port) = port {
                text.push_str(&format!("{key} = {port}\n"));
            }
        }
        if let Some(port) = self.bootnode {
            text.push_str(&format!("\n[[bootnodes]]\nlisten = [\"/ip4/127.0.0.1/tcp/{port}\"]\n"));
        }
        if let Some(node) = &self.node {
            text.push_str(&format!("\n[[nodes]]\nname = {}\n", quoted(&node.name)));
            if let Some(bootnode) = &node.bootnode {
                text.push_str(&format!("bootnodes = [{}]\n", quoted(bootnode)));
            }
        }
        for (table, port) in [("signaling", self.signaling), ("web", self.web)] {
            if port.is_some() {
                text.push_str(&format!("\n[{table}]\n"));
            }
        }
        text
    }
}

impl Topology {
    /// The topology of a short form.
    ///
    /// # Errors
    /// What is wrong with it, e.g. a bootnode's address, shown in the text of [`ShortForm::to_toml`].
    pub fn from_short_form(form: &ShortForm) -> Result<Self, Mistakes> {
        parse("the command line", &form.to_toml(), &|_| None)
    }
}

/// `text` as a TOML string that means just itself.
fn quoted(text: &str) -> String {
    toml::Value::String(text.replace('$', "$$")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::plan::{BootnodeRef, Role, Settings};

    const ADDRESS: &str = "/ip4/10.0.0.1/tcp/4002/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn all_is_web_signaling_and_a_bootnode() {
        let form = ShortForm {
            name: "all".to_owned(),
            bootnode: Some(4002),
            signaling: Some(8001),
            web: Some(3000),
            metrics: 9091,
            ..ShortForm::default()
        };
        let plan = Topology::from_short_form(&form).expect("a topology").plan();
        let parts: Vec<_> = plan.processes.iter().map(|p| (p.name.as_str(), p.role())).collect();
        assert_eq!(parts, [("bootnode", Role::Bootnode), ("signaling", Role::Signaling), ("web", Role::Web)]);
        assert_eq!(plan.metrics.port(), 9091);
        assert_eq!(plan.processes[2].listen_socket.map(|socket| socket.port()), Some(3000));
    }

    #[test]
    fn a_node_takes_the_address_of_a_bootnode_elsewhere() {
        let node = ShortNode { name: "node-2".to_owned(), bootnode: Some(ADDRESS.to_owned()) };
        let form = ShortForm { name: "node".to_owned(), node: Some(node), ..ShortForm::default() };
        let plan = Topology::from_short_form(&form).expect("a topology").plan();
        let [process] = plan.processes.as_slice() else { panic!("one process: {plan:?}") };
        let Settings::Node(settings) = &process.settings else { panic!("a node: {process:?}") };
        assert_eq!(settings.bootnodes, [BootnodeRef::Address(ADDRESS.parse().expect("an address"))]);
        assert_eq!(process.name, "node-2");
    }

    #[test]
    fn what_is_typed_is_never_read_as_toml_or_as_a_variable() {
        for bad in ["\"]\n[turn]\n#", "/ip4/${HOME}/tcp/1", "$$", "nonsense", ""] {
            let node = ShortNode { name: "node".to_owned(), bootnode: Some(bad.to_owned()) };
            let form = ShortForm { name: "node".to_owned(), node: Some(node), ..ShortForm::default() };
            let mistakes = Topology::from_short_form(&form).expect_err("a mistake");
            assert_eq!(mistakes.len(), 1, "{mistakes}");
            assert!(!mistakes.to_string().contains("not set"), "{mistakes}");
        }
    }
}
