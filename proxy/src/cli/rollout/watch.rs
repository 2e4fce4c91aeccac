//! `serin rollout watch`: a rollout as it goes. On a terminal a picture that moves, elsewhere one line for each event.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use console::Term;
use tokio::sync::mpsc::{self, Receiver, Sender};

use self::screen::{Scene, Weights, draw};
use super::super::{Output, failed};
use super::remote::{Remote, RemoteArgs, path_of};
use super::show;
use super::words::Paint;
use crate::admin::desk::Past;
use crate::clock;
use crate::judge::{Told, View};

mod screen;
mod stream;

/// Between two looks at the rollout.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Before the next try after the connection broke.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Events that are kept for the picture.
const EVENTS_MAX: usize = 64;
/// News that wait to be shown.
const NEWS_MAX: usize = 64;
/// Entries of the journal that the picture begins with.
const HISTORY: usize = 200;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  serin rollout watch world\n  serin rollout watch world > log    # one line for each event\n  serin rollout watch world -o json"
)]
pub(in crate::cli) struct WatchArgs {
    /// The rollout
    name: String,
    /// How to show it; json is one event a line
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Something to show.
enum News {
    Told(Box<Told>),
    View(Box<View>),
    /// Why nothing comes.
    Lost(String),
}

pub(super) fn watch(args: &WatchArgs) -> ExitCode {
    let remote = Remote::find(&args.remote);
    let path = path_of(&args.name);
    // whom there is nothing to see of is told so before the screen is taken
    let view = match remote.get::<View>(&path) {
        Ok(view) => view,
        Err(error) => return failed(&error),
    };
    let live = args.output == Output::Text && io::stdout().is_terminal();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let (sender, news) = mpsc::channel(NEWS_MAX);
    let filter = format!("/api/v1/events?rollout={}", view.name);
    let events = if live { format!("{filter}&after=0") } else { filter };
    let threads = [
        follow(remote.clone(), events, sender.clone()),
        if live { look(remote.clone(), path.clone(), sender) } else { Ok(()) },
    ];
    if let Some(error) = threads.into_iter().find_map(Result::err) {
        return failed(&error);
    }
    let ended = if live {
        let past = remote.get::<Vec<Past>>(&format!("{path}/history?max={HISTORY}")).unwrap_or_default();
        let picture = Picture::new(view, &past);
        runtime.block_on(show_live(picture, news))
    } else {
        runtime.block_on(show_lines(args.output, news))
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        // a reader that has gone away is no failure of ours
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Tells of events until nobody listens, and connects again whenever that breaks.
fn follow(remote: Remote, path: String, sender: Sender<News>) -> io::Result<()> {
    let told = move || {
        let mut last = None;
        loop {
            let why = match remote.events(&path, last) {
                Err(error) => error.to_string(),
                Ok(reader) => stream::read(reader, &mut |told: Told| {
                    last = Some(told.sequence);
                    sender.blocking_send(News::Told(Box::new(told))).is_ok()
                }),
            };
            if sender.blocking_send(News::Lost(why)).is_err() {
                return;
            }
            std::thread::sleep(RETRY_AFTER);
        }
    };
    std::thread::Builder::new().name("serin-events".into()).spawn(told).map(|_| ())
}

/// Looks at the rollout again and again.
fn look(remote: Remote, path: String, sender: Sender<News>) -> io::Result<()> {
    let looks = move || {
        loop {
            let news = match remote.get::<View>(&path) {
                Ok(view) => News::View(Box::new(view)),
                Err(error) => News::Lost(error.to_string()),
            };
            if sender.blocking_send(news).is_err() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    };
    std::thread::Builder::new().name("serin-looks".into()).spawn(looks).map(|_| ())
}

/// One line for each event, until Ctrl-C.
async fn show_lines(output: Output, mut news: Receiver<News>) -> io::Result<()> {
    let paint = Paint::of(io::stdout().is_terminal());
    let mut lost = false;
    loop {
        let next = tokio::select! {
            stopped = tokio::signal::ctrl_c() => return stopped,
            next = news.recv() => next,
        };
        match next {
            Some(News::Told(told)) => {
                lost = false;
                let line = match output {
                    Output::Text => show::event(&told, paint),
                    // plain data: it always has a JSON form
                    Output::Json => serde_json::to_string(&told).unwrap_or_default(),
                };
                let mut out = io::stdout().lock();
                writeln!(out, "{line}")?;
                out.flush()?;
            }
            Some(News::Lost(why)) if !lost && !why.is_empty() => {
                eprintln!("{why}\ntrying again until Ctrl-C");
                lost = true;
            }
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// What is on the screen.
struct Picture {
    view: View,
    weights: Weights,
    events: VecDeque<Told>,
    lost: Option<String>,
}

impl Picture {
    fn new(view: View, past: &[Past]) -> Self {
        let mut weights = Weights::default();
        past.iter().for_each(|entry| weights.push(entry.at_ms, entry.weight_ppm));
        weights.push(view.step_started_ms, view.weight_ppm);
        Self { view, weights, events: VecDeque::new(), lost: None }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Told(told) => {
                self.weights.push(told.at_ms, told.weight_ppm);
                self.events.push_back(*told);
                if self.events.len() > EVENTS_MAX {
                    self.events.pop_front();
                }
            }
            News::View(view) => {
                self.weights.push(view.step_started_ms, view.weight_ppm);
                self.view = *view;
                self.lost = None;
            }
            // a stream that ended in peace is opened again
            News::Lost(why) if why.is_empty() => {}
            News::Lost(why) => self.lost = Some(why),
        }
    }

    fn show(&self, screen: &mut Screen, paint: Paint) -> io::Result<()> {
        let (rows, columns) = screen.term.size();
        let scene = Scene {
            view: &self.view,
            weights: &self.weights,
            events: &self.events,
            lost: self.lost.as_deref(),
            now_ms: clock::unix_ms(),
        };
        screen.put(&draw(&scene, usize::from(columns), usize::from(rows), paint))
    }
}

/// The picture, until Ctrl-C.
async fn show_live(mut picture: Picture, mut news: Receiver<News>) -> io::Result<()> {
    let paint = Paint::of(true);
    let mut screen = Screen::take()?;
    loop {
        picture.show(&mut screen, paint)?;
        let next = tokio::select! {
            stopped = tokio::signal::ctrl_c() => {
                drop(screen);
                let status = show::status(&picture.view, clock::unix_ms(), paint);
                io::stdout().lock().write_all(status.as_bytes())?;
                return stopped;
            }
            next = news.recv() => next,
        };
        match next {
            Some(next) => picture.take(next),
            None => return Ok(()),
        }
        // what came meanwhile is one picture
        while let Ok(next) = news.try_recv() {
            picture.take(next);
        }
    }
}

/// The whole terminal, given back however this ends.
struct Screen {
    term: Term,
}

impl Screen {
    /// The other buffer of the terminal, without a cursor.
    fn take() -> io::Result<Self> {
        let mut out = io::stdout().lock();
        out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[2J")?;
        out.flush()?;
        Ok(Self { term: Term::stdout() })
    }

    /// One write, line by line over the old picture: it does not flicker.
    fn put(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            text.push_str(if at > 0 { "\r\n" } else { "" });
            text.push_str(line);
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        // who cannot be written to any more has no screen to be given back
        let _gone = out.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
    }
}
