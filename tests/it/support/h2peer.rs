//! HTTP/2 peers on the h2 crate: a client that sees how a stream ended, and a scripted origin.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, client, server};
use http::{HeaderMap, Request, Response, request};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use super::DEADLINE;

/// Runs a conversation to its end, within the deadline.
pub(crate) fn block_on<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(DEADLINE, conversation).await.expect("the conversation ends in time") };
    LocalSet::new().block_on(&runtime, bounded)
}

/// A prior-knowledge HTTP/2 connection.
pub(crate) async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    connect_with(address, &client::Builder::new()).await.0
}

/// The same with settings; the second value is how the connection ended.
pub(crate) async fn connect_with(
    address: SocketAddr,
    builder: &client::Builder,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Option<Reason>>) {
    let stream = TcpStream::connect(address).await.expect("the proxy accepts");
    stream.set_nodelay(true).unwrap();
    let (send, connection) = builder.handshake::<_, Bytes>(stream).await.expect("HTTP/2 by prior knowledge");
    let ended = spawn_local(async move { connection.await.err().and_then(|error| error.reason()) });
    (send.ready().await.expect("a usable connection"), ended)
}

/// How an exchange went, seen from the client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// `None`: a clean end of stream.
    pub(crate) reset: Option<Reason>,
    /// The header block ended the stream.
    pub(crate) trailers_only: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(super::wire::latin1(value.as_bytes()))
    }

    /// `grpc-status`, from the trailers or, of an answer without body, from the headers.
    pub(crate) fn grpc_status(&self) -> Option<u32> {
        let from = if self.trailers_only { Some(&self.headers) } else { self.trailers.as_ref() };
        from?.get("grpc-status")?.to_str().ok()?.parse().ok()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET http://<host><path>`, to be extended.
pub(crate) fn get(host: &str, path: &str) -> request::Builder {
    Request::get(format!("http://{host}{path}"))
}

/// A gRPC call.
pub(crate) fn grpc(host: &str, path: &str) -> request::Builder {
    let call = Request::post(format!("http://{host}{path}"));
    call.header("content-type", "application/grpc").header("te", "trailers")
}

/// A gRPC message: not compressed, its length, its bytes.
pub(crate) fn message(text: &str) -> Bytes {
    let mut frame = vec![0];
    frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend(text.as_bytes());
    Bytes::from(frame)
}

/// One exchange on a connection of its own; `Err` is a reset before any header.
pub(crate) fn exchange(
    address: SocketAddr,
    request: Request<()>,
    body: Option<Bytes>,
) -> Result<Answer, Option<Reason>> {
    block_on(async { call(&mut connect(address).await, request, body).await })
}

/// One exchange on this connection.
pub(crate) async fn call(
    send: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: Option<Bytes>,
) -> Result<Answer, Option<Reason>> {
    futures_ready(send).await?;
    let (response, mut upload) = send.send_request(request, body.is_none()).map_err(|error| error.reason())?;
    if let Some(body) = body {
        let _ = upload.send_data(body, true); // a reset shows in the response
    }
    read_answer(response.await.map_err(|error| error.reason())?).await
}

/// Reads a response to its end.
pub(crate) async fn read_answer(response: Response<RecvStream>) -> Result<Answer, Option<Reason>> {
    let (head, mut stream) = response.into_parts();
    let trailers_only = stream.is_end_stream();
    let mut answer = Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: Vec::new(),
        trailers: None,
        reset: None,
        trailers_only,
    };
    while let Some(data) = stream.data().await {
        match data {
            Ok(data) => {
                let _ = stream.flow_control().release_capacity(data.len());
                answer.body.extend_from_slice(&data);
            }
            Err(error) => {
                answer.reset = Some(error.reason().unwrap_or(Reason::INTERNAL_ERROR));
                return Ok(answer);
            }
        }
    }
    match stream.trailers().await {
        Ok(trailers) => answer.trailers = trailers,
        Err(error) => answer.reset = Some(error.reason().unwrap_or(Reason::INTERNAL_ERROR)),
    }
    Ok(answer)
}

/// Waits for room for another stream.
pub(crate) async fn futures_ready(send: &mut SendRequest<Bytes>) -> Result<(), Option<Reason>> {
    std::future::poll_fn(|cx| send.poll_ready(cx)).await.map_err(|error| error.reason())
}

/// A scripted origin that speaks HTTP/2 by prior knowledge.
pub(crate) struct H2Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<H2Seen>,
}

/// What it saw.
#[derive(Default)]
pub(crate) struct H2Seen {
    pub(crate) heads: Mutex<Vec<request::Parts>>,
    pub(crate) connections: AtomicUsize,
    /// Streams whose script has not ended.
    pub(crate) running: AtomicUsize,
    /// Most of them at one time.
    pub(crate) running_most: AtomicUsize,
    /// Streams the peer reset.
    pub(crate) resets: Mutex<Vec<Reason>>,
    /// Free for a script to count in.
    pub(crate) counter: AtomicUsize,
    /// Wakes connections to say GOAWAY, or scripts that wait for a test.
    pub(crate) goaway: Notify,
    pub(crate) go_on: Notify,
}

/// One stream, handed to a script.
pub(crate) struct Exchange {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    pub(crate) seen: Arc<H2Seen>,
    /// Which stream, over all connections, counted from 0.
    pub(crate) index: usize,
}

impl H2Upstream {
    pub(crate) fn start<F>(script: impl Fn(Exchange) -> F + Send + 'static) -> H2Upstream
    where
        F: Future<Output = ()> + 'static,
    {
        H2Upstream::start_with(|_| {}, script)
    }

    /// With settings of its own.
    pub(crate) fn start_with<F>(
        settings: impl Fn(&mut server::Builder) + Send + 'static,
        script: impl Fn(Exchange) -> F + Send + 'static,
    ) -> H2Upstream
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(H2Seen::default()));
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let script = std::rc::Rc::new(script);
            LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    shared.connections.fetch_add(1, Ordering::AcqRel);
                    let mut builder = server::Builder::new();
                    settings(&mut builder);
                    spawn_local(serve(stream, builder, std::rc::Rc::clone(&script), Arc::clone(&shared)));
                }
            });
        });
        H2Upstream { address, seen }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.heads.lock().unwrap().len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Acquire)
    }

    pub(crate) fn running(&self) -> usize {
        self.seen.running.load(Ordering::Acquire)
    }

    pub(crate) fn resets(&self) -> Vec<Reason> {
        self.seen.resets.lock().unwrap().clone()
    }

    /// Field values of the newest request.
    pub(crate) fn last_header(&self, name: &str) -> Option<String> {
        let heads = self.seen.heads.lock().unwrap();
        let value = heads.last()?.headers.get(name)?;
        Some(super::wire::latin1(value.as_bytes()))
    }
}

impl Exchange {
    /// Reads the request to its end; `Err` when it was reset.
    pub(crate) async fn read(&mut self) -> Result<(Vec<u8>, Option<HeaderMap>), Option<Reason>> {
        let body = self.request.body_mut();
        let mut all = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(|error| error.reason())?;
            let _ = body.flow_control().release_capacity(data.len());
            all.extend_from_slice(&data);
        }
        Ok((all, body.trailers().await.map_err(|error| error.reason())?))
    }

    /// A whole response.
    pub(crate) fn reply(&mut self, head: http::response::Builder, body: impl Into<Bytes>) {
        let mut send = self.respond.send_response(head.body(()).unwrap(), false).unwrap();
        let _ = send.send_data(body.into(), true);
    }

    /// A gRPC answer: messages, then the status in trailers.
    pub(crate) fn grpc(&mut self, messages: &[&str], status: u32) {
        let head = Response::builder().header("content-type", "application/grpc");
        let mut send = self.respond.send_response(head.body(()).unwrap(), false).unwrap();
        for text in messages {
            let _ = send.send_data(message(text), false);
        }
        let _ = send.send_trailers(status_trailers(status));
    }

    /// Waits until the peer gives the stream up, and remembers why.
    pub(crate) async fn until_reset(&mut self) {
        if let Ok(reason) = std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await {
            self.seen.resets.lock().unwrap().push(reason);
        } else {
            self.seen.resets.lock().unwrap().push(Reason::CANCEL); // the whole connection ended
        }
    }
}

/// `grpc-status` and a message.
pub(crate) fn status_trailers(status: u32) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    trailers.insert("grpc-message", http::HeaderValue::from_static("scripted"));
    trailers
}

async fn serve<F>(
    stream: TcpStream,
    builder: server::Builder,
    script: std::rc::Rc<impl Fn(Exchange) -> F + 'static>,
    seen: Arc<H2Seen>,
) where
    F: Future<Output = ()> + 'static,
{
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = seen.goaway.notified() => { connection.graceful_shutdown(); continue }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let index = remember(&seen, &request);
        let (script, seen) = (std::rc::Rc::clone(&script), Arc::clone(&seen));
        spawn_local(async move {
            script(Exchange { request, respond, seen: Arc::clone(&seen), index }).await;
            seen.running.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

fn remember(seen: &H2Seen, request: &Request<RecvStream>) -> usize {
    let mut head = Request::builder().method(request.method()).uri(request.uri()).body(()).unwrap().into_parts().0;
    head.headers = request.headers().clone();
    let running = seen.running.fetch_add(1, Ordering::AcqRel) + 1;
    seen.running_most.fetch_max(running, Ordering::AcqRel);
    let mut heads = seen.heads.lock().unwrap();
    heads.push(head);
    heads.len() - 1
}
