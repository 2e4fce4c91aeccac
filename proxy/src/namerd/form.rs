//! PURE: the forms in which dtabs are sent and asked for.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serin_config::dtab::Dtab;

use super::answer::{JSON, line};
use crate::dtabs::Draft;
use crate::dtabs::text::{self, BadDtab};

/// In which form a dtab is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Dtab,
    Json,
    Plain,
}

impl Form {
    const ALL: [Self; 3] = [Self::Dtab, Self::Json, Self::Plain];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dtab => "application/dtab",
            Self::Json => JSON,
            Self::Plain => "text/plain",
        }
    }

    /// Parameters such as a charset count for nothing.
    fn of(value: &str) -> Option<Self> {
        let bare = value.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|form| bare.eq_ignore_ascii_case(form.name()))
    }

    pub(super) fn sent(headers: &HeaderMap) -> Option<Self> {
        Self::of(headers.get(CONTENT_TYPE)?.to_str().ok()?)
    }

    /// The first one in the order of `Accept`, whatever its quality; otherwise JSON.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().map(HeaderValue::to_str).filter_map(Result::ok);
        values.flat_map(|value| value.split(',')).find_map(Self::of).unwrap_or(Self::Json)
    }

    pub(super) fn read(self, body: &[u8]) -> Result<Draft, BadDtab> {
        match self {
            Self::Json => text::read_json(body),
            Self::Dtab | Self::Plain => text::read(body),
        }
    }

    pub(super) fn write(self, dtab: &Dtab) -> String {
        match self {
            Self::Json => line(&text::entries(dtab)),
            Self::Dtab | Self::Plain => format!("{dtab}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_found_in_the_order_of_the_header() {
        let accepted = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, value.parse().unwrap());
            Form::accepted(&headers)
        };
        assert_eq!(accepted("application/dtab"), Form::Dtab);
        assert_eq!(accepted("image/png, text/plain;q=0.1, application/json"), Form::Plain);
        assert_eq!(accepted("*/*"), Form::Json);
        assert_eq!(Form::accepted(&HeaderMap::new()), Form::Json);
        assert_eq!(Form::of("Application/DTAB ; charset=utf-8"), Some(Form::Dtab));
        assert_eq!(Form::of("application/x-www-form-urlencoded"), None);
    }
}
