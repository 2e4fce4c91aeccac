//! PURE: `--to NAME=URL[@PERCENT]` arguments as a configuration.

use std::collections::HashSet;
use std::fmt::Write;
use std::net::SocketAddr;

/// Targets that one command may name: arms of one split.
const TARGETS_MAX: usize = 64;
/// Octets of a target's name.
const NAME_MAX: usize = 63;
/// 100 %, in parts per million.
const WHOLE_PPM: u32 = 1_000_000;

/// One place that gets a share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    name: String,
    /// `host:port`.
    endpoint: String,
    /// All shares of a list sum to [`WHOLE_PPM`].
    share_ppm: u32,
}

/// What is wrong with the arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SharesError {
    #[error("`{0}` is given twice: every target needs a name of its own")]
    Duplicate(String),
    #[error("`{0}` is no name: use letters, digits, `-`, `_` and `.`, at most {NAME_MAX}, a letter or digit first")]
    Name(String),
    #[error("`{0}` is no target: write NAME=URL or NAME=URL@PERCENT, such as v2=http://127.0.0.1:8082@5%")]
    Shape(String),
    #[error("`{0}` is no share: write a percentage from 0 to 100 with at most four decimals, such as 5% or 0.5%")]
    Percent(String),
    #[error("the shares sum to {0}%, which is more than 100%")]
    TooMuch(String),
    #[error("the shares sum to {0}% and nobody gets the rest: leave one share out, or make them 100%")]
    TooLittle(String),
    #[error("these are more than {TARGETS_MAX} targets")]
    TooMany,
    #[error("`{0}` cannot be a target: write http://HOST or http://HOST:PORT, without a path")]
    Url(String),
}

/// Reads all `--to` arguments. Targets without a share get what is left, evenly; parts per million that cannot be
/// divided go to the first of them, one each.
pub(super) fn parse(arguments: &[String]) -> Result<Vec<Target>, SharesError> {
    if arguments.len() > TARGETS_MAX {
        return Err(SharesError::TooMany);
    }
    let parsed: Vec<(String, String, Option<u32>)> =
        arguments.iter().map(|text| one(text)).collect::<Result<_, _>>()?;
    let mut names = HashSet::new();
    if let Some((name, ..)) = parsed.iter().find(|(name, ..)| !names.insert(name.as_str())) {
        return Err(SharesError::Duplicate(name.clone()));
    }
    let given: u32 = parsed.iter().filter_map(|(.., share)| *share).sum();
    let open = u32::try_from(parsed.iter().filter(|(.., share)| share.is_none()).count()).unwrap_or(u32::MAX);
    let rest = WHOLE_PPM.checked_sub(given).ok_or_else(|| SharesError::TooMuch(percent(given)))?;
    if open == 0 && rest > 0 {
        return Err(SharesError::TooLittle(percent(given)));
    }
    let mut remainder = rest.checked_rem(open).unwrap_or(0);
    let targets = parsed.into_iter().map(|(name, endpoint, share)| {
        let share_ppm = share.unwrap_or_else(|| {
            let extra = u32::from(remainder > 0);
            remainder -= extra;
            rest / open.max(1) + extra
        });
        Target { name, endpoint, share_ppm }
    });
    Ok(targets.collect())
}

/// The file that says the same.
pub(super) fn config(targets: &[Target], listen: SocketAddr) -> String {
    let mut text = String::from("clusters:\n");
    // writing to a string cannot fail
    for target in targets {
        let _ = writeln!(text, "  \"{}\": {{endpoints: [\"{}\"]}}", target.name, target.endpoint);
    }
    let arms = targets.iter().map(|target| match targets.len() {
        1 => format!("/#/clusters/{}", target.name),
        _ => format!("{} * /#/clusters/{}", percent(target.share_ppm), target.name),
    });
    let arms = arms.collect::<Vec<_>>().join(" & ");
    let (ip, port) = (listen.ip(), listen.port());
    let _ = write!(
        text,
        "routers:\n- protocol: http\n  label: http\n  servers: [{{ip: \"{ip}\", port: {port}}}]\n  dtab: |\n    \
         /svc => {arms} ;\n"
    );
    text
}

fn one(text: &str) -> Result<(String, String, Option<u32>), SharesError> {
    let (name, rest) = text.split_once('=').ok_or_else(|| SharesError::Shape(text.to_owned()))?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !first || name.len() > NAME_MAX || !name.bytes().all(legal) {
        return Err(SharesError::Name(name.to_owned()));
    }
    let (url, share) = match rest.rsplit_once('@') {
        Some((url, share)) => (url, Some(ppm(share).ok_or_else(|| SharesError::Percent(share.to_owned()))?)),
        None => (rest, None),
    };
    let endpoint = endpoint(url).ok_or_else(|| SharesError::Url(url.to_owned()))?;
    Ok((name.to_owned(), endpoint, share))
}

/// `host:port` of a URL that has no more than that.
fn endpoint(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let bare = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
    // also refuses what stands before an `@`
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => 80,
        port => port.strip_prefix(':')?.parse::<u16>().ok().filter(|port| *port > 0)?,
    };
    (bare && !authority.host().is_empty()).then(|| format!("{}:{port}", authority.host()))
}

/// Reads `5`, `5%`, `0.0001%`: exactly, without floating point.
fn ppm(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 4 || whole.len() > 3 {
        return None;
    }
    let share = whole.parse::<u32>().ok()? * 10_000 + format!("{decimals:0<4}").parse::<u32>().ok()?;
    (share <= WHOLE_PPM).then_some(share)
}

/// As short as it reads back exactly.
fn percent(ppm: u32) -> String {
    let decimals = format!("{:04}", ppm % 10_000);
    match decimals.trim_end_matches('0') {
        "" => (ppm / 10_000).to_string(),
        decimals => format!("{}.{decimals}", ppm / 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(arguments: &str) -> Result<Vec<Target>, SharesError> {
        parse(&arguments.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check_shares(arguments: &str, expected: &[u32]) {
        let shares: Vec<u32> = parse_all(arguments).unwrap().iter().map(|target| target.share_ppm).collect();
        assert_eq!(shares, expected, "{arguments}");
    }

    #[track_caller]
    fn check_error(arguments: &str, expected: SharesError) {
        assert_eq!(parse_all(arguments), Err(expected), "{arguments}");
    }

    #[test]
    fn who_has_no_share_gets_the_rest_evenly() {
        check_shares("a=http://h", &[1_000_000]);
        check_shares("a=http://h b=http://h:8082@5%", &[950_000, 50_000]);
        check_shares("a=http://h b=http://h c=http://h", &[333_334, 333_333, 333_333]);
        check_shares("a=http://h@0.0001% b=http://h", &[1, 999_999]);
        check_shares("a=http://h@99.5 b=http://h@0.5%", &[995_000, 5_000]);
        check_shares("a=http://h@100 b=http://h", &[1_000_000, 0]);
    }

    #[test]
    fn shares_that_do_not_add_up_are_refused() {
        check_error("a=http://h@60 b=http://h@60", SharesError::TooMuch("120".into()));
        check_error("a=http://h@60 b=http://h@30.5", SharesError::TooLittle("90.5".into()));
        for share in ["101", "-1", "x", "", "%", "1.23456", "1e1", "1.", ".5"] {
            check_error(&format!("a=http://h@{share}"), SharesError::Percent(share.into()));
        }
    }

    #[test]
    fn only_plain_targets_are_taken() {
        for url in [
            "https://h",
            "http://h/path",
            "http://h?q",
            "h:80",
            "http://",
            "http://h:0",
            "http://h:70000",
            "http://u@h:",
        ] {
            let found = parse_all(&format!("a={url}"));
            assert!(matches!(found, Err(SharesError::Url(_) | SharesError::Percent(_))), "{url}: {found:?}");
        }
        check_error("http://h", SharesError::Shape("http://h".into()));
        check_error("-a=http://h", SharesError::Name("-a".into()));
        check_error("a=http://h a=http://i", SharesError::Duplicate("a".into()));
    }

    #[test]
    fn targets_fill_the_cap_and_one_more_is_refused() {
        let arguments = |count: usize| (0..count).map(|n| format!("n{n}=http://h")).collect::<Vec<_>>();
        assert_eq!(parse(&arguments(TARGETS_MAX)).map(|targets| targets.len()), Ok(TARGETS_MAX));
        assert_eq!(parse(&arguments(TARGETS_MAX + 1)), Err(SharesError::TooMany));
    }

    #[test]
    fn the_printed_file_is_a_configuration() {
        for arguments in
            ["v1=http://127.0.0.1:8081", "1=http://[::1]:81 null=http://h@0.0001%", "a=http://h b=http://h c=http://h"]
        {
            let text = config(&parse_all(arguments).unwrap(), "[::1]:4140".parse().unwrap());
            let found = serin_config::Config::parse(&serin_config::source::Source::new("t", &*text));
            assert!(found.is_ok(), "{text}\n{found:?}");
        }
    }
}
