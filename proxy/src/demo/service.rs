//! The small HTTP service of the demo: says its name, answers any status, takes its time.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// Longest `/delay/<seconds>`.
const DELAY_S_MAX: f64 = 60.0;
/// After `accept` failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running service.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Service {
    pub(super) fn stop(self) {
        let Self { stop, thread, .. } = self;
        drop(stop);
        // a service that panicked has already failed the demo
        let _panicked = thread.join();
    }
}

/// How a version of the service behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Every so many requests one is answered with 500.
    Fails(u64),
    /// It takes requests and never answers.
    Hangs,
    /// As it should be.
    Well,
}

/// Starts `name`, which behaves so, on a free port of loopback.
pub(super) fn start(name: &'static str, health: Health) -> io::Result<Service> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = serve(listener, name, health) => {}
                // closed, never sent
                _ = stopped => {}
            }
        });
    })?;
    Ok(Service { address, stop, thread })
}

async fn serve(listener: TcpListener, name: &'static str, health: Health) {
    let count = Rc::new(Cell::new(0_u64));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let count = Rc::clone(&count);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            count.set(count.get() + 1);
            let number = count.get();
            async move {
                match health {
                    Health::Well => {}
                    Health::Hangs => std::future::pending().await,
                    Health::Fails(every) if number.is_multiple_of(every) => {
                        return Ok::<_, Infallible>(answer(name, "/status/500").await);
                    }
                    Health::Fails(_) => {}
                }
                Ok(answer(name, request.uri().path()).await)
            }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(async move {
            let _peer_went_away = connection.await;
        });
    }
}

async fn answer(name: &str, path: &str) -> Response<Full<Bytes>> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (status, text) = match (parts.next(), parts.next()) {
        (Some("status"), Some(code)) => match code.parse().map(StatusCode::from_u16) {
            Ok(Ok(status)) if status.as_u16() >= 200 => (status, format!("{} from {name}\n", status.as_u16())),
            _ => (StatusCode::BAD_REQUEST, "a status is a number from 200 to 999\n".to_owned()),
        },
        (Some("delay"), Some(seconds)) => match seconds.parse::<f64>() {
            Ok(seconds) if (0.0..=DELAY_S_MAX).contains(&seconds) => {
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                (StatusCode::OK, format!("hello from {name} after {seconds} s\n"))
            }
            _ => (StatusCode::BAD_REQUEST, format!("a delay is a number of seconds from 0 to {DELAY_S_MAX}\n")),
        },
        _ => (StatusCode::OK, format!("hello from {name}\n")),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::client::Client;

    #[track_caller]
    fn check(path: &str, status: u16, body: &str) {
        let service = start("world-v9", Health::Well).unwrap();
        let answer = Client::new(service.address).get("world", path, &[]).unwrap();
        service.stop();
        assert_eq!((answer.status, answer.body.trim_end()), (status, body), "{path}");
    }

    #[test]
    fn it_says_its_name_on_every_path() {
        check("/", 200, "hello from world-v9");
        check("/status", 200, "hello from world-v9");
    }

    #[test]
    fn it_answers_any_final_status() {
        check("/status/503", 503, "503 from world-v9");
        check("/status/101", 400, "a status is a number from 200 to 999");
        check("/status/x", 400, "a status is a number from 200 to 999");
    }

    #[test]
    fn a_bad_version_fails_every_so_often() {
        let service = start("world-v9", Health::Fails(3)).unwrap();
        let mut client = Client::new(service.address);
        let mut status = || client.get("world", "/", &[]).unwrap().status;
        assert_eq!([status(), status(), status(), status()], [200, 200, 500, 200]);
        service.stop();
    }

    #[test]
    fn it_takes_its_time_within_a_minute() {
        check("/delay/0.001", 200, "hello from world-v9 after 0.001 s");
        for path in ["/delay/60.1", "/delay/-1", "/delay/NaN", "/delay/inf", "/delay/x"] {
            check(path, 400, "a delay is a number of seconds from 0 to 60");
        }
    }
}
