//! The running Serin: where it is, what opens it, and one question at a time.
//!
//! Errors are for somebody tired: which address and who named it, where the token is, what exists.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serin_config::Config;
use serin_config::model::Storage;

use super::super::run::configuration;
use crate::control::LastGood;

/// To connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two reads of an answer; commands wait for a disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two reads of a stream: longer than its signs of life are apart.
const STREAM_TIMEOUT: Duration = Duration::from_secs(40);
/// Octets of a line of the head.
const LINE_MAX: u64 = 16 << 10;
/// Lines of the head.
const LINES_MAX: usize = 100;
/// Octets of an answer.
const BODY_MAX: u64 = 64 << 20;
const ADMIN_DEFAULT: &str = "127.0.0.1:9990";
const CONFIG_DEFAULT: &str = "serin.yaml";

/// How a command finds the running Serin.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The running Serin")]
pub(in crate::cli) struct RemoteArgs {
    /// Its admin address [env: SERIN_ADMIN] [default: that of the configuration, or 127.0.0.1:9990]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// What opens it for changes [env: SERIN_TOKEN] [default: the file `token` in the configuration's storage.dir]
    #[arg(long, value_name = "SECRET")]
    token: Option<String>,
    /// Its configuration [env: SERIN_CONFIG] [default: serin.yaml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A running Serin.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Remote {
    address: String,
    /// Who said that it is there.
    named_by: String,
    token: Option<String>,
    /// It was written or set, not found in a folder.
    token_is_given: bool,
    /// What stood in the way of a token.
    no_token: String,
}

impl Remote {
    /// From arguments, variables and the configuration, in this order.
    pub(in crate::cli) fn find(args: &RemoteArgs) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let file = args.config.clone().or_else(|| variable("SERIN_CONFIG").map(PathBuf::from));
        let is_meant = file.is_some();
        let file = file.unwrap_or_else(|| CONFIG_DEFAULT.into());
        let (shown, is_meant) = (file.display().to_string(), is_meant || file.exists());
        let config = config(&file);
        let (address, named_by) = match (&args.admin, variable("SERIN_ADMIN"), &config) {
            (Some(address), ..) => (address.clone(), "--admin".to_owned()),
            (None, Some(address), _) => (address, "SERIN_ADMIN".to_owned()),
            (None, None, Ok(config)) if config.admin.address.port() != 0 => {
                (config.admin.address.to_string(), format!("`admin` of {shown}"))
            }
            (.., Err(why)) if is_meant => {
                let why = why.lines().next().unwrap_or_default();
                (ADMIN_DEFAULT.to_owned(), format!("nobody, it is the default ({why})"))
            }
            _ => (ADMIN_DEFAULT.to_owned(), "nobody, it is the default".to_owned()),
        };
        let bare = address.strip_prefix("http://").unwrap_or(&address).trim_end_matches('/').to_owned();
        let given = args.token.clone().or_else(|| variable("SERIN_TOKEN"));
        let token_is_given = given.is_some();
        let found = given.map_or_else(|| config.and_then(|config| stored_token(&config)), Ok);
        let (token, no_token) = match found {
            Ok(token) => (Some(token), String::new()),
            Err(why) => (None, why),
        };
        Self { address: bare, named_by, token, token_is_given, no_token }
    }

    pub(in crate::cli) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        // a token that was only found may be of another Serin, and reading here needs none
        let token = self.token.as_deref().filter(|_| self.token_is_given);
        match self.call("GET", path, "", token) {
            Err(CallError::Answer { status: 401, .. }) if token.is_none() && self.token.is_some() => {
                self.call("GET", path, "", self.token.as_deref())
            }
            answered => answered,
        }
    }

    pub(in crate::cli) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, CallError> {
        self.send_json("POST", path, body)
    }

    /// A change, with the token.
    pub(in crate::cli) fn send_json<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, CallError> {
        self.call(method, path, &body.to_string(), self.token.as_deref())
    }

    /// Events from behind `last` on, as lines.
    pub(in crate::cli) fn events(&self, path: &str, last: Option<u64>) -> Result<BufReader<TcpStream>, CallError> {
        let last = last.map_or_else(String::new, |last| format!("last-event-id: {last}\r\n"));
        let token = self.token.as_deref().filter(|_| self.token_is_given);
        let (mut reader, head) = self.send("GET", path, &last, "", token)?;
        if head.status == 200 {
            reader.get_mut().set_read_timeout(Some(STREAM_TIMEOUT)).map_err(|error| self.broken(&error))?;
            return Ok(reader);
        }
        let body = self.body(&mut reader, &head)?;
        Err(self.refusal(head.status, &body))
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &str,
        token: Option<&str>,
    ) -> Result<T, CallError> {
        let (mut reader, head) = self.send(method, path, "", body, token)?;
        let body = self.body(&mut reader, &head)?;
        if head.status != 200 {
            return Err(self.refusal(head.status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| CallError::Broken {
            text: format!("what {} answers is not understood: {error}", self.address),
            hint: format!("is it a Serin of this version ({})?", env!("CARGO_PKG_VERSION")),
        })
    }

    /// HTTP/1.0: an answer ends with its connection, so a stream of events needs no decoding.
    fn send(
        &self,
        method: &str,
        path: &str,
        fields: &str,
        body: &str,
        token: Option<&str>,
    ) -> Result<(BufReader<TcpStream>, Head), CallError> {
        let stream = self.connect()?;
        let mut request = format!("{method} {path} HTTP/1.0\r\nhost: {}\r\n{fields}", self.address);
        // writing to a string cannot fail
        if let Some(token) = token {
            let _ = write!(request, "authorization: Bearer {}\r\n", token.replace(['\r', '\n'], ""));
        }
        if method != "GET" {
            let _ = write!(request, "content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        let _ = write!(request, "\r\n{body}");
        let mut reader = BufReader::new(stream);
        reader.get_mut().write_all(request.as_bytes()).map_err(|error| self.broken(&error))?;
        let head = Head::read(&mut reader).map_err(|error| self.broken(&error))?;
        Ok((reader, head))
    }

    fn connect(&self) -> Result<TcpStream, CallError> {
        let hint = || {
            format!(
                "is Serin running there? The address was named by {}; --admin or SERIN_ADMIN=host:port says another",
                self.named_by
            )
        };
        let away = |error: &dyn std::fmt::Display| CallError::Away {
            text: format!("nothing answers at {}: {error}", self.address),
            hint: hint(),
        };
        let addresses = self.address.to_socket_addrs().map_err(|error| away(&error))?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    let set = stream.set_read_timeout(Some(ANSWER_TIMEOUT));
                    set.and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT))).map_err(|e| self.broken(&e))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(away(&last))
    }

    fn body(&self, reader: &mut BufReader<TcpStream>, head: &Head) -> Result<Vec<u8>, CallError> {
        let mut body = Vec::new();
        reader.take(head.length.unwrap_or(BODY_MAX)).read_to_end(&mut body).map_err(|error| self.broken(&error))?;
        if head.length.is_some_and(|length| length != body.len() as u64) {
            return Err(self.broken(&io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(body)
    }

    fn broken(&self, error: &io::Error) -> CallError {
        let slow = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let why = if slow { "it does not answer in time".to_owned() } else { error.to_string() };
        CallError::Away {
            text: format!("the connection to {} broke: {why}", self.address),
            hint: format!("is it a Serin, and does it still run? The address was named by {}", self.named_by),
        }
    }

    fn refusal(&self, status: u16, body: &[u8]) -> CallError {
        #[derive(Deserialize)]
        struct Said {
            error: String,
            #[serde(default)]
            hint: String,
        }
        let plain = || {
            let mut lines = String::from_utf8_lossy(body).into_owned();
            lines.truncate(lines.floor_char_boundary(SHOWN_MAX));
            Said { error: format!("{} answers {status}: {}", self.address, lines.trim()), hint: String::new() }
        };
        let Said { error, mut hint } = serde_json::from_slice(body).unwrap_or_else(|_| plain());
        if status == 401 && self.token.is_none() {
            hint = format!("{hint}\nno token was sent: {}; --token or SERIN_TOKEN gives one", self.no_token);
        }
        CallError::Answer { status, text: error, hint: hint.trim().to_owned() }
    }
}

/// Octets of a strange answer that are shown.
const SHOWN_MAX: usize = 300;

/// The path of a rollout.
pub(in crate::cli) fn path_of(name: &str) -> String {
    path_below("/api/v1/rollouts", name)
}

/// The path of something below another. Whatever was typed stays one segment.
pub(in crate::cli) fn path_below(base: &str, name: &str) -> String {
    let mut path = format!("{base}/");
    for byte in name.bytes() {
        // writing to a string cannot fail
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => write!(path, "{}", char::from(byte)),
            _ => write!(path, "%{byte:02X}"),
        };
    }
    path
}

/// Why a question was not answered.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum CallError {
    /// An answer that says no.
    Answer { status: u16, text: String, hint: String },
    /// Nobody is there, or not any more.
    Away { text: String, hint: String },
    /// Somebody is, who speaks otherwise.
    Broken { text: String, hint: String },
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Answer { text, hint, .. } | Self::Away { text, hint } | Self::Broken { text, hint }) = self;
        f.write_str(text)?;
        hint.lines().try_for_each(|line| write!(f, "\nhelp: {line}"))
    }
}

struct Head {
    status: u16,
    length: Option<u64>,
}

impl Head {
    fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Self> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP");
        let first = line(reader)?;
        let version = first.starts_with("HTTP/1.");
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).filter(|_| version).ok_or_else(bad)?;
        let mut length = None;
        for _ in 0..LINES_MAX {
            let field = line(reader)?.to_ascii_lowercase();
            if field.is_empty() {
                return Ok(Self { status, length });
            }
            if let Some(value) = field.strip_prefix("content-length:") {
                length = Some(value.trim().parse().ok().filter(|length| *length <= BODY_MAX).ok_or_else(bad)?);
            }
        }
        Err(bad())
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(LINE_MAX).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
}

fn config(file: &std::path::Path) -> Result<Config, String> {
    let (_, _, loaded) = configuration(file, &LastGood::new()).map_err(|error| error.to_string())?;
    let loaded = loaded.map_err(|mistakes| format!("{} has mistakes: {mistakes}", file.display()))?;
    Ok(std::sync::Arc::unwrap_or_clone(loaded.config))
}

fn stored_token(config: &Config) -> Result<String, String> {
    let file = match &config.storage {
        Some(Storage::File { dir }) => dir.join("token"),
        Some(Storage::Memory) => return Err("storage of kind `memory` keeps none".to_owned()),
        None => return Err("the configuration has no `storage`".to_owned()),
    };
    let text = std::fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let token = text.trim().to_owned();
    if token.is_empty() { Err(format!("{} is empty", file.display())) } else { Ok(token) }
}

#[cfg(test)]
mod tests;
