//! What the demo looks like: moving bars where somebody watches, plain lines otherwise.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use console::{Term, style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::OVERRIDE;
use super::tally::Tally;

/// Prints a line. A reader that has gone away (`serin demo | head`) is no failure of the demo.
macro_rules! say {
    ($($text:tt)*) => {{
        let _reader_has_gone = writeln!(std::io::stdout().lock(), $($text)*);
    }};
}

/// Characters of a full bar.
const BAR: u32 = 40;

pub(super) struct Screen {
    watched: bool,
}

/// The weight of a canary.
pub(super) struct Line(Option<ProgressBar>);

/// How finely the line moves.
const LINE_PARTS: u64 = 1_000;

/// One bar for each version.
pub(super) struct Bars {
    total: u32,
    moving: Option<[ProgressBar; 2]>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { watched: Term::stdout().features().is_attended() }
    }

    /// Does a person watch a terminal?
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    pub(super) fn headline(&self, text: &str) {
        say!("\n{}\n", style(text).bold());
    }

    pub(super) fn fact(&self, name: &str, value: &str) {
        say!("  {name:<10}{}", style(value).cyan());
    }

    pub(super) fn step(&self, number: u32, title: &str, text: &str) {
        say!("\n{} {}  {text}", style(number).bold().yellow(), style(title).bold());
    }

    pub(super) fn quote(&self, text: &str) {
        say!("  {}", style(text).cyan());
    }

    pub(super) fn held(&self, text: &str) {
        say!("  {} {text}", style("✓").green().bold());
    }

    pub(super) fn done(&self) {
        say!("\n{}", style("All of it held.").bold());
        say!("Leave it running and play: {}", style("serin demo --keep").cyan());
    }

    /// What to try while it runs.
    pub(super) fn keep(&self, proxy: SocketAddr, admin: SocketAddr, file: &Path) {
        say!("\n{}  Try, in another terminal:\n", style("It runs until Ctrl-C.").bold());
        let lines = [
            format!("curl -H 'Host: world' http://{proxy}/"),
            format!("curl -H 'Host: world' -H 'l5d-dtab: {OVERRIDE}' http://{proxy}/"),
            format!("http_proxy=http://{proxy} curl http://world/"),
            format!("curl -i -H 'Host: world' http://{proxy}/status/503"),
            format!("curl 'http://{admin}/readyz?verbose'"),
            format!("curl 'http://{admin}/api/v1/explain?host=world'"),
            format!("serin rollout list --admin {admin}"),
            format!("serin explain {} -H 'Host: world'", file.display()),
            format!("$EDITOR {}     # another canary, save, watch", file.display()),
        ];
        lines.iter().for_each(|line| say!("  {}", style(line).cyan()));
        say!("");
    }

    /// A line that moves with the weight of a canary; nothing where nobody watches.
    pub(super) fn line(&self) -> Line {
        let template = ProgressStyle::with_template("  weight    {bar:30.green/black.bright} {msg}");
        let look = template.map_or_else(|_| ProgressStyle::default_bar(), |look| look.progress_chars("━━╌"));
        let bar = |()| {
            let bar = ProgressBar::with_draw_target(Some(LINE_PARTS), ProgressDrawTarget::stdout());
            bar.with_style(look)
        };
        Line(self.watched.then_some(()).map(bar))
    }

    pub(super) fn bars(&self, total: u32) -> Bars {
        // a template without placeholders that could be wrong; should it be refused all the same, the default bar moves
        let template = ProgressStyle::with_template("  {prefix:<10}{bar:40.green/black.bright} {msg}");
        let look = template.map_or_else(|_| ProgressStyle::default_bar(), |look| look.progress_chars("━━╌"));
        let moving = self.watched.then(|| {
            let both = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            ["world-v1", "world-v2"].map(|name| {
                let bar = both.add(ProgressBar::new(u64::from(total)).with_style(look.clone()).with_prefix(name));
                bar.tick();
                bar
            })
        });
        Bars { total, moving }
    }
}

impl Line {
    /// `share` from 0 to 1.
    pub(super) fn show(&self, share: f64, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_position((share * LINE_PARTS as f64) as u64);
            bar.set_message(format!("{:>3.0} %  {text}", share * 100.0));
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.abandon();
        }
    }
}

impl Bars {
    pub(super) fn show(&self, tally: &Tally) {
        let Some(bars) = &self.moving else { return };
        for (bar, count) in bars.iter().zip([tally.v1, tally.v2]) {
            bar.set_position(u64::from(count));
            bar.set_message(share(count, tally.sum()));
        }
    }

    pub(super) fn finish(&self, tally: &Tally) {
        self.show(tally);
        match &self.moving {
            Some(bars) => {
                bars.iter().for_each(ProgressBar::abandon);
                // the cursor stands behind the last bar
                say!("");
            }
            None => {
                for (name, count) in [("world-v1", tally.v1), ("world-v2", tally.v2)] {
                    let filled = count * BAR / self.total.max(1);
                    let bar: String = (0..BAR).map(|at| if at < filled { '#' } else { '.' }).collect();
                    say!("  {name:<10}{bar} {}", share(count, tally.sum()));
                }
            }
        }
    }
}

fn share(count: u32, sum: u32) -> String {
    format!("{count:>5}  {:>5.1} %", f64::from(count) * 100.0 / f64::from(sum.max(1)))
}
