//! SRV records whose namer has name servers of its own: nobody else is asked, neither for records nor for addresses.

use std::net::Ipv4Addr;

use super::support::dns::{Dns, Record, Says};
use super::support::{Serin, Setup, Upstream, eventually};

const WEB: &str = "_web._tcp.test";

fn service(port: u16, target: &'static str) -> Record {
    Record(WEB, Says::Service(1, 1, port, target))
}

fn address(name: &'static str) -> Record {
    Record(name, Says::Address(Ipv4Addr::LOCALHOST))
}

/// Serin asks `namer` for SRV records; for everything else the machine would ask `machine`.
fn start(namer: &Dns, machine: &Dns) -> Serin {
    let text = Setup::new()
        .dtab(&format!("/svc/web => /#/io.l5d.dnssrv/{WEB}"))
        .top(&format!(
            "namers: [{{kind: io.l5d.dnssrv, refreshIntervalSeconds: 1, dnsHosts: [\"{}\"]}}]",
            namer.address
        ))
        .text();
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("serin.yaml"), text).unwrap();
    let machine = machine.address.to_string();
    let mut serin = Serin::spawn(dir, &["run", "serin.yaml"], &[("SERIN_DNS", &machine)]);
    serin.wait_ready();
    serin
}

fn served(serin: &Serin) -> Option<String> {
    serin.get("web", "/").field("x-origin")
}

#[test]
fn targets_have_the_addresses_that_come_beside_their_records() {
    let origin = Upstream::named("a");
    let namer = Dns::start(&[service(origin.address.port(), "a.test")], &[address("a.test"), address("other.test")]);
    let machine = Dns::start(&[], &[]);
    let serin = start(&namer, &machine);
    assert_eq!(served(&serin).as_deref(), Some("a"));
    let names = serin.admin("/bound-names.json").json();
    assert_eq!(names, serde_json::json!([format!("/#/io.l5d.dnssrv/{WEB}")]));
    assert_eq!(machine.asked(), [""; 0]);
    assert!(namer.asked().iter().all(|asked| asked == &format!("SRV {WEB}")), "{:?}", namer.asked());
}

#[test]
fn targets_without_addresses_beside_them_are_asked_of_the_same_server() {
    let (a, b) = (Upstream::named("a"), Upstream::named("b"));
    let namer = Dns::start(&[service(a.address.port(), "a.test"), address("a.test")], &[]);
    let machine = Dns::start(&[address("a.test"), address("b.test")], &[]);
    let serin = start(&namer, &machine);
    assert_eq!(served(&serin).as_deref(), Some("a"));

    namer.set(&[service(b.address.port(), "b.test"), address("b.test")]);
    eventually("the other target serves", || served(&serin).as_deref() == Some("b"));

    // its address goes, the last good one stays
    let before = namer.asked().len();
    namer.set(&[service(b.address.port(), "b.test")]);
    eventually("it is asked again", || namer.asked()[before..].iter().any(|asked| asked == "A b.test"));
    assert_eq!(served(&serin).as_deref(), Some("b"));

    namer.fall_silent();
    let before = namer.asked().len();
    eventually("it is asked in vain", || namer.asked().len() > before + 1);
    assert_eq!(served(&serin).as_deref(), Some("b"), "an outage changes nothing");
    assert_eq!(machine.asked(), [""; 0], "the machine's servers hear of nothing");
}

#[test]
fn a_target_that_only_the_machine_knows_has_no_address() {
    let origin = Upstream::named("a");
    let namer = Dns::start(&[service(origin.address.port(), "a.test")], &[]);
    let machine = Dns::start(&[address("a.test")], &[]);
    let serin = start(&namer, &machine);
    assert_eq!((serin.get("web", "/").status, origin.count()), (503, 0));
    assert_eq!(machine.asked(), [""; 0]);
}
