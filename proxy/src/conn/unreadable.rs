//! PURE: what hyper says by itself to a client whose request it cannot read. Its answer is a status and nothing else; ours
//! say in `l5d-err` what was wrong.

/// How such an answer ends.
const END: &[u8] = b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nl5d-err: bad-request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const URI_TOO_LONG: &[u8] =
    b"HTTP/1.1 414 URI Too Long\r\nl5d-err: uri-too-long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const HEADERS_TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\nl5d-err: headers-too-large\r\n\
connection: close\r\ncontent-length: 0\r\n\r\n";

/// What is to stand in place of such an answer, if what hyper writes is one. `line_open`: the end of the first line has not
/// come, so it is the target that is too long.
pub(super) fn named(written: &[u8], line_open: bool) -> Option<&'static [u8]> {
    match written.strip_suffix(END)? {
        b"HTTP/1.1 400 Bad Request" => Some(BAD_REQUEST),
        b"HTTP/1.1 431 Request Header Fields Too Large" if !line_open => Some(HEADERS_TOO_LARGE),
        b"HTTP/1.1 414 URI Too Long" | b"HTTP/1.1 431 Request Header Fields Too Large" => Some(URI_TOO_LONG),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProxyError;

    fn check_named(line: &str, line_open: bool, error: &ProxyError) {
        let bare = format!("{line}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let named = named(bare.as_bytes(), line_open).unwrap();
        let (status, err) = (error.status(), error.label());
        let wanted = format!("HTTP/1.1 {status}\r\nl5d-err: {err}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(std::str::from_utf8(named), Ok(&*wanted), "{line}");
    }

    #[test]
    fn answers_of_hyper_get_the_name_of_the_error() {
        check_named("HTTP/1.1 400 Bad Request", true, &ProxyError::BadRequest(""));
        check_named("HTTP/1.1 414 URI Too Long", false, &ProxyError::UriTooLong);
        check_named("HTTP/1.1 431 Request Header Fields Too Large", false, &ProxyError::HeadersTooLarge);
        check_named("HTTP/1.1 431 Request Header Fields Too Large", true, &ProxyError::UriTooLong);
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        for written in [
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nvia: 1.1 serin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            // the end of a body
            "see: HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "",
        ] {
            assert_eq!(named(written.as_bytes(), false), None, "{written:?}");
        }
    }
}
