//! The last acts: a good canary is promoted, one that fails and one that hangs are rolled back, while users go on asking.

use std::sync::Arc;
use std::time::Duration;

use super::crowd::{Crowd, Sight};
use super::screen::Screen;
use super::{DemoError, Stand, interrupted, io, weights};
use crate::clock;
use crate::judge::View;

/// Name of the rollout.
const ROLLOUT: &str = "world";
/// A good canary must be promoted within this time, and a bad one be out.
const END_MS_MAX: u64 = 45_000;
/// After a rollback so many requests must go well.
const QUIET_REQUESTS: u64 = 500;
/// Not before this time, and within that.
const QUIET_MS_MIN: u64 = 1_300;
const QUIET_MS_MAX: u64 = 10_000;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// What the file gets.
const RULES: &str = "
storage: {kind: file, dir: state}

rollouts:
- name: world
  router: demo
  path: /host/world
  primary: /srv/world-v1
  canary: /srv/world-v2
  pace: evidence
  # clients, proxy and all versions share one machine here, which may be busy: only what is much slower counts
  guard: {tolerances: {slow50: 10, slow90: 10, slow99: 4}}
  analysis: {interval: 1s, threshold: 3, stepWeights: [5, 25, 50]}
";

pub(super) fn play(screen: &Screen, stand: &Stand, share: u32) -> Result<(), DemoError> {
    let crowd = Crowd::start(stand.proxy).map_err(io("starting the users"))?;
    let played = acts(screen, stand, &crowd, share);
    crowd.stop();
    played
}

fn acts(screen: &Screen, stand: &Stand, crowd: &Crowd, share: u32) -> Result<(), DemoError> {
    screen.step(4, "Rollout", "a good canary: as fast as the evidence lets it");
    screen.quote("canary: /srv/world-v2    stepWeights: [5, 25, 50]");
    edit(stand, |text| format!("{}{RULES}", text.replace(&weights(share), "/srv/world-v1")))?;
    promoted(screen, stand, crowd)?;
    screen.step(5, "Bad canary", "version 3 answers every fifth request with 500");
    screen.quote("canary: /srv/world-v3");
    edit(stand, |text| text.replace("canary: /srv/world-v2", "canary: /srv/world-v3"))?;
    rolled_back(screen, stand, crowd, "world-v3")?;
    screen.step(6, "Hanging canary", "version 4 takes requests and never answers");
    screen.quote("canary: /srv/world-v4");
    edit(stand, |text| text.replace("canary: /srv/world-v3", "canary: /srv/world-v4"))?;
    rolled_back(screen, stand, crowd, "world-v4")
}

fn edit(stand: &Stand, change: impl FnOnce(String) -> String) -> Result<(), DemoError> {
    let text = stand.folder.read().map_err(io("reading the file"))?;
    stand.folder.write(&change(text)).map_err(io("editing the file"))
}

fn promoted(screen: &Screen, stand: &Stand, crowd: &Crowd) -> Result<(), DemoError> {
    crowd.take();
    let began_us = clock::now_us();
    follow(screen, stand, crowd, "world-v2", "promoted")?;
    let (took_ms, saw) = (since_ms(began_us), crowd.take());
    if saw.failed > 0 {
        return Err(DemoError::Claim(format!("{} of {} requests failed on a good canary", saw.failed, saw.sent)));
    }
    screen.held(&format!("promoted {} after the edit; {} requests, none failed", seconds(took_ms), saw.sent));
    Ok(())
}

fn rolled_back(screen: &Screen, stand: &Stand, crowd: &Crowd, version: &str) -> Result<(), DemoError> {
    crowd.take();
    let view = follow(screen, stand, crowd, version, "rolled-back")?;
    let ended_us = clock::now_us();
    let saw = until_quiet(stand, crowd)?;
    let why = view.last.as_ref().map_or_else(String::new, |told| told.text.clone());
    screen.quote(&why);
    let when = match saw.first_failure_us {
        Some(first_us) if first_us < ended_us => {
            format!("{} after a user saw it fail", seconds(ended_us.saturating_sub(first_us) / 1_000))
        }
        _ => "before a user saw it fail".to_owned(),
    };
    screen.held(&format!(
        "out {when}: {} of {} requests failed; evidence {:.0}, the limit is {:.0}",
        saw.failed, saw.sent, view.evidence.score, view.evidence.rolls_back_at,
    ));
    Ok(())
}

/// Waits until the rollout of this version has ended so.
fn follow(screen: &Screen, stand: &Stand, crowd: &Crowd, version: &str, wanted: &str) -> Result<Arc<View>, DemoError> {
    let began_us = clock::now_us();
    let line = screen.line();
    loop {
        let views = stand.running.judge.views();
        if let Some(view) = views.iter().find(|view| &*view.name == ROLLOUT && view.revision.ends_with(version)) {
            let (sent, failed) = crowd.counts();
            line.show(f64::from(view.weight_ppm) / 1e6, &format!("{sent} requests, {failed} failed"));
            if view.phase == wanted {
                line.finish();
                return Ok(Arc::clone(view));
            }
            if ["promoted", "rolled-back"].contains(&view.phase.as_str()) {
                let why = view.last.as_ref().map_or("", |told| &told.text);
                return Err(DemoError::Claim(format!("{version} is {}, not {wanted}: {why}", view.phase)));
            }
        }
        if since_ms(began_us) > END_MS_MAX {
            let stands = views.iter().map(|view| format!("{} at {} ppm", view.phase, view.weight_ppm)).next();
            let stands = stands.or_else(|| stand.running.status().rejected.as_deref().map(str::to_owned));
            return Err(DemoError::Claim(format!("{version} is not {wanted} in time: {}", stands.unwrap_or_default())));
        }
        interrupted(stand)?;
        std::thread::sleep(LOOK);
    }
}

/// What users saw from the last [`Crowd::take`] on until none of them saw a failure any more.
fn until_quiet(stand: &Stand, crowd: &Crowd) -> Result<Sight, DemoError> {
    let began_us = clock::now_us();
    let mut all = Sight::default();
    let mut quiet = 0;
    // who still waits for an answer loses patience first
    while quiet < QUIET_REQUESTS || since_ms(began_us) < QUIET_MS_MIN {
        if since_ms(began_us) > QUIET_MS_MAX {
            return Err(DemoError::Claim(format!("requests go on failing after the rollback: {}", all.failed)));
        }
        interrupted(stand)?;
        std::thread::sleep(LOOK);
        let saw = crowd.take();
        quiet = if saw.failed > 0 { 0 } else { quiet + saw.sent };
        all = all.and(saw);
    }
    Ok(all)
}

fn since_ms(us: u64) -> u64 {
    clock::now_us().saturating_sub(us) / 1_000
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1_000.0)
}
