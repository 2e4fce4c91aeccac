//! namerd's HTTP control API: what names are bound to, where they are served, and how that changes.

use serde_json::{Value, json};

use super::support::consul::{Consul, Instance};
use super::support::stored::Keeper;
use super::support::{Setup, eventually};

const JSON: &str = "Content-Type: application/json";

fn asked(keeper: &Keeper, target: &str) -> Value {
    let answer = keeper.ask("GET", target, &[], "");
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    assert_eq!(answer.field("content-type").as_deref(), Some("application/json"), "{target}");
    answer.json()
}

fn addr(endpoint: &str) -> Value {
    let (ip, port) = endpoint.rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    json!({"type": "bound", "addrs": [{"ip": ip, "port": port, "meta": {}}], "meta": {}})
}

fn leaf(id: &str, residual: &str, endpoint: &str) -> Value {
    json!({"type": "leaf", "bound": {"addr": addr(endpoint), "id": id, "path": residual}})
}

#[test]
fn a_bound_tree_has_names_addresses_and_what_is_left() {
    let keeper = Keeper::start();
    let (v1, v2) = (keeper.v1.endpoint(), keeper.v2.endpoint());
    keeper.put("web", "/srv => /#/clusters ; /svc/web => 3 * /srv/v1 & 1 * /srv/v2 ; /svc/none => $ ; /svc/no => !");
    let one = leaf("/#/clusters/v1", "/x", &v1);
    assert_eq!(asked(&keeper, "/api/1/bind/web?path=/srv/v1/x"), one);
    let two = json!({"type": "union", "union": [
        {"weight": 3.0, "tree": leaf("/#/clusters/v1", "/", &v1)}, {"weight": 1.0, "tree": leaf("/#/clusters/v2", "/", &v2)}
    ]});
    assert_eq!(asked(&keeper, "/api/1/bind/web?path=/svc/web"), two);
    for (path, kind) in [("/svc/none", "empty"), ("/svc/no", "fail"), ("/svc/nobody", "neg")] {
        assert_eq!(asked(&keeper, &format!("/api/1/bind/web?path={path}")), json!({"type": kind}));
    }
    // what is said besides is tried first, and a namespace that is not there is an empty dtab
    let extra = "/api/1/bind/absent?path=/svc/web&dtab=%2Fsvc%20%3D%3E%20%2F%23%2Fclusters%20%3B%20%2Fsvc%2Fweb%20%3D%3E%20%2Fsvc%2Fv2";
    assert_eq!(asked(&keeper, extra), leaf("/#/clusters/v2", "/", &v2));
    assert_eq!(asked(&keeper, "/api/1/bind/absent?path=/svc/web"), json!({"type": "neg"}));
}

#[test]
fn addresses_are_those_of_the_concrete_name() {
    let keeper = Keeper::start();
    let (v1, v2) = (keeper.v1.endpoint(), keeper.v2.endpoint());
    assert_eq!(asked(&keeper, "/api/1/addr/web?path=/%23/clusters/v1"), addr(&v1));
    assert_eq!(asked(&keeper, "/api/1/addr/web?path=/%25/io.l5d.port/80/%23/clusters/v1"), addr(&v1));
    assert_eq!(asked(&keeper, "/api/1/addr/web?path=/$/inet/127.0.0.1/80"), addr("127.0.0.1:80"));
    for nobody in ["/%23/clusters/v9", "/svc/web", "/"] {
        assert_eq!(asked(&keeper, &format!("/api/1/addr/web?path={nobody}")), json!({"type": "neg"}), "{nobody}");
    }
    keeper.put(
        "web",
        "/svc/web => 1 * /#/clusters/v1 & 1 * /#/clusters/v2 ; /svc/one => 0 * /#/clusters/v1 & 1 * /#/clusters/v2",
    );
    assert_eq!(asked(&keeper, "/api/1/resolve/web?path=/svc/one"), addr(&v2));
    assert_eq!(asked(&keeper, "/api/1/resolve/web?path=/svc/nobody"), json!({"type": "neg"}));
    let mut seen = [false; 2];
    for _ in 0..64 {
        let found = asked(&keeper, "/api/1/resolve/web?path=/svc/web");
        seen[usize::from(found == addr(&v2))] = true;
        assert!(found == addr(&v1) || found == addr(&v2), "{found}");
    }
    assert_eq!(seen, [true; 2], "either branch is drawn");
    assert_eq!(asked(&keeper, "/api/1/bound-names"), json!(["/#/clusters/v1", "/#/clusters/v2"]));
}

#[test]
fn an_explanation_shows_every_way() {
    let keeper = Keeper::start();
    keeper.put("web", "/svc => /#/clusters ; /svc/v1 => ~ | /svc/v2");
    let v2 = addr(&keeper.v2.endpoint());
    let shown = asked(&keeper, "/api/1/delegate/web?path=/svc/v2");
    let expected = json!({"type": "delegate", "path": "/svc/v2", "delegate": {
        "type": "leaf", "path": "/#/clusters/v2", "dentry": {"prefix": "/svc", "dst": "/#/clusters"},
        "bound": {"addr": v2, "id": "/#/clusters/v2", "path": "/"}}});
    assert_eq!(shown, expected);
    let without = asked(&keeper, "/api/1/delegate?path=/svc/v2&dtab=/svc%3D%3E/%23/clusters");
    assert_eq!(without, expected);
    let body = json!({"namespace": "web", "dtab": "", "path": "/svc/v2"}).to_string();
    assert_eq!(keeper.ask("POST", "/api/1/delegate", &[JSON], &body).json(), expected);
    let body = json!({"dtab": "", "path": "/svc/v2"}).to_string();
    assert_eq!(keeper.ask("POST", "/api/1/delegate", &[JSON], &body).json(), json!({"type": "neg", "path": "/svc/v2"}));
    assert_eq!(asked(&keeper, "/api/1/delegate/web?path=/svc/v1")["type"], "alt");
}

#[test]
fn watches_follow_dtabs_and_the_file() {
    let keeper = Keeper::start();
    let (v1, v2) = (keeper.v1.endpoint(), keeper.v2.endpoint());
    let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let mut bind = keeper.watch("/api/1/bind/web?path=/svc/web&watch=true");
    let mut resolve = keeper.watch("/api/1/resolve/web?path=/svc/web&watch=true");
    let mut addresses = keeper.watch("/api/1/addr/web?path=/%23/clusters/v2&watch=true");
    let mut names = keeper.watch("/api/1/bound-names?watch=true");
    assert_eq!(parsed(bind.next()), json!({"type": "neg"}));
    assert_eq!(parsed(resolve.next()), json!({"type": "neg"}));
    assert_eq!(parsed(addresses.next()), addr(&v2));
    assert_eq!(parsed(names.next()), json!(["/#/clusters/v1", "/#/clusters/v2"]));
    keeper.put("web", "/svc/web => /#/clusters/v1");
    assert_eq!(parsed(bind.next()), leaf("/#/clusters/v1", "/", &v1));
    assert_eq!(parsed(resolve.next()), addr(&v1));
    keeper.put("web", "/svc/web => /#/clusters/v2");
    assert_eq!(parsed(bind.next()), leaf("/#/clusters/v2", "/", &v2));
    assert_eq!(parsed(resolve.next()), addr(&v2));
    // the file gives v2 the address of v1: addresses move, the tree does not
    let text = std::fs::read_to_string(keeper.serin.file()).unwrap();
    keeper.serin.rewrite(&text.replace(&v2, &v1));
    assert_eq!(parsed(addresses.next()), addr(&v1));
    assert_eq!(parsed(resolve.next()), addr(&v1));
    // and takes it away
    keeper.serin.rewrite(&text.lines().filter(|line| !line.starts_with("  v2:")).collect::<Vec<_>>().join("\n"));
    assert_eq!(parsed(bind.next()), json!({"type": "neg"}));
    assert_eq!(parsed(names.next()), json!(["/#/clusters/v1"]));
    assert_eq!(parsed(addresses.next()), json!({"type": "neg"}));
}

#[test]
fn a_service_of_consul_is_there_as_long_as_consul_says_so() {
    let consul = Consul::start();
    let namers = format!("namers: [{{kind: io.l5d.consul, {}}}]\n", consul.keys());
    let keeper = Keeper::start_with("{kind: memory}", &namers);
    let (v1, v2) = (keeper.v1.endpoint(), keeper.v2.endpoint());
    let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    keeper.put("web", "/svc => /#/io.l5d.consul/dc1 | /#/clusters/v1");
    let mut bind = keeper.watch("/api/1/bind/web?path=/svc/web&watch=1");
    let other = leaf("/#/clusters/v1", "/web", &v1);
    assert_eq!(parsed(bind.next()), other, "nobody has registered it");
    consul.set("web", &[Instance::at(&v2)]);
    assert_eq!(parsed(bind.next())["bound"]["id"], "/#/io.l5d.consul/dc1/web");
    let mut addresses = keeper.watch("/api/1/addr/web?path=/%23/io.l5d.consul/dc1/web&watch=1");
    assert_eq!(parsed(addresses.next())["addrs"][0]["port"], addr(&v2)["addrs"][0]["port"]);
    assert_eq!(asked(&keeper, "/api/1/resolve/web?path=/svc/web")["type"], "bound");
    consul.set("web", &[]);
    assert_eq!(parsed(bind.next()), other);
    consul.check_no_faults();
}

/// A Serin behind the API draws as the one does that reads the file itself.
#[test]
fn endpoints_keep_their_weights_and_unions_without_shares_are_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disco = folder.path();
    let namers = format!("namers: [{{kind: io.l5d.fs, rootDir: {}}}]\n", disco.display());
    let keeper = Keeper::start_with("{kind: file, dir: state}", &namers);
    let (v1, v2) = (keeper.v1.endpoint().replace(':', " "), keeper.v2.endpoint().replace(':', " "));
    std::fs::write(disco.join("web"), format!("{v1} * 0\n{v2}\n")).unwrap();
    keeper.put(
        "web",
        "/fs => /#/io.l5d.fs ; /svc/web => /fs/web ; /svc/zero => 0 * /fs/web & 0 * /fs/web ; \
         /svc/alt => (0 * /fs/web & 0 * /fs/web) | /#/clusters/v1",
    );
    let weight = || asked(&keeper, "/api/1/addr/web?path=/%23/io.l5d.fs/web")["addrs"][0]["meta"].clone();
    eventually("the file is read", || weight() == json!({"endpoint_addr_weight": 0.0}));
    assert_eq!(asked(&keeper, "/api/1/bind/web?path=/svc/zero"), json!({"type": "neg"}));
    assert_eq!(asked(&keeper, "/api/1/bind/web?path=/svc/alt")["bound"]["id"], "/#/clusters/v1");
    let at = format!("/$/inet/127.0.0.1/{}", keeper.namerd().port());
    let interpreter = format!("interpreter: {{kind: io.l5d.namerd.http, dst: {at}, namespace: web}}");
    let serin = Setup::new().dtab("").router(&interpreter).start();
    for (host, origin) in [("web", "v2"), ("alt", "v1")] {
        for served in [&keeper.serin, &serin] {
            let answer = served.get(host, "/");
            assert_eq!((answer.status, answer.field("x-origin").as_deref()), (200, Some(origin)), "{host}");
        }
    }
    assert_eq!((serin.get("zero", "/").status, keeper.serin.get("zero", "/").status), (404, 404));
    for _ in 0..40 {
        assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("v2"));
    }
}
