//! PURE: figures and colours as people read them.

use serin_rollout::Ppm;

/// Colours, where somebody looks and wants them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// On a terminal, unless `NO_COLOR` is set.
    pub(super) fn of(terminal: bool) -> Self {
        Self(terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(super) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// A phase in the colour of what it means.
    pub(super) fn phase(self, phase: &str) -> String {
        match phase {
            "promoted" => self.green(phase),
            "rolled-back" => self.red(phase),
            "waiting" | "waiting-promotion" => self.yellow(phase),
            "progressing" | "promoting" | "finalising" => self.cyan(phase),
            _ => phase.to_owned(),
        }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A share of a million as a percentage.
pub(super) fn share(ppm: u32) -> String {
    Ppm::clamped(ppm.into()).to_string()
}

/// `12,345`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Failures, and what part of the requests that are over they are.
pub(super) fn failures(failed: u64, requests: u64) -> String {
    match requests {
        0 => count(failed),
        _ => format!("{} ({})", count(failed), part(failed as f64 / requests as f64)),
    }
}

/// A part of a whole as a percentage with two digits that say something.
pub(super) fn part(part: f64) -> String {
    let percent = part * 100.0;
    let text = match percent {
        10.0.. => format!("{percent:.1}"),
        _ => format!("{percent:.2}"),
    };
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short}%")
}

/// A rate, a score: three digits that say something; what is beyond all bounds as such.
pub(super) fn figure(number: f64) -> String {
    match number {
        1e6.. => "more than a million".to_owned(),
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

pub(super) fn millis(ms: Option<f64>) -> String {
    ms.map_or_else(
        || "-".to_owned(),
        |ms| format!("{} ms", if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }),
    )
}

/// How long something took: the two largest units.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    let two = |large: u64, unit: &str, small: u64, sub: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {sub}"),
    };
    match seconds {
        ..1 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// `2026-11-21 06:12:16`, UTC.
pub(super) fn moment(ms: u64) -> String {
    let (year, month, day) = civil(ms / 86_400_000);
    format!("{year:04}-{month:02}-{day:02} {}", clock(ms))
}

/// `06:12:16`, UTC.
pub(super) fn clock(ms: u64) -> String {
    let seconds = ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Days since 1970 as a date of the Gregorian calendar: eras of 400 years, years from March on.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Rows with columns under each other. Colours do not count.
pub(super) fn table(rows: &[Vec<String>], indent: &str) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| console::measure_text_width(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width + 2 - console::measure_text_width(cell)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `10m`, `90s`, `500ms`, `1h`: milliseconds.
pub(super) fn time(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    let ms = number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    ms.filter(|ms| *ms <= TIME_MS_MAX).ok_or_else(|| "write a time such as 90s, 10m or 1h, at most 24h".to_owned())
}

/// The longest wait.
const TIME_MS_MAX: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_say_no_more_than_they_know() {
        assert_eq!((count(0), count(999), count(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!(
            (failures(3, 1_234), failures(0, 0), failures(7, 7)),
            ("3 (0.24%)".into(), "0".into(), "7 (100%)".into())
        );
        assert_eq!((figure(0.352), figure(12.34), figure(123.4)), ("0.35".into(), "12.3".into(), "123".into()));
        assert_eq!(figure(f64::MAX), "more than a million");
        assert_eq!(
            (millis(None), millis(Some(1.25)), millis(Some(130.4))),
            ("-".into(), "1.2 ms".into(), "130 ms".into())
        );
        assert_eq!(share(12_500), "1.25%");
    }

    #[test]
    fn times_have_their_two_largest_units() {
        let spans = [0, 999, 1_000, 61_000, 120_000, 3_661_000, 90_000_000].map(span);
        assert_eq!(spans, ["0 ms", "999 ms", "1 s", "1 min 1 s", "2 min", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00:00");
        assert_eq!(moment(951_782_399_000), "2000-02-28 23:59:59");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(moment(1_795_241_536_000), "2026-11-21 06:12:16");
    }

    #[test]
    fn waits_are_read_and_bounded() {
        assert_eq!((time("10m"), time("500ms"), time("24h")), (Ok(600_000), Ok(500), Ok(TIME_MS_MAX)));
        for text in ["", "10", "m", "0s", "25h", "1d", "-1s", "99999999999999999999h", "1 m"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn colours_do_not_move_columns() {
        let rows = |paint: Paint| vec![vec![paint.red("ab"), "c".into()], vec!["abcd".into(), paint.bold("e")]];
        assert_eq!(table(&rows(Paint(false)), " "), " ab    c\n abcd  e\n");
        let colored = table(&rows(Paint(true)), " ");
        assert_eq!(console::strip_ansi_codes(&colored), " ab    c\n abcd  e\n");
        assert!(colored.contains("\u{1b}[31mab\u{1b}[0m"));
    }
}
