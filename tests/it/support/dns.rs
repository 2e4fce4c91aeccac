//! A small DNS server: it says what a test wants, and remembers what it was asked.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// A record: owner, and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Record(pub(crate) &'static str, pub(crate) Says);

/// What a record says.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    Address(Ipv4Addr),
    /// Priority, weight, port, target.
    Service(u16, u16, u16, &'static str),
}

/// Answers as long as it lives.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    /// Go with every answer.
    beside: Vec<Record>,
    /// `A web.test`
    asked: Vec<String>,
    silent: bool,
}

const A: u16 = 1;
const SRV: u16 = 33;
const TTL_S: u32 = 1;

impl Dns {
    pub(crate) fn start(records: &[Record], beside: &[Record]) -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let state = State { records: records.to_vec(), beside: beside.to_vec(), ..State::default() };
        let (address, state) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(state)));
        let shared = Arc::downgrade(&state);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let Some(state) = shared.upgrade() else { return };
                if let Some(answer) = state.lock().unwrap().answer(&question[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Dns { address, state }
    }

    /// Questions so far: type and name.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Says something else from now on.
    pub(crate) fn set(&self, records: &[Record]) {
        self.state.lock().unwrap().records = records.to_vec();
    }

    /// Says nothing from now on.
    pub(crate) fn fall_silent(&self) {
        self.state.lock().unwrap().silent = true;
    }
}

impl State {
    fn answer(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = name_at(question, 12)?;
        let kind = u16::from_be_bytes([*question.get(end)?, *question.get(end + 1)?]);
        let shown = match kind {
            A => "A".to_owned(),
            SRV => "SRV".to_owned(),
            other => other.to_string(),
        };
        self.asked.push(format!("{shown} {name}"));
        if self.silent {
            return None;
        }
        let fits = |record: &&Record| record.0 == name && record.kind() == kind;
        let records: Vec<&Record> = self.records.iter().filter(fits).collect();
        let beside: Vec<&Record> = if records.is_empty() { Vec::new() } else { self.beside.iter().collect() };
        let counts = [1, records.len(), 0, beside.len()].map(|count| u16::try_from(count).unwrap().to_be_bytes());
        let mut answer = question[..2].to_vec();
        answer.extend([0x84, 0x00]); // an answer, authoritative, without error
        answer.extend(counts.concat());
        answer.extend(&question[12..end + 4]);
        records.iter().chain(&beside).for_each(|record| record.write(&mut answer));
        Some(answer)
    }
}

impl Record {
    fn kind(&self) -> u16 {
        match self.1 {
            Says::Address(_) => A,
            Says::Service(..) => SRV,
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        let data = match &self.1 {
            Says::Address(ip) => ip.octets().to_vec(),
            Says::Service(priority, weight, port, target) => {
                let mut data: Vec<u8> = [priority, weight, port].iter().flat_map(|value| value.to_be_bytes()).collect();
                data.extend(written(target));
                data
            }
        };
        to.extend(written(self.0));
        to.extend(self.kind().to_be_bytes());
        to.extend([0, 1]);
        to.extend(TTL_S.to_be_bytes());
        to.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        to.extend(data);
    }
}

/// Labels with their lengths.
fn written(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// The name that stands there in lower case, and where it ends.
fn name_at(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
}
