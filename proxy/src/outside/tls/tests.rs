use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::Url;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};

use super::super::http::{Call, Clients, Failure, Reply, Way};
use super::super::tests::peer::{answer, read_request};
use super::{aws_lc_rs, roots};

/// A server with a certificate for this name, and that certificate.
fn server(name: &str) -> (u16, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, mut tls) = (connection.unwrap(), ServerConnection::new(Arc::clone(&config)).unwrap());
            let mut stream = Stream::new(&mut tls, &mut connection);
            if read_request(&mut stream).is_some() {
                let _ = stream.write_all(answer(200, "secret").as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (port, cert.der().clone())
}

fn get(port: u16, unchecked_tls: bool, roots: RootCertStore) -> Result<Reply, Failure> {
    let clients = Clients::with_roots(Box::new(move || roots.clone()));
    let call = Call {
        method: Method::GET,
        url: Url::parse(&format!("https://127.0.0.1:{port}/")).unwrap(),
        headers: HeaderMap::new(),
        basic: None,
        body: bytes::Bytes::new(),
        timeout: Duration::from_secs(20),
        way: Way { unchecked_tls, proxy: None },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(clients.send(call))
}

fn trusting(certificate: CertificateDer<'static>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add(certificate).unwrap();
    store
}

#[track_caller]
fn check_refused(found: Result<Reply, Failure>, why_has: &str) {
    match found {
        Err(Failure::Broken(why)) => assert!(why.to_lowercase().contains(why_has), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn certificate_is_checked_unless_the_file_says_otherwise() {
    let (port, certificate) = server("127.0.0.1");
    assert_eq!(get(port, false, trusting(certificate)).unwrap().body, b"secret");
    let (_, other) = server("127.0.0.1");
    check_refused(get(port, false, trusting(other)), "certificate");
    check_refused(get(port, false, roots()), "certificate");
    assert_eq!(get(port, true, RootCertStore::empty()).unwrap().body, b"secret");
}

#[test]
fn certificate_for_another_name_is_refused() {
    let (port, certificate) = server("elsewhere.example");
    check_refused(get(port, false, trusting(certificate)), "name");
    assert_eq!(get(port, true, RootCertStore::empty()).unwrap().body, b"secret");
}

#[test]
fn there_are_always_roots() {
    assert!(roots().len() > 50, "the system's, or Mozilla's");
}
