//! Amazon's signature, version 4, with the credentials of the environment: variables, the shared file, single sign-on,
//! web identity, the endpoints of containers and instances. No command is run for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner};
use reqsign_core::hash::hex_sha256;
use reqsign_core::{Context, Env, Error, ErrorKind, FileRead, HttpSend, OsEnv, Signer};
use reqwest::Url;

use super::http::{BODY_OCTETS_MAX, Call, Clients, Way};
use super::secret;

/// Looking for credentials and signing may take so long.
const SIGN_TIMEOUT: Duration = Duration::from_secs(5);
/// One request on the way to credentials. Endpoints on the machine are plain HTTP, and silent elsewhere.
const NEAR_TIMEOUT: Duration = Duration::from_secs(1);
const FAR_TIMEOUT: Duration = Duration::from_secs(3);
/// Pairs of service and region whose credentials are kept; one more forgets them all.
const SIGNERS_MAX: usize = 64;

/// Signs. Credentials are kept until they expire.
pub(super) struct Aws {
    context: Context,
    signers: Mutex<BTreeMap<(String, String), Signer<Credential>>>,
}

impl Aws {
    /// With the environment of the process.
    pub(super) fn new(clients: Arc<Clients>) -> Self {
        Self::with_env(clients, OsEnv)
    }

    fn with_env(clients: Arc<Clients>, env: impl Env) -> Self {
        let context = Context::new().with_env(env).with_file_read(Files).with_http_send(Http(clients));
        Self { context, signers: Mutex::default() }
    }

    /// Adds the signature to the headers of the call.
    ///
    /// # Errors
    /// No credentials, or an address that cannot be signed.
    pub(super) async fn sign(&self, service: &str, region: &str, call: &mut Call) -> Result<(), String> {
        // The canonical form of other paths differs from service to service.
        if call.url.path().contains('%') {
            return Err("an address with escapes in its path cannot be signed".into());
        }
        let mut request = http::Request::new(());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.url.as_str().parse().map_err(|_| "its address cannot be signed".to_owned())?;
        *request.headers_mut() = call.headers.clone();
        let (mut parts, ()) = request.into_parts();
        let hash = HeaderValue::from_str(&hex_sha256(&call.body)).map_err(|error| error.to_string())?;
        parts.headers.insert("x-amz-content-sha256", hash);
        let signer = self.signer(service, region);
        match tokio::time::timeout(SIGN_TIMEOUT, signer.sign(&mut parts, None)).await {
            Ok(Ok(())) => {
                call.headers = parts.headers;
                Ok(())
            }
            Ok(Err(error)) => Err(shown(&error)),
            Err(_) => Err(format!("no AWS credentials within {} s", SIGN_TIMEOUT.as_secs())),
        }
    }

    fn signer(&self, service: &str, region: &str) -> Signer<Credential> {
        let mut signers = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (service.to_owned(), region.to_owned());
        if signers.len() == SIGNERS_MAX && !signers.contains_key(&key) {
            signers.clear();
        }
        let made = || {
            let chain = DefaultCredentialProvider::builder().no_process().build();
            let request = RequestSigner::new(service, region).with_standard_session_token();
            Signer::new(self.context.clone(), chain, request)
        };
        signers.entry(key).or_insert_with(made).clone()
    }
}

/// Only the kind of an error: its text may quote an answer that held credentials.
fn shown(error: &Error) -> String {
    match error.kind() {
        ErrorKind::CredentialInvalid => {
            "no usable AWS credentials: looked in the environment, ~/.aws, single sign-on, \
             web identity, and the endpoints of the container and the instance"
                .into()
        }
        ErrorKind::PermissionDenied => "AWS credentials were denied".into(),
        ErrorKind::ConfigInvalid => "a source of AWS credentials is misconfigured".into(),
        ErrorKind::RateLimited => "AWS credentials were asked for too often".into(),
        ErrorKind::RequestInvalid | ErrorKind::Unexpected => "getting AWS credentials failed".into(),
    }
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let read = secret::read_file(PathBuf::from(path), secret::SECRET_OCTETS_MAX).await;
        read.map_err(Error::config_invalid)
    }
}

struct Http(Arc<Clients>);

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Http")
    }
}

impl HttpSend for Http {
    async fn http_send(&self, request: http::Request<Bytes>) -> reqsign_core::Result<http::Response<Bytes>> {
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| Error::config_invalid(error.to_string()))?;
        let timeout = if url.scheme() == "https" { FAR_TIMEOUT } else { NEAR_TIMEOUT };
        let (method, headers, way) = (parts.method, parts.headers, Way::default());
        let call = Call { method, url, headers, basic: None, body, timeout, way };
        let reply = self.0.send(call).await.map_err(|failure| Error::unexpected(failure.to_string()))?;
        if reply.cut {
            return Err(Error::unexpected(format!("the answer is longer than {BODY_OCTETS_MAX} octets")));
        }
        let mut response = http::Response::new(Bytes::from(reply.body));
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}

#[cfg(test)]
pub(super) mod tests;
