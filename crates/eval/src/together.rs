//! Several questions answered at once, by the scheduler that `serve` has: one reading of the weights serves all of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::{
    Cancel, Capacity, Engine, EngineError, Event, Network, Reply, Request, Scheduler, Task, Waker,
};

/// Longest wait for an image without looking whether somebody wants to stop.
const NAP: Duration = Duration::from_millis(50);

/// What was said while an answer grew, put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streamed {
    pub reasoning: String,
    pub text: String,
}

/// A question with its answer.
pub(crate) struct Ended<Q> {
    pub question: Q,
    pub request: Arc<Request>,
    pub result: Result<Reply, EngineError>,
    pub streamed: Streamed,
}

/// Makes a request of a question, whose lane says behind which others it is asked.
pub(crate) type Ask<'a, Q, E> = &'a mut dyn FnMut(&Q, usize) -> Result<Request, E>;
/// Takes an answer.
pub(crate) type Take<'a, Q, E> = &'a mut dyn FnMut(Ended<Q>) -> Result<(), E>;

/// Who is asked: a place in the scheduler, and what is said in it.
struct Seat<Q> {
    question: Q,
    lane: usize,
    request: Arc<Request>,
    streamed: Rc<RefCell<Streamed>>,
}

/// Asks all questions, as many at once as `capacity` says. Those of one group are asked one behind the other, so that each
/// begins with what the one before has read. Whether all were answered: not where `cancel` was thrown.
pub(crate) fn ask_all<N: Network, Q, E>(
    engine: &Engine<N>,
    capacity: Capacity,
    groups: Vec<VecDeque<Q>>,
    (ask, take): (Ask<Q, E>, Take<Q, E>),
    cancel: &Cancel,
) -> Result<bool, E> {
    std::thread::scope(|scope| {
        let waker = Waker::new();
        let mut scheduler = Scheduler::new(engine, scope, capacity, waker.clone());
        let mut groups = groups.into_iter();
        let lanes = (0..capacity.requests).map(|_| groups.next().unwrap_or_default());
        let mut lanes: Vec<VecDeque<Q>> = lanes.collect();
        let mut free: VecDeque<usize> = (0..lanes.len()).collect();
        let mut work = || -> Result<bool, E> {
            loop {
                if cancel.is_cancelled() {
                    return Ok(false);
                }
                let mut ended = Vec::new();
                while scheduler.has_room()
                    && let Some(lane) = free.pop_front()
                {
                    while lanes[lane].is_empty()
                        && let Some(group) = groups.next()
                    {
                        lanes[lane] = group;
                    }
                    let Some(question) = lanes[lane].pop_front() else {
                        continue;
                    };
                    let request = Arc::new(ask(&question, lane)?);
                    ended.extend(scheduler.begin(task(question, lane, request)));
                }
                let step = scheduler.step();
                let idle = !step.worked && step.finished.is_empty() && ended.is_empty();
                ended.extend(step.finished);
                for finished in ended {
                    let seat = finished.tag;
                    free.push_back(seat.lane);
                    take(Ended {
                        question: seat.question,
                        request: seat.request,
                        result: finished.result,
                        streamed: seat.streamed.take(),
                    })?;
                }
                if idle && scheduler.activity().requests == 0 {
                    return Ok(true);
                }
                if idle {
                    waker.wait(NAP);
                }
            }
        };
        let done = work();
        // Those that are not at their end have switches of their own, which this throws.
        drop(scheduler.abandon());
        done
    })
}

fn task<'a, Q: 'a>(question: Q, lane: usize, request: Arc<Request>) -> Task<'a, Seat<Q>> {
    let streamed = Rc::new(RefCell::new(Streamed::default()));
    let said = streamed.clone();
    Task {
        request: request.clone(),
        cancel: Cancel::new(),
        events: Box::new(move |event| match event {
            Event::Reasoning(text) => said.borrow_mut().reasoning.push_str(text),
            Event::Text(text) => said.borrow_mut().text.push_str(text),
            Event::Prefill { .. } | Event::Token(_) => {}
        }),
        tag: Seat {
            question,
            lane,
            request,
            streamed,
        },
    }
}
