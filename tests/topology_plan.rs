//! What a topology comes down to: start order, defaults and overrides, and what differs between two plans.

use std::time::Duration;

use hippius::topology;
use hippius::topology::diff::PlanDiff;
use hippius::topology::plan::{BootnodeRef, Plan, PlannedProcess, RestartWhen, Settings};
use proptest::prelude::*;

fn plan(text: &str) -> Plan {
    let env = |name: &str| (name == "HOST").then(|| "127.0.0.1".to_owned());
    topology::parse("x.toml", text, &env).unwrap_or_else(|mistakes| panic!("{mistakes}")).plan()
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.processes.iter().map(|process| process.name.as_str()).collect()
}

fn process<'a>(plan: &'a Plan, name: &str) -> &'a PlannedProcess {
    plan.processes.iter().find(|process| process.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn bootnodes(process: &PlannedProcess) -> Vec<String> {
    let (Settings::Bootnode(node) | Settings::Node(node)) = &process.settings else { panic!("{process:?}") };
    node.bootnodes
        .iter()
        .map(|bootnode| match bootnode {
            BootnodeRef::Process(name) => name.clone(),
            BootnodeRef::Address(address) => address.to_string(),
        })
        .collect()
}

#[test]
fn starts_in_order_of_dependence_whatever_the_order_of_the_file() {
    let plan = plan(
        "[web]\n[[nodes]]\n[signaling]\n\
         [[bootnodes]]\nname = \"c\"\nbootnodes = [\"b\"]\n\
         [[bootnodes]]\nname = \"b\"\ncount = 2\nbootnodes = [\"a\"]\n\
         [[bootnodes]]\nname = \"a\"\n",
    );
    assert_eq!(names(&plan), ["a", "b-0", "b-1", "c", "signaling", "node", "web"]);
    assert_eq!(process(&plan, "c").depends_on, ["b-0", "b-1"]);
    assert_eq!(process(&plan, "node").depends_on, ["c", "b-0", "b-1", "a"]);
    assert_eq!(process(&plan, "web").depends_on, ["signaling"]);
    assert_eq!(process(&plan, "b-1").group, "b");
}

#[test]
fn bootnodes_by_name_by_group_by_address_and_none() {
    const ADDRESS: &str = "/ip4/10.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let plan = plan(&format!(
        "[[bootnodes]]\nname = \"a\"\n[[bootnodes]]\nname = \"b\"\ncount = 2\n\
         [[nodes]]\nname = \"all\"\n\
         [[nodes]]\nname = \"some\"\nbootnodes = [\"b\", \"b-0\", \"{ADDRESS}\"]\n\
         [[nodes]]\nname = \"none\"\nbootnodes = []\n"
    ));
    assert_eq!(bootnodes(process(&plan, "all")), ["a", "b-0", "b-1"]);
    assert_eq!(bootnodes(process(&plan, "some")), ["b-0", "b-1", ADDRESS]);
    assert_eq!(process(&plan, "some").depends_on, ["b-0", "b-1"]);
    assert!(bootnodes(process(&plan, "none")).is_empty());
    assert!(bootnodes(process(&plan, "a")).is_empty());
}

#[test]
fn a_process_overrides_only_what_it_says() {
    let plan = plan(
        "[restart]\nlimit = 5\nbackoff = \"1s\"\n[timing]\nwatchdog = \"0s\"\n\
         [[nodes]]\nrestart = { policy = \"never\", limit = 7 }\ntiming = { stop_grace = \"9s\" }\n[web]\n",
    );
    let node = process(&plan, "node");
    assert_eq!(node.restart.when, RestartWhen::Never);
    assert_eq!((node.restart.limit, node.restart.backoff), (7, Duration::from_secs(1)));
    assert_eq!((node.timing.stop_grace, node.timing.watchdog), (Duration::from_secs(9), Duration::ZERO));
    let web = process(&plan, "web");
    assert_eq!((web.restart.when, web.restart.limit), (RestartWhen::Always, 5));
    assert_eq!(web.timing.stop_grace, Duration::from_secs(5));
}

#[test]
fn services_listen_on_bind_and_nodes_where_they_say() {
    let plan = plan(
        "bind = \"::1\"\n[ports]\nweb = 1\nmetrics = 0\n[[web]]\n[[web]]\nname = \"w\"\nport = 2\n\
         [[nodes]]\n[[nodes]]\nname = \"n\"\nlisten = [\"/ip4/${HOST}/tcp/7\"]\n",
    );
    assert_eq!(plan.metrics.to_string(), "[::1]:0");
    let socket = |name| process(&plan, name).listen_socket.map(|socket| socket.to_string());
    assert_eq!((socket("web").as_deref(), socket("w").as_deref()), (Some("[::1]:1"), Some("[::1]:2")));
    assert_eq!(socket("node"), None);
    let listen = |name| match &process(&plan, name).settings {
        Settings::Node(node) => node.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (listen("node"), listen("n")),
        (vec!["/ip6/::1/tcp/0".into()], vec!["/ip4/127.0.0.1/tcp/7".into()])
    );
}

#[test]
fn a_web_server_uses_the_first_signaling_server_or_the_one_it_names() {
    let text = "[[signaling]]\nname = \"a\"\n[[signaling]]\nname = \"b\"\nport = 1\n[[web]]\n[[web]]\nname = \"w\"\nport = 2\nsignaling = \"b\"\n";
    let with_signaling = plan(text);
    assert_eq!(process(&with_signaling, "web").depends_on, ["a"]);
    assert_eq!(process(&with_signaling, "w").depends_on, ["b"]);
    assert!(process(&plan("[web]"), "web").depends_on.is_empty());
}

#[test]
fn the_difference_of_two_plans() {
    let running = plan("[[bootnodes]]\n[[nodes]]\ncount = 3\n[web]\n[signaling]\n");
    assert!(PlanDiff::between(&running, &running).is_empty());
    assert_eq!(PlanDiff::between(&running, &running).to_string(), "no changes (6 processes)");

    let wanted = plan(
        "[ports]\nmetrics = 1\n[[bootnodes]]\n[[nodes]]\ncount = 2\n[[nodes]]\nname = \"x\"\n\
         [web]\nport = 5\nrestart = { limit = 1 }\n[signaling]\n",
    );
    let diff = PlanDiff::between(&running, &wanted);
    assert_eq!(
        diff.to_string(),
        "~ the network: ports.metrics\n- node-2 (node)\n~ web (web): restart, port\n+ x (node)\n4 unchanged"
    );
    assert_eq!(diff.unchanged, ["bootnode", "signaling", "node-0", "node-1"]);
    assert_eq!(serde_json::to_value(&diff).expect("JSON")["removed"][0]["role"], "node");
}

#[test]
fn a_process_that_becomes_another_role_is_changed_and_the_last_started_is_removed_first() {
    let diff = PlanDiff::between(
        &plan("[[nodes]]\nname = \"a\"\n[[nodes]]\nname = \"b\"\n[[nodes]]\nname = \"c\"\n"),
        &plan("[web]\nname = \"a\"\n"),
    );
    let removed: Vec<_> = diff.removed.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(removed, ["c", "b"]);
    assert!(diff.changed.iter().any(|change| change.name == "a" && change.keys.contains(&"role")), "{diff}");
}

prop_compose! {
    fn topology_text()(
        bootnodes in 0_u32..4, nodes in 1_u32..6, topic in "[a-z]{1,3}", limit in 1_u32..5, web: bool, signaling: bool,
    ) -> String {
        let mut text = format!("[restart]\nlimit = {limit}\n[[nodes]]\ncount = {nodes}\ntopics = [\"{topic}\"]\n");
        if bootnodes > 0 {
            text.push_str(&format!("[[bootnodes]]\ncount = {bootnodes}\n"));
        }
        if web {
            text.push_str("[web]\n");
        }
        if signaling {
            text.push_str("[signaling]\n");
        }
        text
    }
}

proptest! {
    /// Every process of both plans is in exactly one list, and only equal ones are called unchanged.
    #[test]
    fn a_difference_accounts_for_every_process(old in topology_text(), new in topology_text()) {
        let (old, new) = (plan(&old), plan(&new));
        let diff = PlanDiff::between(&old, &new);
        prop_assert_eq!(diff.is_empty(), old == new);
        prop_assert_eq!(diff.removed.len() + diff.changed.len() + diff.unchanged.len(), old.processes.len());
        prop_assert_eq!(diff.added.len() + diff.changed.len() + diff.unchanged.len(), new.processes.len());
        for name in &diff.unchanged {
            prop_assert_eq!(process(&old, name), process(&new, name));
        }
        for change in &diff.changed {
            prop_assert!(!change.keys.is_empty(), "{}", change.name);
        }
    }

    /// What a process waits for always stands before it, and the plan survives JSON.
    #[test]
    fn what_is_waited_for_comes_first(text in topology_text()) {
        let plan = plan(&text);
        for (index, process) in plan.processes.iter().enumerate() {
            for name in &process.depends_on {
                prop_assert!(plan.processes[..index].iter().any(|earlier| earlier.name == *name));
            }
        }
        let json = serde_json::to_string(&plan).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Plan>(&json).expect("a plan"), plan);
    }
}
