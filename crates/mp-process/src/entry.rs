//! `init()`: where a process that this crate started is taken over. The protocol's table is in `protocol`.

use crate::error::Panic;
use crate::info::{self, Own};
use crate::inherited;
use crate::protocol::{self, Answer, Ending, HELLO, INLINE, Job, MARK, Outcome, ReceiveError, Request};
use crate::start_method::{self, StartMethod};
use crate::sys::descriptors;
use crate::sys::lifeline;
use crate::sys::process as sys;
use crate::task::{Call, CallError, Reply, Routine};
use crate::zygote;
use mp_core::handle::Handles;
use mp_core::socket::{self, Received, Until};
use mp_core::wire::{self, Message};
use mp_core::{Deadline, Encoding, Handle, Passed, park};
use rustix::net::RecvFlags;
use serde::Serialize;
use std::any::Any;
use std::backtrace::Backtrace;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a child says in whose `main` somebody was faster than `init`.
const BESIDE_THREADS: &str = "threads were started before `init()`: make `init()` the first line of `main`, and build an async runtime \
                              after it, not with an attribute on `main`; if a library starts them before `main`, call \
                              `init_beside_threads()` instead";

static INITIALIZED: AtomicBool = AtomicBool::new(false);
/// The child's end of the handshake's socket.
static SOCKET: Mutex<Option<Arc<OwnedFd>>> = Mutex::new(None);

/// How long the parent may take between messages; it is gone long before when it has died.
const PATIENCE: Duration = Duration::from_secs(600);

/// The exit code of a process whose function panicked, as of a Rust program whose `main` did.
const PANICKED: i32 = 101;
/// The exit code of a process whose arguments could not be decoded or whose result could not be encoded.
const FAILED: i32 = 1;
/// The exit code of a process that could not be started to the end.
const REFUSED: i32 = 70;

thread_local! {
    /// Set in the thread that runs the function.
    static RUNS_TASK: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Makes this program able to start processes: **the first line of `main`**.
///
/// In an ordinary start it returns at once. In a process that this crate has started it takes over: runs the function,
/// reports the result and exits; it does not return. Whatever stands before it in `main` runs in every child as well, so put
/// nothing there, and build async runtimes after it.
///
/// ```
/// mp_process::init();
/// // … the program …
/// ```
#[doc(alias = "freeze_support")]
pub fn init() {
    INITIALIZED.store(true, Ordering::Relaxed);
    if let Some(socket) = marked() {
        if sys::has_other_threads() {
            Post { socket, forked: false }.refuse(BESIDE_THREADS.into());
        }
        run_child(socket);
    }
}

/// As [`init`], in a program into which libraries bring threads before `main`, as profilers and sanitizers do.
///
/// Where there are threads, `init` makes every start an error, as they are most likely those of an async runtime that was built too
/// early. This one lets them be: the child's function runs beside them. It does not help a runtime that was built too early.
pub fn init_beside_threads() {
    INITIALIZED.store(true, Ordering::Relaxed);
    if let Some(socket) = marked() {
        run_child(socket);
    }
}

/// As [`init`], from a constructor that runs before `main` and before the standard library has set itself up.
#[doc(hidden)]
pub fn init_before_main() {
    INITIALIZED.store(true, Ordering::Relaxed);
    if let Some(socket) = marked() {
        sys::ignore_broken_pipes();
        sys::open_closed_streams();
        run_child(socket);
    }
}

pub(crate) fn is_initialized() -> bool {
    INITIALIZED.load(Ordering::Relaxed)
}

/// The socket to the parent, when this process was started by this crate: its standard input is the very socket that the
/// mark in the environment names, and the first message there names this process. A program that a child starts before its
/// own `init()` may inherit mark and socket; it finds another pid, takes nothing, and starts as any program.
fn marked() -> Option<OwnedFd> {
    let inode: u64 = std::env::var(MARK).ok()?.parse().ok()?;
    let stdin = rustix::stdio::stdin();
    let stat = rustix::fs::fstat(stdin).ok()?;
    let is_socket = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket;
    if !is_socket || stat.st_ino != inode {
        return None;
    }
    // Above the standard streams: those are put in place by number.
    let socket = rustix::io::fcntl_dupfd_cloexec(stdin, 3).ok()?;
    let mut hello = [0; HELLO];
    // Without an answer nobody wants this process, whichever it is.
    let length = first_message(&socket, &mut hello).unwrap_or_else(|| exit(REFUSED));
    if length < HELLO || !protocol::meant(hello).is_some_and(sys::is_own_pid) {
        return None;
    }
    let _ = rustix::net::recv(&socket, &mut hello, RecvFlags::empty());
    Some(socket)
}

/// Looks at the first message without taking it; `None` when the parent is gone or silent.
fn first_message(socket: &OwnedFd, hello: &mut [u8; HELLO]) -> Option<usize> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let ready = park::sleep_on_fds(&[socket.as_fd()], deadline.left()).ok()?;
        if ready {
            let (length, _) = rustix::net::recv(socket, &mut hello[..], RecvFlags::PEEK).ok()?;
            return (length > 0).then_some(length);
        }
        if deadline.passed() {
            return None;
        }
    }
}

/// Ends this process as a program does whose `main` returns: hooks run, and what is buffered is written. A stream that another
/// thread keeps locked is passed over, so that the end never hangs on it.
#[expect(clippy::disallowed_methods, reason = "the end of a child is the end of its entry")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// From here on this process belongs to its parent's request.
fn run_child(socket: OwnedFd) -> ! {
    descriptors::close_inherited();
    // Beside threads the environment must not be touched. The mark may stay: it names a socket that no other process will
    // find as its standard input.
    if sys::is_single_threaded() {
        sys::remove_variable(MARK);
    }
    let mut post = Post { socket, forked: false };
    loop {
        match post.report_for_duty() {
            Ok(Work::Call { call, warm_up, args }) => {
                let Received { encoding, bytes, handles } = args;
                exit(post.work(|| {
                    if let Some(warm_up) = warm_up {
                        // What it made stays; what it returned is nothing.
                        let _ = warm_up.call_without_arguments();
                    }
                    call.call(encoding, Cow::Owned(bytes), handles)
                }))
            }
            // The fork server comes out of there only as one of its own children.
            Ok(Work::Serve(service)) => match zygote::serve(service) {
                Ok(Some(socket)) => {
                    stand_ready(&socket);
                    post = Post { socket, forked: true };
                }
                Ok(None) => exit(0),
                Err(_) => exit(REFUSED),
            },
            Ok(Work::Closure) | Err(NotStarted::ParentGone) => exit(REFUSED),
            Err(NotStarted::Refused(why)) => post.refuse(why),
        }
    }
}

/// Waits for the request, which for a spare may take for ever: only the program has the other end of `socket`, so its death ends the
/// wait, and no slices are needed.
fn stand_ready(socket: &OwnedFd) {
    while let Ok(false) = park::sleep_on_fds(&[socket.as_fd()], None) {}
}

/// A forked child of this process: does as it is told over `socket`, which is to run `function`.
pub(crate) fn run_forked<R: Serialize + 'static>(socket: OwnedFd, function: impl FnOnce() -> R) -> ! {
    // Or what comes over the socket would get their numbers, where streams are put in place.
    sys::open_closed_streams();
    let post = Post { socket, forked: true };
    match post.report_for_duty() {
        Ok(Work::Closure) => leave(post.work(|| Reply::of(&function()).map_err(CallError::Result))),
        Ok(Work::Call { call, args, .. }) => {
            let Received { encoding, bytes, handles } = args;
            leave(post.work(|| call.call(encoding, Cow::Owned(bytes), handles)))
        }
        Ok(Work::Serve(_)) | Err(NotStarted::ParentGone) => leave(REFUSED),
        Err(NotStarted::Refused(why)) => {
            post.send_refusal(why);
            leave(REFUSED)
        }
    }
}

/// Ends this process, a copy that was made by a plain `fork`: the exit hooks are those of the process that it was copied from.
pub fn leave_without_hooks(code: i32) -> ! {
    sys::exit_without_hooks(code)
}

/// Ends a forked child: what it has written is flushed, but the exit hooks are the parent's.
fn leave(code: i32) -> ! {
    inherited::flush_stdout();
    sys::exit_without_hooks(code)
}

fn until() -> Until<'static> {
    Until { deadline: Deadline::after(PATIENCE), gone: None }
}

enum NotStarted {
    ParentGone,
    Refused(String),
}

impl From<ReceiveError> for NotStarted {
    fn from(error: ReceiveError) -> NotStarted {
        match error {
            ReceiveError::Transfer(socket::TransferError::TooManyHandles) => NotStarted::Refused(
                "its arguments hold more handles than it may open; raise RLIMIT_NOFILE".into(),
            ),
            ReceiveError::Transfer(_) => NotStarted::ParentGone,
            ReceiveError::Decode(error) => NotStarted::Refused(error.to_string()),
        }
    }
}

impl From<socket::TransferError> for NotStarted {
    fn from(error: socket::TransferError) -> NotStarted {
        ReceiveError::Transfer(error).into()
    }
}

/// What a request comes to, once everything is in place.
enum Work {
    Call { call: Call, warm_up: Option<Call>, args: Received },
    Closure,
    Serve(zygote::Service),
}

/// The child's end of the handshake.
struct Post {
    socket: OwnedFd,
    /// Whether this process was forked, and brings the parent a pidfd of itself.
    forked: bool,
}

impl Post {
    /// Everything up to the call: whatever fails here is the parent's `SpawnError`.
    fn report_for_duty(&self) -> Result<Work, NotStarted> {
        mp_core::step!("process.entry", 1);
        let request: Request = protocol::receive(&self.socket, &until())?;
        mp_core::step!("process.entry", 2);
        let args = socket::receive(self.socket.as_fd(), &until())?;
        mp_core::step!("process.entry", 3);
        let work = settle_in(request, args)?;
        protocol::send(&self.socket, &Answer::Runs(self.own_pidfd()), &until())?;
        mp_core::step!("process.entry", 4);
        Ok(work)
    }

    fn own_pidfd(&self) -> Option<Handle> {
        // Without one the parent falls back on the pid.
        self.forked.then(|| sys::own_pidfd().ok().map(Handle::from)).flatten()
    }

    fn send_refusal(&self, why: String) {
        // The parent may be gone as well; then nobody needs to know.
        let _ = protocol::send(&self.socket, &Answer::Refused(self.own_pidfd(), why), &until());
    }

    fn refuse(&self, why: String) -> ! {
        self.send_refusal(why);
        exit(REFUSED)
    }

    /// Runs the function, reports how it ended, and gives the exit code.
    fn work(self, function: impl FnOnce() -> Result<Reply, CallError>) -> i32 {
        let socket = Arc::new(self.socket);
        // Locked by another thread only where this process was forked beside it: then a panic that aborts is not reported.
        if let Ok(mut place) = SOCKET.try_lock() {
            *place = Some(Arc::clone(&socket));
        }
        let report = run(function);
        #[cfg(feature = "log")]
        // The function may have set a logger of its own: its panic must not take the report with it.
        let _ = panic::catch_unwind(|| log::logger().flush());
        mp_core::step!("process.entry", 5);
        let code = send_report(&socket, report);
        mp_core::step!("process.entry", 6);
        code
    }
}

/// Makes this process what was asked for, before any of the user's code runs.
fn settle_in(request: Request, args: Received) -> Result<Work, NotStarted> {
    let refuse = |what: &str, error: &dyn std::fmt::Display| NotStarted::Refused(format!("{what}: {error}"));
    let find = |routine: Routine| routine.resolve().map_err(|error| refuse("find the function", &error));
    let set_up = |result: io::Result<()>| result.map_err(|error| refuse("set up the process", &error));
    let daemon = request.lifeline.is_some();
    let line =
        request.lifeline.map(armed).transpose().map_err(|error| refuse("set up the process", &error))?;
    let stdin_is_null = request.inherited.as_ref().is_some_and(|inherited| inherited.stdin_is_null);
    if let Some(inherited) = request.inherited {
        set_up(inherited.apply())?;
    }
    if request.stdin.is_some() || !stdin_is_null {
        set_up(stdin(request.stdin))?;
    }
    // A name with a zero inside cannot show in `ps`; it is a name all the same.
    if let Ok(shown) = CString::new(request.name.as_bytes()) {
        set_up(rustix::thread::set_name(&shown).map_err(io::Error::from))?;
    }
    set_up(request.settings.apply())?;
    start_method::set_start_method(StartMethod::from_number(request.start_method));
    let work = match request.job {
        Job::Serve(service) => {
            let warm_up = service.warm_up.map(find).transpose()?;
            let (orders, births) = (service.orders.into_shared(), service.births.into_shared());
            let parent = request.parent;
            return Ok(Work::Serve(zygote::Service { orders, births, warm_up, lifeline: line, parent }));
        }
        Job::Call { routine, warm_up } => {
            Work::Call { call: find(routine)?, warm_up: warm_up.map(find).transpose()?, args }
        }
        Job::Closure => Work::Closure,
    };
    // Held until the end of this process.
    std::mem::forget(line);
    #[cfg(feature = "log")]
    if let Some(end) = request.log {
        crate::log_line::install(end);
    }
    info::introduce(Own {
        name: request.name,
        path: request.path,
        daemon,
        parent: request.parent,
        parent_name: request.parent_name,
    });
    Ok(work)
}

/// From here on this process ends when the other end of `line` is closed.
fn armed(line: Handle) -> io::Result<OwnedFd> {
    let line = Arc::try_unwrap(line.into_shared()).or_else(|line| line.try_clone())?;
    if lifeline::arm(&line)? { Ok(line) } else { Err(io::Error::other("the parent has ended")) }
}

fn stdin(handle: Option<Handle>) -> io::Result<()> {
    match handle {
        Some(stdin) => rustix::stdio::dup2_stdin(&stdin)?,
        None => rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?,
    }
    Ok(())
}

/// Runs the function in this thread and says how it ended.
fn run(function: impl FnOnce() -> Result<Reply, CallError>) -> Result<Reply, Failed> {
    RUNS_TASK.set(true);
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        previous(info);
        note_panic(info);
    }));
    match panic::catch_unwind(AssertUnwindSafe(function)) {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(CallError::Arguments(error))) => Err(Failed::Arguments(error.to_string())),
        Ok(Err(CallError::Result(error))) => Err(Failed::Unencodable(error.to_string())),
        Err(payload) => {
            // The function may have put its own hook in the place of ours.
            let unseen = || Panic::new(text_of(&*payload), "unknown".into(), String::new());
            let panic = LAST_PANIC.take().unwrap_or_else(unseen);
            // A payload whose own drop panics must not take the report with it.
            std::mem::forget(payload);
            Err(Failed::Panicked(panic))
        }
    }
}

/// How the function ended, when not with a result.
enum Failed {
    Panicked(Panic),
    Arguments(String),
    Unencodable(String),
}

/// Keeps what a panic of the function says; where panics abort, whichever thread panics ends the process, and there is no later:
/// the report goes now.
fn note_panic(info: &PanicHookInfo<'_>) {
    let aborts = cfg!(panic = "abort");
    if !RUNS_TASK.get() && !aborts {
        return;
    }
    let location = info.location().map_or_else(|| "unknown".into(), ToString::to_string);
    let panic = Panic::new(text_of(info.payload()), location, Backtrace::force_capture().to_string());
    let socket = SOCKET.try_lock().ok().filter(|_| aborts).and_then(|socket| socket.clone());
    match socket {
        Some(socket) => drop(send_report(&socket, Err(Failed::Panicked(panic)))),
        None => LAST_PANIC.set(Some(panic)),
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a payload that is no text").to_owned()
}

/// Sends how it ended, and gives the exit code. A parent that is gone needs no report.
fn send_report(socket: &OwnedFd, report: Result<Reply, Failed>) -> i32 {
    let (ending, reply) = match report {
        Ok(reply) => (Ending::Returned, reply),
        Err(Failed::Panicked(panic)) => (Ending::Panicked, encoded(&panic)),
        Err(Failed::Arguments(why)) => (Ending::Arguments, encoded(&why)),
        Err(Failed::Unencodable(why)) => (Ending::Unencodable, encoded(&why)),
    };
    let code = match ending {
        Ending::Returned => 0,
        Ending::Panicked => PANICKED,
        Ending::Arguments | Ending::Unencodable => FAILED,
    };
    match send_parts(socket, ending, reply) {
        Ok(()) | Err(Unsent::Gone) => code,
        Err(Unsent::TooLong(why)) => {
            let _ = send_parts(socket, Ending::Unencodable, encoded(&why));
            FAILED
        }
    }
}

/// Texts are always encodable.
fn encoded<T: Serialize + 'static>(value: &T) -> Reply {
    let mut scratch = Vec::new();
    match wire::encode(value, &mut scratch) {
        Ok(message) => {
            let bytes = message.bytes.to_vec().into();
            Reply { encoding: message.encoding, bytes, handles: message.handles }
        }
        Err(_) => Reply { encoding: Encoding::TEXT, bytes: Vec::new().into(), handles: Handles::default() },
    }
}

enum Unsent {
    Gone,
    TooLong(String),
}

impl From<socket::TransferError> for Unsent {
    fn from(error: socket::TransferError) -> Unsent {
        match error {
            socket::TransferError::TooManyHandles => Unsent::TooLong(error.to_string()),
            _ => Unsent::Gone,
        }
    }
}

fn send_parts(socket: &OwnedFd, ending: Ending, reply: Reply) -> Result<(), Unsent> {
    let Reply { encoding, bytes, handles } = reply;
    let (file, bytes) = if bytes.len() > INLINE {
        let file = sys::anonymous_file(&bytes).map_err(|error| {
            let length = bytes.len();
            Unsent::TooLong(format!("an anonymous file for the {length} bytes of the result: {error}"))
        })?;
        (Some(Passed(file)), Vec::new().into())
    } else {
        (None, bytes)
    };
    let until = until();
    protocol::send(socket, &Outcome { ending, file }, &until)?;
    let message = Message { encoding, bytes: &bytes, handles };
    socket::send(socket.as_fd(), message, &until)?;
    Ok(())
}
