//! How it goes for team files: lines of `/readyz?verbose`, and `/teams.json`.

use std::fmt::Write;

use serde::Serialize;
use serin_config::teams::TeamState;

use crate::control::TeamStatus;

/// One team of `/teams.json`.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Team<'a> {
    name: &'a str,
    state: &'static str,
    /// Unix time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    serves_since_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a str>,
}

pub(super) fn page(teams: &[TeamStatus]) -> Vec<Team<'_>> {
    teams.iter().map(of).collect()
}

fn of(team: &TeamStatus) -> Team<'_> {
    let TeamStatus { name, state, since_ms, report } = team;
    Team { name, state: state.as_str(), serves_since_ms: *since_ms, report: report.as_deref() }
}

/// A line for each team; one that was refused with its reasons.
pub(super) fn ready_lines(text: &mut String, teams: &[TeamStatus]) {
    for team in teams {
        let name = &team.name;
        let report = team.report.as_deref().unwrap_or_default();
        // writing to a string cannot fail
        let _ = match team.state {
            TeamState::Current => writeln!(text, "[+] team {name}: its file is in force"),
            TeamState::LastGood => {
                writeln!(text, "[-] team {name}: its file is rejected, its last good version serves:\n{report}")
            }
            TeamState::Out => {
                writeln!(text, "[-] team {name}: its file is rejected, and no version of it serves:\n{report}")
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn team(state: TeamState) -> TeamStatus {
        let report = (state != TeamState::Current).then(|| "the reason".into());
        TeamStatus { name: "web".into(), state, since_ms: (state != TeamState::Out).then_some(7), report }
    }

    #[track_caller]
    fn check(state: TeamState, mark: &str, json: &str) {
        let teams = [team(state)];
        let mut text = String::new();
        ready_lines(&mut text, &teams);
        assert!(text.starts_with(mark) && text.contains("team web"), "{text}");
        assert_eq!(text.contains("the reason"), mark == "[-]");
        assert_eq!(serde_json::to_string(&page(&teams)).unwrap(), json);
    }

    #[test]
    fn a_team_is_told_by_its_state() {
        check(TeamState::Current, "[+]", r#"[{"name":"web","state":"current","servesSinceMs":7}]"#);
        check(
            TeamState::LastGood,
            "[-]",
            r#"[{"name":"web","state":"last-good","servesSinceMs":7,"report":"the reason"}]"#,
        );
        check(TeamState::Out, "[-]", r#"[{"name":"web","state":"out","report":"the reason"}]"#);
    }
}
