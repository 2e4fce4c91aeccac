//! The first line of an HTTP/1.1 request, as it passes on its way to hyper.
//!
//! hyper takes the fragment off a target without a word, and of a line that does not end it says that the fields are too
//! large. What is noted here tells what happened. Seen is the line that stands in front of what is read while no request is
//! under way; one that was pipelined behind another request is not.

use super::Link;

/// So much of a line that comes in many reads is kept: hyper reads no longer target.
const KEPT_MAX: usize = 64 << 10;

/// The first line that came last.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Whose it is: the requests before it, and it.
    request: u32,
    /// Its end has not come.
    open: bool,
    /// `kept` ends where a fragment begins.
    fragment: bool,
    /// What came of it, if that was needed.
    kept: Vec<u8>,
}

impl Line {
    /// These octets come in while no request is under way, behind so many requests.
    pub(super) fn read(&mut self, octets: &[u8], served: u32) {
        let request = served.wrapping_add(1);
        if self.request != request {
            *self = Self { request, open: true, fragment: false, kept: Vec::new() };
        }
        if !self.open {
            return;
        }
        let blank = if self.kept.is_empty() {
            octets.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count()
        } else {
            0
        };
        let octets = &octets[blank..];
        let end = octets.iter().position(|&octet| octet == b'\n');
        self.open = end.is_none();
        if self.fragment {
            return;
        }
        let part = &octets[..end.unwrap_or(octets.len())];
        let fragment = part.iter().position(|&octet| octet == b'#');
        self.fragment = fragment.is_some();
        if self.open || self.fragment {
            let part = &part[..fragment.unwrap_or(part.len())];
            self.kept.extend_from_slice(&part[..part.len().min(KEPT_MAX - self.kept.len())]);
        } else {
            self.kept = Vec::new();
        }
    }

    /// Is there a line whose end has not come.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Was a fragment taken off the target of the request that was read. What was kept is forgotten.
    pub(super) fn take_fragment(&mut self, method: &str, target: &str) -> bool {
        let kept = std::mem::take(&mut self.kept);
        let cut = std::mem::take(&mut self.fragment);
        cut && kept.starts_with(method.as_bytes()) && (kept.ends_with(target.as_bytes()) || target == "/")
    }
}

impl Link {
    /// hyper is given these octets of HTTP/1.
    pub(in crate::conn) fn note_head(&self, octets: &[u8]) {
        if self.is_idle() {
            self.line.borrow_mut().read(octets, self.served());
        }
    }

    /// Is there a first line whose end has not come.
    pub(in crate::conn) fn is_line_open(&self) -> bool {
        self.line.borrow().is_open()
    }

    /// Did the target of the request that has begun have a fragment, which nobody sees any more.
    pub(in crate::conn) fn take_fragment(&self, method: &str, target: &str) -> bool {
        self.line.borrow_mut().take_fragment(method, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_fragment(cut: bool, reads: &[&str], method: &str, target: &str) {
        let mut line = Line::default();
        for read in reads {
            line.read(read.as_bytes(), 0);
        }
        assert_eq!(line.take_fragment(method, target), cut, "{reads:?}");
        assert!(!line.take_fragment(method, target), "once: {reads:?}");
        assert_eq!(line.kept.capacity(), 0, "nothing is kept: {reads:?}");
    }

    #[test]
    fn a_fragment_is_noted_in_the_first_line_alone() {
        check_fragment(true, &["GET /a?b#c HTTP/1.1\r\nHost: web\r\n\r\n"], "GET", "/a?b");
        check_fragment(true, &["\r\nGET /a# HTTP/1.1\r\n"], "GET", "/a");
        check_fragment(true, &["\r", "\nGET /", "a", "#b#c HTTP", "/1.1\r\n"], "GET", "/a");
        check_fragment(true, &["GET http://web#c HTTP/1.1\r\n"], "GET", "/");
        check_fragment(false, &["GET /a HTTP/1.1\r\nX-A: /a#b\r\n\r\n"], "GET", "/a");
        check_fragment(false, &["GET /a HTTP/1.1\r\n", "X-A: GET /a#b\r\n\r\n"], "GET", "/a");
        // the middle of a head that was pipelined
        check_fragment(false, &["X-A: /a#b\r\n\r\n"], "GET", "/a");
        check_fragment(false, &["GET /b#c HTTP/1.1\r\n"], "GET", "/a");
    }

    #[test]
    fn each_request_has_a_line() {
        let mut line = Line::default();
        line.read(b"GET / HTTP/1.1\r\nX", 0);
        assert!(!line.is_open());
        line.read(b": y#z", 0);
        assert!(!line.is_open() && !line.fragment);
        line.read(b"GET /a", 1);
        assert!(line.is_open());
        line.read(b"#b HTTP/1.1\r\n", 1);
        assert!(!line.is_open() && line.take_fragment("GET", "/a"));
    }

    #[test]
    fn what_is_kept_of_a_line_is_bounded() {
        let mut line = Line::default();
        line.read(&vec![b'x'; KEPT_MAX], 0);
        assert_eq!(line.kept.len(), KEPT_MAX);
        line.read(b"x", 0);
        assert_eq!((line.kept.len(), line.is_open()), (KEPT_MAX, true));
    }
}
