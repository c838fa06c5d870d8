//! `init()`: where a process that this crate started is taken over. The protocol's table is in `protocol`.

use crate::error::Panic;
use crate::info::{self, Own};
use crate::protocol::{self, Answer, Hello, INLINE, MARK, Outcome, ReceiveError, Request};
use crate::sys::lifeline;
use crate::sys::process as sys;
use crate::task::{Call, CallError, Reply};
use mp_core::socket::{self, Header, Received, Until};
use mp_core::wire::Message;
use mp_core::{Deadline, Passed};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::backtrace::Backtrace;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static INITIALIZED: AtomicBool = AtomicBool::new(false);
/// The child's end of the handshake's socket.
static SOCKET: OnceLock<OwnedFd> = OnceLock::new();

/// How long the parent may take between messages; it is gone long before when it has died.
const PATIENCE: Duration = Duration::from_secs(600);

/// The exit code of a process whose function panicked, as of a Rust program whose `main` did.
const PANICKED: i32 = 101;
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
        run_child(socket);
    }
}

/// As [`init`], from a constructor that runs before `main` and before the standard library has set itself up.
#[doc(hidden)]
pub fn init_before_main() {
    INITIALIZED.store(true, Ordering::Relaxed);
    if let Some(socket) = marked() {
        sys::ignore_broken_pipes();
        run_child(socket);
    }
}

pub(crate) fn is_initialized() -> bool {
    INITIALIZED.load(Ordering::Relaxed)
}

/// The socket to the parent, when this process was started by this crate: its standard input is the very socket that the
/// mark in the environment names. A mark that a grandchild happened to inherit names another.
fn marked() -> Option<OwnedFd> {
    let inode: u64 = std::env::var(MARK).ok()?.parse().ok()?;
    let stdin = rustix::stdio::stdin();
    let stat = rustix::fs::fstat(stdin).ok()?;
    let is_socket = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket;
    if !is_socket || stat.st_ino != inode {
        return None;
    }
    rustix::io::fcntl_dupfd_cloexec(stdin, 3).ok()
}

/// From here on this process belongs to its parent's request.
#[expect(clippy::disallowed_methods, reason = "the end of a child is the end of its entry")]
fn run_child(socket: OwnedFd) -> ! {
    mp_core::step!("process.entry", 1);
    sys::remove_variable(MARK);
    let code = match prepare(&socket) {
        Ok((call, args)) => {
            let socket = SOCKET.get_or_init(|| socket);
            let outcome = run(call, args);
            mp_core::step!("process.entry", 5);
            let code = report(socket, outcome);
            mp_core::step!("process.entry", 6);
            code
        }
        Err(NotStarted::ParentGone) => REFUSED,
        Err(NotStarted::Refused(why)) => {
            // The parent may be gone as well; then nobody needs to know.
            let _ = protocol::send(&socket, &Answer::Err(why), &until());
            REFUSED
        }
    };
    let _ = io::stdout().flush();
    std::process::exit(code)
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

/// Everything up to the call: whatever fails here is the parent's `SpawnError`.
fn prepare(socket: &OwnedFd) -> Result<(Call, Received), NotStarted> {
    let hello: Hello = protocol::receive(socket, &until())?;
    if hello.pid != std::process::id() {
        return Err(NotStarted::Refused("the start was meant for another process".into()));
    }
    mp_core::step!("process.entry", 2);
    let request: Request = protocol::receive(socket, &until())?;
    let args = socket::receive(socket.as_fd(), &until())?;
    mp_core::step!("process.entry", 3);
    let refuse = |what: &str, error: &dyn std::fmt::Display| NotStarted::Refused(format!("{what}: {error}"));
    let call = request.routine.resolve().map_err(|error| refuse("find the function", &error))?;
    settle_in(request).map_err(|error| refuse("set up the process", &error))?;
    protocol::send(socket, &Answer::Ok(()), &until())?;
    mp_core::step!("process.entry", 4);
    Ok((call, args))
}

/// Makes this process what was asked for, before any of the user's code runs.
fn settle_in(request: Request) -> io::Result<()> {
    let daemon = request.lifeline.is_some();
    if let Some(line) = request.lifeline {
        let line = std::sync::Arc::try_unwrap(line.into_shared()).or_else(|line| line.try_clone())?;
        if !lifeline::arm(&line)? {
            return Err(io::Error::other("the parent has ended"));
        }
        // Held until the end of this process.
        std::mem::forget(line);
    }
    match request.stdin {
        Some(stdin) => rustix::stdio::dup2_stdin(&stdin)?,
        None => rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?,
    }
    // A name with a zero inside cannot show in `ps`; it is a name all the same.
    if let Ok(shown) = std::ffi::CString::new(request.name.as_bytes()) {
        rustix::thread::set_name(&shown)?;
    }
    if let Some(bytes) = request.memory_limit {
        limit(Resource::Data, bytes)?;
    }
    if let Some(core_dump) = request.core_dump {
        let most = getrlimit(Resource::Core).maximum;
        setrlimit(Resource::Core, Rlimit { current: if core_dump { most } else { Some(0) }, maximum: most })?;
    }
    info::introduce(Own {
        name: request.name,
        path: request.path,
        daemon,
        parent: request.parent,
        parent_name: request.parent_name,
    });
    Ok(())
}

fn limit(resource: Resource, bytes: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum;
    let bytes = most.map_or(bytes, |most| bytes.min(most));
    Ok(setrlimit(resource, Rlimit { current: Some(bytes), maximum: Some(bytes) })?)
}

/// Runs the function in this thread and says how it ended.
fn run(call: Call, args: Received) -> Result<Reply, Outcome> {
    RUNS_TASK.set(true);
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        note_panic(info);
        previous(info);
    }));
    let Received { encoding, bytes, handles } = args;
    match panic::catch_unwind(AssertUnwindSafe(|| call.call(encoding, Cow::Owned(bytes), handles))) {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(CallError::Arguments(error))) => Err(Outcome::Arguments(error.to_string())),
        Ok(Err(CallError::Result(error))) => Err(Outcome::Unencodable(error.to_string())),
        Err(payload) => {
            // A payload whose own drop panics must not take the report with it.
            std::mem::forget(payload);
            let unknown = || Panic::new("unknown".into(), "unknown".into(), String::new());
            Err(Outcome::Panicked(LAST_PANIC.take().unwrap_or_else(unknown)))
        }
    }
}

/// Keeps what a panic of the function says; where panics abort, there is no later and the report goes now.
fn note_panic(info: &PanicHookInfo<'_>) {
    if !RUNS_TASK.get() {
        return;
    }
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("a payload that is no text").to_owned();
    let location = info.location().map_or_else(|| "unknown".into(), ToString::to_string);
    let panic = Panic::new(message, location, Backtrace::force_capture().to_string());
    if cfg!(panic = "abort")
        && let Some(socket) = SOCKET.get()
    {
        let _ = protocol::send(socket, &Outcome::Panicked(panic), &until());
    } else {
        LAST_PANIC.set(Some(panic));
    }
}

/// Sends how it ended, and gives the exit code. A parent that is gone needs no report.
fn report(socket: &OwnedFd, outcome: Result<Reply, Outcome>) -> i32 {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(outcome) => {
            let code = if matches!(outcome, Outcome::Panicked(_)) { PANICKED } else { 1 };
            let _ = protocol::send(socket, &outcome, &until());
            return code;
        }
    };
    match send_reply(socket, reply) {
        Ok(()) => 0,
        Err(error) => {
            let _ = protocol::send(socket, &Outcome::Unencodable(error.to_string()), &until());
            1
        }
    }
}

fn send_reply(socket: &OwnedFd, reply: Reply) -> io::Result<()> {
    let Reply { encoding, bytes, handles } = reply;
    let (file, bytes) = if bytes.len() > INLINE {
        let mut file = sys::anonymous_file()?;
        file.write_all(&bytes)?;
        (Some(Passed(file)), Vec::new())
    } else {
        (None, bytes)
    };
    let gone = |error: socket::TransferError| io::Error::other(error.to_string());
    protocol::send(socket, &Outcome::Returned(file), &until()).map_err(gone)?;
    let message = Message { encoding, bytes: &bytes, handles };
    let fds: Vec<_> = message.handles.fds().collect();
    socket::send_parts(socket.as_fd(), Header::of(&message), message.bytes, &fds, &until()).map_err(gone)?;
    drop(fds);
    message.handles.sent();
    Ok(())
}
