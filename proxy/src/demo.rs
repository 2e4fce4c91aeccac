//! `serin demo`: versions of a service, one proxy, one file. Everything goes over real sockets, and what the demo
//! claims it also checks: the exit code is not 0 if it did not happen.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock;
use crate::control::{self, ConfigSource, Running, StartOptions, StartupError};
use crate::world::Stage;
use client::Client;
use folder::Folder;
use screen::Screen;
use service::Health;
use tally::Tally;

mod client;
mod crowd;
mod folder;
mod rollouts;
mod screen;
mod service;
mod tally;

/// The versions: two that are well, one that fails, one that hangs.
const NAMES: [&str; 4] = ["world-v1", "world-v2", "world-v3", "world-v4"];
/// Requests of one measured split.
const REQUESTS: u32 = 1_000;
/// Requests between two looks at the screen.
const BATCH: u32 = 25;
/// Where somebody watches, a batch takes at least so long, so that the bars can be seen to move.
const BATCH_SHOWN: Duration = Duration::from_millis(45);
/// Requests with an override.
const OVERRIDDEN: u32 = 20;
/// The reload must be in force within this time.
const RELOAD_MS_MAX: u64 = 5_000;
/// Shares of `world-v1` before and after, in percent.
const SHARES: [u32; 2] = [90, 10];
/// The override that step 2 sends.
const OVERRIDE: &str = "/host/world => /srv/world-v2";
/// What a visitor would expect where it is free.
const PORT: u16 = 4140;
/// Likewise for admin.
const ADMIN_PORT: u16 = 9990;

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// A claim did not hold.
    #[error("{0}")]
    Claim(String),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Sockets or files.
    #[error("{what}: {cause}")]
    Io {
        what: &'static str,
        #[source]
        cause: io::Error,
    },
    /// The proxy did not start.
    #[error(transparent)]
    Startup(#[from] StartupError),
}

fn io(what: &'static str) -> impl Fn(io::Error) -> DemoError {
    move |cause| DemoError::Io { what, cause }
}

/// Plays the demo. Returns the exit code.
pub fn run(keep: bool) -> u8 {
    match play(keep) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("demo failed: {error}");
            1
        }
    }
}

/// Everything the demo set up. Dropping it takes it down.
struct Stand {
    running: Running,
    proxy: SocketAddr,
    folder: Folder,
    services: [service::Service; 4],
}

fn play(keep: bool) -> Result<(), DemoError> {
    let screen = Screen::new();
    let stand = set_up(keep)?;
    screen.headline(&format!("serin {}: a service in some versions, one proxy, one file", env!("CARGO_PKG_VERSION")));
    for (name, service) in NAMES.iter().zip(&stand.services) {
        screen.fact(name, &service.address.to_string());
    }
    screen.fact("serin", &format!("{}   admin {}", stand.proxy, stand.running.admin));
    screen.fact("file", &stand.folder.file().display().to_string());
    let played = split(&screen, &stand)
        .and_then(|()| override_one(&screen, &stand))
        .and_then(|()| reload(&screen, &stand))
        .and_then(|()| rollouts::play(&screen, &stand, SHARES[1]));
    let Stand { running, proxy, folder, services } = stand;
    if let (true, Ok(())) = (keep, &played) {
        screen.keep(proxy, running.admin, folder.file());
    } else {
        running.stop();
    }
    let admin = running.admin;
    let ended = running.wait();
    services.into_iter().for_each(service::Service::stop);
    drop(folder);
    played?;
    if ended != 0 {
        return Err(DemoError::Claim(format!("the proxy with admin on {admin} ended with {ended}")));
    }
    if !keep {
        screen.done();
    }
    Ok(())
}

fn set_up(keep: bool) -> Result<Stand, DemoError> {
    let folder = Folder::create().map_err(io("making a temporary folder"))?;
    let start = |name, health| service::start(name, health).map_err(io("starting a service"));
    let [v1, v2, v3, v4] = NAMES;
    let services =
        [start(v1, Health::Well)?, start(v2, Health::Well)?, start(v3, Health::Fails(5))?, start(v4, Health::Hangs)?];
    let port = |wanted| if keep && is_free(wanted) { wanted } else { 0 };
    let text = file_text(&services, port(PORT), port(ADMIN_PORT), SHARES[0]);
    folder.write(&text).map_err(io("writing the file"))?;
    // Ctrl-C stops the proxy; the demo notices and cleans up
    let options =
        StartOptions { signals: true, ..StartOptions::embedded(ConfigSource::File(folder.file().to_owned())) };
    let running = control::start(options)?;
    let proxy = running.addresses.first().map(|(_, address)| *address);
    let proxy = proxy.ok_or_else(|| DemoError::Claim("the proxy has no listener".into()))?;
    Ok(Stand { running, proxy, folder, services })
}

/// The whole configuration.
fn file_text(services: &[service::Service; 4], port: u16, admin: u16, share: u32) -> String {
    let cluster =
        |(name, service): (&str, &service::Service)| format!("  {name}: {{endpoints: [\"{}\"]}}\n", service.address);
    let clusters: String = NAMES.into_iter().zip(services).map(cluster).collect();
    format!(
        "# written by serin demo: edit the weights and watch\n\
         admin: {{ip: 127.0.0.1, port: {admin}}}\n\n\
         clusters:\n{clusters}\n\
         routers:\n- protocol: http\n  label: demo\n  servers: [{{ip: 127.0.0.1, port: {port}}}]\n  dtab: |\n    \
         /srv        => /#/clusters ;\n    /host       => /srv ;\n    \
         /host/world => {share} * /srv/world-v1 & {} * /srv/world-v2 ;\n    /svc        => /host ;\n",
        100 - share,
    )
}

/// Free for us, as far as a look can tell.
fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn split(screen: &Screen, stand: &Stand) -> Result<(), DemoError> {
    screen.step(1, "Split", &format!("{} of 100 requests go to world-v1, {} to world-v2", SHARES[0], 100 - SHARES[0]));
    measure(screen, stand, SHARES[0])
}

/// Sends [`REQUESTS`] and checks the shares.
fn measure(screen: &Screen, stand: &Stand, share: u32) -> Result<(), DemoError> {
    let mut client = Client::new(stand.proxy);
    let mut tally = Tally::default();
    let bars = screen.bars(REQUESTS);
    while tally.sum() < REQUESTS {
        let batch_us = clock::now_us();
        for _ in 0..BATCH {
            tally.count(&ask(stand, &mut client, &[])?)?;
        }
        bars.show(&tally);
        let spent = Duration::from_micros(clock::now_us().saturating_sub(batch_us));
        if screen.is_watched() {
            std::thread::sleep(BATCH_SHOWN.saturating_sub(spent));
        }
    }
    bars.finish(&tally);
    let expected = tally.check(share)?;
    screen.held(&format!(
        "{} of {REQUESTS} to world-v1: chance allows {} to {}",
        tally.v1,
        expected.start(),
        expected.end()
    ));
    Ok(())
}

fn override_one(screen: &Screen, stand: &Stand) -> Result<(), DemoError> {
    screen.step(2, "Override", "a request says itself where it goes");
    screen.quote(&format!("l5d-dtab: {OVERRIDE}"));
    let mut client = Client::new(stand.proxy);
    let mut tally = Tally::default();
    for _ in 0..OVERRIDDEN {
        tally.count(&ask(stand, &mut client, &[("l5d-dtab", OVERRIDE)])?)?;
    }
    if tally.v2 != OVERRIDDEN {
        return Err(DemoError::Claim(format!(
            "only {} of {OVERRIDDEN} overridden requests reached world-v2",
            tally.v2
        )));
    }
    screen.held(&format!("{OVERRIDDEN} of {OVERRIDDEN} answered by world-v2"));
    Ok(())
}

fn reload(screen: &Screen, stand: &Stand) -> Result<(), DemoError> {
    let [before, after] = SHARES;
    screen.step(3, "Reload", "the file changes while requests run");
    screen.quote(&format!("/host/world => {after} * /srv/world-v1 & {} * /srv/world-v2", 100 - after));
    let load = Load::start(stand.proxy).map_err(io("starting a client"))?;
    let revision = Arc::clone(&stand.running.status().revision);
    // the ports as they are bound, so that nothing but the weights changes
    let text = stand.folder.read().map_err(io("reading the file"))?;
    let edited = text.replace(&weights(before), &weights(after));
    let edited_us = clock::now_us();
    stand.folder.write(&edited).map_err(io("editing the file"))?;
    while stand.running.status().revision == revision {
        if clock::now_us().saturating_sub(edited_us) / 1_000 > RELOAD_MS_MAX {
            return Err(DemoError::Claim(format!("the edit was not in force within {RELOAD_MS_MAX} ms")));
        }
        interrupted(stand)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let reload_ms = clock::now_us().saturating_sub(edited_us) / 1_000;
    measure(screen, stand, after)?;
    let (sent, failed) = load.stop();
    if failed > 0 || sent == 0 {
        return Err(DemoError::Claim(format!("{failed} of {sent} requests failed around the reload")));
    }
    screen.held(&format!("in force {reload_ms} ms after the edit; {sent} requests ran beside it, none failed"));
    Ok(())
}

fn weights(share: u32) -> String {
    format!("{share} * /srv/world-v1 & {} * /srv/world-v2", 100 - share)
}

/// One request of the demo. A failure after Ctrl-C is no failure of the proxy.
fn ask(stand: &Stand, client: &mut Client, headers: &[(&str, &str)]) -> Result<client::Answer, DemoError> {
    match client.get("world", "/", headers) {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(answer) => {
            interrupted(stand)?;
            Err(DemoError::Claim(format!("a request was answered with {}: {}", answer.status, answer.body.trim_end())))
        }
        Err(cause) => {
            interrupted(stand)?;
            Err(DemoError::Io { what: "a request", cause })
        }
    }
}

fn interrupted(stand: &Stand) -> Result<(), DemoError> {
    if stand.running.status().stage == Stage::Serving { Ok(()) } else { Err(DemoError::Interrupted) }
}

/// Requests beside the story, one after the other on a thread of their own.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, u32)>,
}

impl Load {
    fn start(proxy: SocketAddr) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let (mut client, mut sent, mut failed) = (Client::new(proxy), 0_u32, 0_u32);
            while !stopped.load(Ordering::Relaxed) {
                let answer = client.get("world", "/", &[]);
                sent = sent.saturating_add(1);
                failed += u32::from(!answer.is_ok_and(|answer| answer.status == 200));
            }
            (sent, failed)
        };
        Ok(Self { stop, thread: std::thread::Builder::new().name("demo-load".into()).spawn(run)? })
    }

    /// How many were sent, and how many of them failed.
    fn stop(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or((0, 0))
    }
}
