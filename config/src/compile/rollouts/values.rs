//! Texts that leave the process: addresses, secrets, headers.

use crate::diagnostic::Diagnostic;
use crate::model::Secret;
use crate::raw::{Cx, Fields};
use crate::units::{self, Wrong};
use crate::yaml::{Entry, Node, Value};

/// The longest address of a hook, an alert or a provider, in bytes.
pub const URL_BYTES_MAX: usize = 2048;
/// Entries of one map of names and texts: headers, metadata, template variables.
pub const PAIRS_MAX: usize = 64;
/// The longest free text: metadata, a template variable, the template of an alert; in bytes.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// An address that is asked or told. Whoever needs a password writes it elsewhere: addresses are shown.
pub(super) fn url(text: &str, example: &'static str) -> Result<String, Wrong> {
    let wrong = || Wrong::new(format!("an `http://` or `https://` address of at most {URL_BYTES_MAX} bytes"), example);
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        let bare = !text.contains("://") && legal_authority(text.split(['/', '?', '#']).next().unwrap_or_default());
        return Err(if bare { wrong().help(format!("write `http://{text}`")) } else { wrong() });
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(wrong().help("leave user and password out of the address: it is shown in logs"));
    }
    if path.contains('#') {
        return Err(wrong().help("leave out what follows `#`: it is never sent"));
    }
    let legal_path = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
    if text.len() <= URL_BYTES_MAX && legal_authority(authority) && legal_path {
        Ok(text.to_owned())
    } else {
        Err(wrong())
    }
}

/// `host`, `host:port`, `[::1]:port`.
fn legal_authority(text: &str) -> bool {
    let with_port = match text.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => text.to_owned(),
        Some(_) if !text.ends_with(']') => return false,
        _ => format!("{text}:80"),
    };
    units::endpoint(&with_port).is_ok()
}

/// A text of the user that is passed on, lines and all.
pub(super) fn text(text: &str, max: usize, what: &'static str, example: &'static str) -> Result<String, Wrong> {
    let legal = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.len() <= max && text.chars().all(legal) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{what} of at most {max} bytes"), example))
}

/// Whether a secret may be written in the file itself.
#[derive(Clone, Copy)]
pub(super) enum Plain {
    /// An address or a user's name.
    Allowed(fn(&str) -> Result<String, Wrong>),
    /// A secret.
    Refused,
}

/// `{env: NAME}`, `{file: path}`, or where it is no secret the text itself.
pub(super) fn secret(cx: &Cx<'_>, key: &'static str, node: &Node<'_>, plain: Plain) -> Option<Secret> {
    let Value::Map(_) = &node.value else {
        return match (plain, &node.value) {
            (Plain::Allowed(read), _) => cx.scalar(key, node, read).map(Secret::Plain),
            (Plain::Refused, Value::Scalar(_)) => {
                let message = format!("`{key}` is a secret and is not written into this file");
                let plain = Diagnostic::error("rollout/plain-secret", node.span, message);
                cx.push(plain.help(format!("write `{key}: {{env: NAME}}` or `{key}: {{file: /path}}`")));
                None
            }
            (Plain::Refused, _) => {
                cx.wrong(key, node, Wrong::new("`{env: NAME}` or `{file: /path}`", "{env: TOKEN}"));
                None
            }
        };
    };
    let mut fields = Fields::open(cx, key, node, "{env: NAME}")?;
    let (has_env, has_file) = (fields.has("env"), fields.has("file"));
    let env = fields.scalar(cx, "env", env_name).map(Secret::Env);
    let folder = cx.source.folder();
    let path = |text: &str| units::visible(text, 4096, "the path of a file", "/run/secrets/token");
    let file = fields.scalar(cx, "file", path).map(|path| Secret::File(folder.join(path)));
    if has_env == has_file {
        let message = format!("`{key}` needs either `env` or `file`");
        let help = format!("write `{key}: {{env: NAME}}` or `{key}: {{file: /path}}`");
        cx.push(Diagnostic::error("config/missing-key", fields.span, message).help(help));
    }
    fields.finish(cx);
    env.or(file)
}

fn env_name(text: &str) -> Result<String, Wrong> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(legal) && !text.as_bytes()[0].is_ascii_digit();
    if fits { Ok(text.to_owned()) } else { Err(Wrong::new("the name of an environment variable", "SLACK_URL")) }
}

/// A map of names and texts, at most [`PAIRS_MAX`], by name: in which order they stand says nothing.
pub(super) fn pairs(
    cx: &Cx<'_>,
    key: &'static str,
    entry: &Entry<'_>,
    example: &'static str,
    name: impl Fn(&str) -> Result<String, Wrong>,
    value: impl Fn(&str) -> Result<String, Wrong>,
) -> Vec<(String, String)> {
    let mut pairs = super::super::rules::pairs(cx, key, entry, example, name, value);
    if pairs.len() > PAIRS_MAX {
        let message = format!("`{key}` has {} entries, {PAIRS_MAX} are allowed", pairs.len());
        cx.push(Diagnostic::error("config/too-many", entry.key_span, message));
    }
    pairs.sort();
    pairs
}

/// A reference as Kubernetes has them: `{name: x}`. The name, and where it stands.
pub(super) fn reference<'n, 's>(
    cx: &Cx<'_>,
    fields: &mut Fields<'n, 's>,
    key: &'static str,
) -> Option<(String, &'n Node<'s>)> {
    let mut inner = fields.map(cx, key, "{name: x}")?;
    let entry = inner.require(cx, "name", &format!("`{key}`"), &format!("write `{key}: {{name: x}}`"));
    inner.unneeded(cx, &[("namespace", "this file is one namespace")]);
    inner.finish(cx);
    let entry = entry?;
    let name = cx.scalar("name", &entry.value, |text| units::visible(text, 253, "a name", "x"))?;
    Some((name, &entry.value))
}
