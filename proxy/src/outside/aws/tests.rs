use std::collections::HashMap;

use http::{HeaderMap, Method};
use reqsign_core::StaticEnv;
use reqsign_core::hash::{hex_hmac_sha256, hmac_sha256};

use super::super::tests::peer::{Peer, answer};
use super::*;

// Published with the signature's test suite and its documentation: they open nothing.
const ID: &str = "AKIDEXAMPLE";
const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

pub(in super::super) fn aws(variables: &[(&str, &str)]) -> Aws {
    let envs: HashMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Aws::with_env(Arc::new(Clients::new()), StaticEnv { home_dir: None, envs })
}

pub(in super::super) fn with_keys() -> Aws {
    aws(&[("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", KEY)])
}

pub(in super::super) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn call(url: &str, body: &'static str) -> Call {
    let mut headers = HeaderMap::new();
    headers.insert("x-scope-orgid", HeaderValue::from_static("tenant 1"));
    Call {
        method: Method::POST,
        url: Url::parse(url).unwrap(),
        headers,
        basic: None,
        body: Bytes::from_static(body.as_bytes()),
        timeout: FAR_TIMEOUT,
        way: Way::default(),
    }
}

/// The signature as the documentation defines it. `moment` is like `20150830T123600Z`.
fn signature(canonical: &str, moment: &str, region: &str, service: &str, key: &str) -> String {
    let day = &moment[..8];
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{moment}\n{day}/{region}/{service}/aws4_request\n{}",
        hex_sha256(canonical.as_bytes())
    );
    let mut secret = format!("AWS4{key}").into_bytes();
    for part in [day, region, service, "aws4_request"] {
        secret = hmac_sha256(&secret, part.as_bytes());
    }
    hex_hmac_sha256(&secret, to_sign.as_bytes())
}

/// What was signed, from what is sent.
pub(in super::super) fn canonical(
    method: &str,
    path: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let fields: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    format!("{method}\n{path}\n{query}\n{fields}\n{}\n{}", names.join(";"), hex_sha256(body.as_bytes()))
}

/// `Authorization` names these headers, and its signature is the right one for what is sent.
#[track_caller]
pub(in super::super) fn check_signed(
    field: impl Fn(&str) -> Option<String>,
    request: [&str; 3],
    body: &str,
    scope: [&str; 2],
) {
    let authorization = field("authorization").expect("it is signed");
    let (head, given) = authorization.split_once(", Signature=").unwrap();
    let (head, names) = head.split_once(", SignedHeaders=").unwrap();
    let moment = field("x-amz-date").unwrap();
    let [region, service] = scope;
    assert_eq!(head, format!("AWS4-HMAC-SHA256 Credential={ID}/{}/{region}/{service}/aws4_request", &moment[..8]));
    for needed in ["host", "x-amz-content-sha256", "x-amz-date"] {
        assert!(names.split(';').any(|name| name == needed), "{needed} is signed: {names}");
    }
    let headers: Vec<(&str, String)> = names.split(';').map(|name| (name, field(name).unwrap())).collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let [method, path, query] = request;
    let wanted = signature(&canonical(method, path, query, &headers, body), &moment, region, service, KEY);
    assert_eq!(given, wanted);
}

#[test]
fn reference_gives_the_published_signature() {
    // Case get-vanilla of the test suite.
    let headers = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
    let canonical = canonical("GET", "/", "", &headers, "");
    assert_eq!(hex_sha256(canonical.as_bytes()), "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63");
    assert_eq!(
        signature(&canonical, "20150830T123600Z", "us-east-1", "service", KEY),
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    );
}

#[test]
fn every_header_the_query_and_the_body_are_signed() {
    let mut call = call("https://aps.example.com/workspaces/ws-1/api/v1/query?query=a%20b%2Bc&z=%C3%A9", "a=1");
    run(with_keys().sign("aps", "eu-west-1", &mut call)).unwrap();
    let field = |name: &str| match name {
        "host" => Some("aps.example.com".to_owned()),
        name => Some(call.headers.get(name)?.to_str().unwrap().to_owned()),
    };
    assert_eq!(field("x-amz-content-sha256"), Some(hex_sha256(b"a=1")));
    assert!(field("authorization").unwrap().contains("x-scope-orgid"));
    assert_eq!(field("x-amz-security-token"), None);
    let query = "query=a%20b%2Bc&z=%C3%A9";
    check_signed(field, ["POST", "/workspaces/ws-1/api/v1/query", query], "a=1", ["eu-west-1", "aps"]);
}

#[test]
fn session_token_goes_along() {
    let aws = aws(&[("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", KEY), ("AWS_SESSION_TOKEN", "t0k3n")]);
    let mut call = call("https://monitoring.eu-west-1.amazonaws.com/", "a=1");
    run(aws.sign("monitoring", "eu-west-1", &mut call)).unwrap();
    assert_eq!(call.headers["x-amz-security-token"], "t0k3n");
    assert!(call.headers["authorization"].to_str().unwrap().contains("x-amz-security-token"));
}

#[test]
fn credentials_come_from_the_shared_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials");
    let text = format!(
        "[default]\naws_access_key_id = other\naws_secret_access_key = x\n[canary]\naws_access_key_id = {ID}\naws_secret_access_key = {KEY}\n"
    );
    std::fs::write(&path, text).unwrap();
    let aws = aws(&[("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap()), ("AWS_PROFILE", "canary")]);
    let mut call = call("https://monitoring.eu-west-1.amazonaws.com/", "");
    run(aws.sign("monitoring", "eu-west-1", &mut call)).unwrap();
    assert!(call.headers["authorization"].to_str().unwrap().contains(&format!("Credential={ID}/")));
}

#[test]
fn credentials_come_from_the_endpoint_of_the_container_and_are_kept() {
    let body = format!(
        r#"{{"AccessKeyId":"{ID}","SecretAccessKey":"{KEY}","Token":"t0k3n","Expiration":"2100-01-01T00:00:00Z"}}"#
    );
    let peer = Peer::answers(vec![answer(200, &body)]);
    let aws = aws(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &peer.url("/v2/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc"),
    ]);
    run(async {
        for _ in 0..3 {
            let mut call = call("https://monitoring.eu-west-1.amazonaws.com/", "");
            aws.sign("monitoring", "eu-west-1", &mut call).await.unwrap();
            assert_eq!(call.headers["x-amz-security-token"], "t0k3n");
        }
    });
    let requests = peer.requests(1);
    assert_eq!((requests.len(), requests[0].line.as_str()), (1, "GET /v2/credentials HTTP/1.1"));
    assert_eq!(requests[0].field("authorization"), Some("Basic abc"));
}

#[test]
fn endpoint_that_hangs_or_lies_gives_no_credentials_and_no_secret_in_the_error() {
    let hanging = Peer::start(|_, _, _| std::thread::sleep(FAR_TIMEOUT * 10));
    let lying = Peer::answers(vec![answer(200, r#"{"AccessKeyId":5,"SecretAccessKey":"hunter2""#)]);
    for (peer, wanted) in [(hanging, "AWS credentials"), (lying, "AWS credentials")] {
        let aws = aws(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &peer.url("/")), ("AWS_EC2_METADATA_DISABLED", "true")]);
        let mut call = call("https://monitoring.eu-west-1.amazonaws.com/", "");
        let error = run(aws.sign("monitoring", "eu-west-1", &mut call)).unwrap_err();
        assert!(error.contains(wanted) && !error.contains("hunter2"), "{error}");
        assert!(call.headers.get("authorization").is_none());
    }
}

#[test]
fn nothing_to_sign_with_and_nothing_to_sign_are_said() {
    let none = aws(&[("AWS_EC2_METADATA_DISABLED", "true")]);
    let mut one = call("https://monitoring.eu-west-1.amazonaws.com/", "");
    let error = run(none.sign("monitoring", "eu-west-1", &mut one)).unwrap_err();
    assert!(error.starts_with("no usable AWS credentials: looked in the environment"), "{error}");
    let mut escaped = call("https://aps.example.com/a%2Fb", "");
    let error = run(with_keys().sign("aps", "eu-west-1", &mut escaped)).unwrap_err();
    assert!(error.contains("escapes"), "{error}");
}

#[test]
fn signers_are_bounded() {
    let aws = with_keys();
    for number in 0..=SIGNERS_MAX {
        aws.signer("aps", &number.to_string());
        let kept = aws.signers.lock().unwrap().len();
        assert_eq!(kept, if number < SIGNERS_MAX { number + 1 } else { 1 });
    }
}
