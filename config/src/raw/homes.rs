//! Where keys belong that stand elsewhere when the indentation is wrong.

/// The keys of a place, with its name behind "a key of".
const HOMES: [(&str, &[&str]); 3] = [
    (
        "the file, at the beginning of a line",
        &[
            "admin",
            "clusters",
            "interfaces",
            "metricTemplates",
            "namers",
            "rollouts",
            "routers",
            "storage",
            "telemetry",
        ],
    ),
    (
        "a router",
        &[
            "bindingTimeoutMs",
            "client",
            "dstPrefix",
            "dtab",
            "identifier",
            "overrides",
            "protocol",
            "rules",
            "servers",
            "service",
            "splits",
        ],
    ),
    ("an entry of `servers`", &["clearContext", "exposure", "maxConcurrentRequests", "port", "trustedSources"]),
];

/// The place of a key.
pub(super) fn home(key: &str) -> Option<&'static str> {
    HOMES.iter().find(|(_, keys)| keys.contains(&key)).map(|(home, _)| *home)
}

#[cfg(test)]
mod tests {
    use super::HOMES;
    use crate::{Config, Source};

    #[test]
    fn every_key_is_known_where_it_is_said_to_be() {
        let texts: [fn(&str) -> String; 3] = [
            |key| format!("{key}: \n"),
            |key| format!("routers: [{{{key}: }}]\n"),
            |key| format!("routers: [{{servers: [{{{key}: }}]}}]\n"),
        ];
        for ((home, keys), text) in HOMES.iter().zip(texts) {
            for key in *keys {
                let mistakes = Config::parse(&Source::new("t", text(key))).unwrap_err();
                let said: Vec<&str> = mistakes.iter().map(|one| one.message.as_str()).collect();
                assert!(said.contains(&format!("`{key}` has no value").as_str()), "{home}: {said:?}");
                assert!(!said.iter().any(|one| one.contains("unknown key")), "{home}: {said:?}");
            }
        }
    }
}
