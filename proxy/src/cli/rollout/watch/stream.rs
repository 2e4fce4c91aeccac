//! Server-sent events, as far as Serin sends them: `data:` lines, an empty line behind each event, comments.

use std::io::{BufRead, Read};

use crate::judge::Told;

/// Octets of a line; an event is one.
const LINE_MAX: u64 = 64 << 10;

/// Hands events on until the stream ends or `take` says no. Comes back with why it ended; empty: in peace.
pub(super) fn read(mut reader: impl BufRead, take: &mut dyn FnMut(Told) -> bool) -> String {
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return String::new(),
            Err(error) => return format!("the stream of events broke: {error}"),
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') {
            return "the stream of events broke in the middle of a line".to_owned();
        }
        let Some(data) = line.strip_prefix(b"data:") else { continue };
        match serde_json::from_slice(data) {
            Ok(told) => {
                if !take(told) {
                    return String::new();
                }
            }
            Err(error) => return format!("an event is not understood: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64) -> String {
        let told = serde_json::json!({
            "sequence": sequence, "at_ms": 1, "rollout": "world", "code": "start", "text": "Starting", "kind": "Normal",
            "weight_ppm": 0, "score": null, "who": null, "why": null,
        });
        format!("id: {sequence}\ndata: {told}\n\n")
    }

    fn read_all(text: &str) -> (Vec<u64>, String) {
        let mut seen = Vec::new();
        let why = read(text.as_bytes(), &mut |told| {
            seen.push(told.sequence);
            true
        });
        (seen, why)
    }

    #[test]
    fn events_come_between_signs_of_life() {
        let text = format!("retry: 1000\n\n: still here\n\n{}: still here\n\n{}", event(1), event(2));
        assert_eq!(read_all(&text), (vec![1, 2], String::new()));
    }

    #[test]
    fn what_is_cut_or_strange_is_said() {
        let whole = event(1);
        assert!(read_all(&whole[..whole.len() - 10]).1.contains("in the middle"));
        assert!(read_all("data: {}\n\n").1.contains("not understood"));
        let long = format!(":{}\n", " ".repeat(usize::try_from(LINE_MAX).unwrap()));
        assert!(read_all(&long).1.contains("in the middle"));
        assert_eq!(read_all(&long[2..]).1, "", "a line at the limit");
    }

    #[test]
    fn nobody_who_listens_ends_it() {
        let mut seen = 0;
        let text = format!("{}{}", event(1), event(2));
        assert_eq!(
            read(text.as_bytes(), &mut |_| {
                seen += 1;
                false
            }),
            ""
        );
        assert_eq!(seen, 1);
    }
}
