//! The ledger against a list of requests that is searched from end to end for everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Start(Drawn),
    Head(usize),
    Sent(usize),
    Fail(usize),
    Finish(usize, Class),
    Tick,
    Wait(u64),
    Slow(Option<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let class = prop_oneof![Just(Class::Success), Just(Class::Failure), Just(Class::Ignored)];
    let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    let start = (flags, 0_i64..3).prop_map(|((canary, redistributed, streams, session), share)| {
        Step::Start(Drawn {
            arm: if canary { CANARY } else { PRIMARY },
            redistributed,
            share: Ppm::clamped(share),
            session: session.then_some(5),
            randomised: true,
            streams,
        })
    });
    let step = prop_oneof![
        4 => start,
        3 => any::<usize>().prop_map(Step::Head),
        1 => any::<usize>().prop_map(Step::Sent),
        1 => any::<usize>().prop_map(Step::Fail),
        3 => (any::<usize>(), class).prop_map(|(at, class)| Step::Finish(at, class)),
        3 => Just(Step::Tick),
        4 => (0_u64..30_000).prop_map(Step::Wait),
        1 => Just(Step::Wait(SETTLED_US)),
        1 => prop::option::of(1_000_u64..20_000).prop_map(Step::Slow),
    ];
    prop::collection::vec(step, 0..120)
}

struct Request {
    ticket: Option<Ticket>,
    drawn: Drawn,
    routed_us: u64,
    slow: u64,
    passed: [bool; 3],
    head: bool,
    told: bool,
    place: Place,
}

/// The last one: of a session.
type Event = (Arm, Kind, Ppm, bool);

#[derive(Default)]
struct Model {
    requests: Vec<Request>,
    now_us: u64,
    /// Version, and the least of them.
    ages: (u64, Option<u64>),
    /// Told, and not seen by the judge yet.
    told: BTreeMap<Event, u64>,
    totals: BTreeMap<Arm, (u64, u64, u64)>,
}

impl Model {
    fn ages_us(&self) -> [u64; STAGES] {
        match self.ages.1 {
            Some(us) => [us, 2 * us, 4 * us, 4 * us, 4 * us],
            None => [u64::MAX, u64::MAX, u64::MAX, SETTLED_US, OVERDUE_US],
        }
    }

    fn start(&mut self, drawn: Drawn, ticket: Ticket) {
        self.totals.entry(drawn.arm).or_default().0 += 1;
        self.requests.push(Request {
            ticket: Some(ticket),
            drawn,
            routed_us: self.now_us,
            slow: self.ages.0,
            passed: [false; 3],
            head: drawn.redistributed,
            told: false,
            place: if drawn.redistributed { Place::Apart } else { Place::Listed },
        });
        if drawn.redistributed {
            self.outcome(self.requests.len() - 1, Some(true));
        }
    }

    fn event(&mut self, at: usize, kind: Kind) {
        let drawn = &self.requests[at].drawn;
        // a draw that its arm could not serve has the key of the outage, whoever its user is
        let session = drawn.session.is_some() && !(drawn.redistributed && kind == Kind::Failure);
        *self.told.entry((drawn.arm, kind, drawn.share, session)).or_default() += 1;
    }

    fn pass(&mut self, at: usize, stage: usize) {
        let (now_us, ages_us, version) = (self.now_us, self.ages_us(), self.ages.0);
        let request = &mut self.requests[at];
        if now_us - request.routed_us <= ages_us[stage] || std::mem::replace(&mut request.passed[stage], true) {
            return;
        }
        if !request.head && !request.drawn.streams && request.slow == version {
            self.event(at, KINDS[stage]);
        }
    }

    fn waited(&mut self, at: usize) {
        if !self.requests[at].head && !self.requests[at].drawn.streams {
            (0..3).for_each(|stage| self.pass(at, stage));
        }
        self.requests[at].head = true;
    }

    fn head(&mut self, at: usize) {
        self.waited(at);
        let settled = self.now_us - self.requests[at].routed_us > self.ages_us()[SETTLED];
        let place = &mut self.requests[at].place;
        if *place == Place::Overdue || settled {
            *place = Place::Apart;
        }
    }

    fn sent(&mut self, at: usize) {
        if self.requests[at].drawn.streams {
            (0..3).for_each(|stage| self.pass(at, stage));
            self.requests[at].drawn.streams = false;
        }
    }

    /// `None`: its caller went away, so it says nothing of how it would have ended.
    fn outcome(&mut self, at: usize, failed: Option<bool>) {
        if self.requests[at].told {
            return;
        }
        self.waited(at);
        self.requests[at].told = true;
        let totals = self.totals.entry(self.requests[at].drawn.arm).or_default();
        totals.1 += u64::from(failed.is_some());
        totals.2 += u64::from(failed == Some(true));
        if failed == Some(true) {
            self.event(at, Kind::Failure);
            self.requests[at].place = Place::Apart;
        }
    }

    fn tick(&mut self) {
        let ages_us = self.ages_us();
        for at in 0..self.requests.len() {
            if self.requests[at].place != Place::Listed {
                continue;
            }
            (0..3).for_each(|stage| self.pass(at, stage));
            let us = self.now_us - self.requests[at].routed_us;
            let request = &mut self.requests[at];
            if us > ages_us[SETTLED] && (request.head || request.drawn.streams) {
                request.place = Place::Apart;
            } else if us > ages_us[OVERDUE] && !request.head {
                request.place = Place::Overdue;
            }
        }
    }
}

fn run(seen: &mut Seen, model: &mut Model, step: Step) {
    let living: Vec<usize> = (0..model.requests.len()).filter(|at| model.requests[*at].ticket.is_some()).collect();
    let chosen = |at: usize| living.get(at % living.len().max(1)).copied();
    let now_us = model.now_us;
    match step {
        Step::Wait(us) => model.now_us += us,
        Step::Tick => {
            seen.ledger.tick(now_us);
            model.tick();
        }
        Step::Slow(us) => {
            if us != model.ages.1 {
                model.ages = (model.ages.0 + 1, us);
            }
            seen.evidence.set_slow(us.map(|us| [us, 2 * us, 4 * us]));
            // as the next request or tick would
            seen.ledger.read_ages();
        }
        Step::Start(drawn) => {
            let ticket = seen.start(drawn, now_us);
            model.start(drawn, ticket);
        }
        Step::Head(at) | Step::Sent(at) | Step::Fail(at) | Step::Finish(at, _) => {
            let Some(at) = chosen(at) else { return };
            let ticket = model.requests[at].ticket.take().unwrap();
            match step {
                Step::Finish(_, class) => {
                    seen.ledger.finish(ticket, class, None, now_us);
                    model.outcome(at, (class != Class::Ignored).then_some(class == Class::Failure));
                    model.requests[at].place = Place::Apart;
                    return;
                }
                Step::Head(_) => {
                    seen.ledger.head(&ticket, now_us);
                    model.head(at);
                }
                Step::Sent(_) => {
                    seen.ledger.sent(&ticket, now_us);
                    model.sent(at);
                }
                _ => {
                    seen.ledger.fail(&ticket, None, now_us);
                    model.outcome(at, Some(true));
                }
            }
            model.requests[at].ticket = Some(ticket);
        }
    }
}

fn check(seen: &Seen, model: &mut Model) {
    check_whole(&seen.ledger);
    for arm in [CANARY, PRIMARY] {
        seen.check_totals(arm, model.totals.get(&arm).copied().unwrap_or_default());
        let mine = || model.requests.iter().filter(|request| request.drawn.arm == arm);
        let open = mine().filter(|request| request.place == Place::Listed);
        let oldest = open.map(|request| TimestampMs(clock::steady_ms_of(request.routed_us))).min();
        assert_eq!(seen.oldest(arm), oldest, "{arm:?}");
        let mut overdue: BTreeMap<Ppm, u32> = BTreeMap::new();
        for request in mine().filter(|request| request.place == Place::Overdue) {
            *overdue.entry(request.drawn.share).or_default() += 1;
        }
        assert_eq!(seen.overdue(arm).into_iter().collect::<BTreeMap<_, _>>(), overdue, "{arm:?}");
    }
    let mut told: BTreeMap<Event, u64> = BTreeMap::new();
    for (record, times) in seen.told() {
        let session = matches!(record.key, Some(Key::Session(_)));
        *told.entry((record.arm, record.kind, record.share, session)).or_default() += times;
    }
    assert_eq!(told, std::mem::take(&mut model.told));
}

proptest! {
    #[test]
    fn a_ledger_tells_what_a_naive_model_tells(steps in steps()) {
        let mut seen = Seen::new();
        let mut model = Model { now_us: SECOND, ..Model::default() };
        for step in steps {
            run(&mut seen, &mut model, step);
            check(&seen, &mut model);
        }
    }
}
