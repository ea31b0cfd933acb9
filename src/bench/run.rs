//! Runs the phases of the benchmark: connecting, prepopulating, warming up, measuring.

use super::load::{KeyTooShort, Load, Method, Random};
use super::options::{BenchOptions, Command, CommonOptions, Output};
use super::report::Report;
use super::tally::Tally;
use super::watch::Watchers;
use super::wire::{Wire, WireError};
use crate::client::{EndpointError, connector, parse_endpoints};
use crate::env;
use crate::tls::TlsError;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

/// The interval of the progress bar, within which a client that waits for its turn also notices the end.
const TICK: Duration = Duration::from_millis(100);
/// The number of clients that prepopulate, independent of the number that measure.
const PREPOPULATE_CLIENTS: u32 = 256;

/// Why the benchmark cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Key(#[from] KeyTooShort),
    #[error("{}", .0.0)]
    Connect(WireError),
    #[error("writing the keys ahead failed {failed} times, first with {first}")]
    Prepopulate { failed: u64, first: String },
}

/// Runs the benchmark and prints its report. Fails if any request failed.
pub fn run(options: BenchOptions) -> ExitCode {
    match env::block_on(measure(&options.command)) {
        Ok(report) => {
            match options.command.common().output {
                Output::Text => println!("{}", report.text()),
                Output::Json => println!("{}", report.json()),
            }
            if report.failed() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("callboard bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All phases, up to the report.
pub async fn measure(command: &Command) -> Result<Report, Error> {
    let common = command.common();
    let mut random = Random(env::random_u64());
    let load = Rc::new(Load::new(command, &mut random)?);
    let wires = connect(common).await?;
    if common.prepopulate > 0 {
        let keys = Rc::new(Load::prepopulate(common, &mut random)?);
        let limits = Limits {
            requests_max: Some(common.prepopulate),
            ..Limits::default()
        };
        let clients = common.clients.max(PREPOPULATE_CLIENTS);
        let phase = BenchPhase::new("writing keys", keys, limits, common.timeout);
        let tally = phase.run(&wires, clients).await.tally;
        if let Some((first, _)) = tally.errors.first_key_value() {
            return Err(Error::Prepopulate {
                failed: tally.failed,
                first: first.clone(),
            });
        }
    }
    let watchers = match command {
        Command::Watch(options) => Some(Watchers::start(options).await?),
        _ => None,
    };
    let mut puts_before = 0;
    if !common.warm_up.is_zero() {
        let limits = Limits {
            duration: Some(common.warm_up),
            rate: common.rate,
            ..Limits::default()
        };
        let phase = BenchPhase::new("warming up", Rc::clone(&load), limits, common.timeout);
        puts_before = phase.run(&wires, common.clients).await.tally.succeeded;
    }
    let limits = Limits {
        requests_max: common.requests_max(),
        duration: common.duration,
        rate: common.rate,
    };
    let phase = BenchPhase::new("measuring", load, limits, common.timeout);
    let Some(watchers) = watchers else {
        return Ok(Report::new(
            command,
            phase.run(&wires, common.clients).await,
            None,
        ));
    };
    // The events of the warm-up do not count.
    let mark = watchers.settled(puts_before).await;
    let measured = phase.run(&wires, common.clients).await;
    let puts = puts_before + measured.tally.succeeded;
    let delivered = watchers.delivered(mark, puts).await;
    Ok(Report::new(command, measured, Some(delivered)))
}

async fn connect(common: &CommonOptions) -> Result<Vec<Rc<Wire>>, Error> {
    let wires = open_wires(common, common.connections).await?;
    Ok(wires.into_iter().map(Rc::new).collect())
}

/// Opens this many connections, over the endpoints in turn.
pub(super) async fn open_wires(common: &CommonOptions, count: u32) -> Result<Vec<Wire>, Error> {
    let endpoints = parse_endpoints(&common.endpoints)?;
    let tls = connector(&endpoints, &common.tls_files())?;
    let mut wires = Vec::new();
    for endpoint in endpoints.iter().cycle().take(count as usize) {
        let wire = Wire::connect(endpoint.clone(), common.timeout, tls.as_ref()).await;
        wires.push(wire.map_err(Error::Connect)?);
    }
    Ok(wires)
}

/// When a phase ends, and its rate limit.
#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    requests_max: Option<u64>,
    duration: Option<Duration>,
    /// Requests per second; 0 means no limit.
    rate: u64,
}

/// The outcome of a phase.
#[derive(Debug)]
pub struct Measured {
    pub tally: Tally,
    pub elapsed: Duration,
    /// Processor time of this process.
    pub cpu: Duration,
}

/// A phase: the state that its clients share. All of them run on one thread.
struct BenchPhase {
    name: &'static str,
    load: Rc<Load>,
    limits: Limits,
    timeout: Duration,
    started: env::Instant,
    /// The number of requests given out.
    issued: Cell<u64>,
    stopped: Cell<bool>,
    running: Cell<u32>,
    finished: Notify,
    tally: RefCell<Tally>,
}

impl BenchPhase {
    fn new(name: &'static str, load: Rc<Load>, limits: Limits, timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            name,
            load,
            limits,
            timeout,
            started: env::now(),
            issued: Cell::new(0),
            stopped: Cell::new(false),
            running: Cell::new(0),
            finished: Notify::new(),
            tally: RefCell::new(Tally::new()),
        })
    }

    async fn run(self: Rc<Self>, wires: &[Rc<Wire>], clients: u32) -> Measured {
        let cpu_before = cpu_time();
        self.running.set(clients);
        for (_, wire) in (0..clients).zip(wires.iter().cycle()) {
            let (phase, wire) = (Rc::clone(&self), Rc::clone(wire));
            env::spawn_local(async move {
                phase.client(&wire).await;
                phase.running.set(phase.running.get() - 1);
                if phase.running.get() == 0 {
                    phase.finished.notify_one();
                }
            });
        }
        self.watch().await;
        let elapsed = env::now() - self.started;
        Measured {
            tally: self.tally.borrow().clone(),
            elapsed,
            cpu: cpu_time().saturating_sub(cpu_before),
        }
    }

    /// Updates the progress bar until all clients are done. The first signal tells them to end; after the second it does not
    /// wait.
    async fn watch(&self) {
        let bar = self.progress_bar();
        let mut interrupted = pin!(env::shutdown_signal());
        while self.running.get() > 0 {
            tokio::select! {
                biased;
                _ = &mut interrupted => {
                    if self.stopped.replace(true) {
                        break;
                    }
                    interrupted.set(env::shutdown_signal());
                }
                _ = env::timeout(TICK, self.finished.notified()) => {}
            }
            match self.limits.requests_max {
                Some(_) => bar.set_position(self.issued.get()),
                None => bar.set_position((env::now() - self.started).as_millis() as u64),
            }
        }
        bar.finish_and_clear();
    }

    fn progress_bar(&self) -> indicatif::ProgressBar {
        let length = match (self.limits.requests_max, self.limits.duration) {
            (Some(requests), _) => Some(requests),
            (None, duration) => duration.map(|duration| duration.as_millis() as u64),
        };
        let style = indicatif::ProgressStyle::with_template("{prefix} {wide_bar} {percent}% {eta}")
            .expect("the template is well-formed");
        indicatif::ProgressBar::new(length.unwrap_or(0))
            .with_style(style)
            .with_prefix(self.name)
    }

    /// One client: sends one request after the other until the phase ends.
    async fn client(&self, wire: &Wire) {
        let mut random = Random(env::random_u64());
        let mut handle = wire.handle();
        let mut watchdog = Watchdog::new(self.timeout);
        while self.take_turn().await {
            let (method, body) = self.load.next(&mut random);
            let sent = env::now();
            let outcome = watchdog.guard(sent, wire.call(&mut handle, method, body)).await;
            self.record(method, sent, outcome);
        }
    }

    fn record(&self, method: Method, sent: env::Instant, outcome: Result<u64, WireError>) {
        self.tally.borrow_mut().record(method, env::now() - sent, outcome);
    }

    /// Waits until this client may send its next request; false if the phase has ended.
    async fn take_turn(&self) -> bool {
        let number = self.issued.get();
        if self.ended() || self.limits.requests_max.is_some_and(|max| number >= max) {
            return false;
        }
        self.issued.set(number + 1);
        if self.limits.rate == 0 {
            return true;
        }
        let due = self.started + Duration::from_secs_f64(number as f64 / self.limits.rate as f64);
        loop {
            if self.ended() {
                return false;
            }
            let wait = due.saturating_duration_since(env::now());
            if wait.is_zero() {
                return true;
            }
            env::sleep(wait.min(TICK)).await;
        }
    }

    fn ended(&self) -> bool {
        let over = |duration| env::now() - self.started >= duration;
        self.stopped.get() || self.limits.duration.is_some_and(over)
    }
}

/// The timeout of one client's requests: a timer that is reset only when it has run out, not for every request.
struct Watchdog {
    timeout: Duration,
    timer: Pin<Box<dyn Future<Output = ()>>>,
}

impl Watchdog {
    fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            timer: Box::pin(env::sleep(timeout)),
        }
    }

    /// Waits for a reply, at most until the timeout after `sent`.
    async fn guard<T>(
        &mut self,
        sent: env::Instant,
        answer: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, WireError> {
        let deadline = sent + self.timeout;
        let mut answer = pin!(answer);
        std::future::poll_fn(|context| {
            if let Poll::Ready(outcome) = answer.as_mut().poll(context) {
                return Poll::Ready(outcome);
            }
            while self.timer.as_mut().poll(context).is_ready() {
                self.timer = Box::pin(env::sleep_until(deadline));
                if env::now() >= deadline {
                    return Poll::Ready(Err(WireError("timeout".to_owned())));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Processor time of this process, user and system.
fn cpu_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for writing one `rusage`, which the call fills in; zeros are a valid `rusage` too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}
