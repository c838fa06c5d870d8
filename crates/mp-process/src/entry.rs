//! `init()`: where a process that this crate started is taken over. The protocol's table is in `protocol`.

use crate::error::Panic;
use crate::info::{self, Own};
use crate::protocol::{self, Answer, Ending, HELLO, INLINE, MARK, Outcome, ReceiveError, Request};
use crate::sys::descriptors;
use crate::sys::lifeline;
use crate::sys::process as sys;
use crate::task::{Call, CallError, Reply};
use mp_core::handle::Handles;
use mp_core::socket::{self, Received, Until};
use mp_core::wire::{self, Message};
use mp_core::{Deadline, Encoding, Passed, park};
use rustix::net::RecvFlags;
use serde::Serialize;
use std::any::Any;
use std::backtrace::Backtrace;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io;
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
    mp_core::step!("process.entry", 1);
    descriptors::close_inherited();
    // Beside threads the environment must not be touched. The mark may stay: it names a socket that no other process will
    // find as its standard input.
    if sys::is_single_threaded() {
        sys::remove_variable(MARK);
    }
    let code = match prepare(&socket) {
        Ok((call, args)) => {
            let socket = SOCKET.get_or_init(|| socket);
            let report = run(call, args);
            mp_core::step!("process.entry", 5);
            let code = send_report(socket, report);
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
    exit(code)
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
    let request: Request = protocol::receive(socket, &until())?;
    mp_core::step!("process.entry", 2);
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
    request.settings.apply()?;
    info::introduce(Own {
        name: request.name,
        path: request.path,
        daemon,
        parent: request.parent,
        parent_name: request.parent_name,
    });
    Ok(())
}

/// Runs the function in this thread and says how it ended.
fn run(call: Call, args: Received) -> Result<Reply, Failed> {
    RUNS_TASK.set(true);
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        previous(info);
        note_panic(info);
    }));
    let Received { encoding, bytes, handles } = args;
    match panic::catch_unwind(AssertUnwindSafe(|| call.call(encoding, Cow::Owned(bytes), handles))) {
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
    match SOCKET.get() {
        Some(socket) if aborts => drop(send_report(socket, Err(Failed::Panicked(panic)))),
        _ => LAST_PANIC.set(Some(panic)),
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
            Reply { encoding: message.encoding, bytes: message.bytes.to_vec(), handles: message.handles }
        }
        Err(_) => Reply { encoding: Encoding::TEXT, bytes: Vec::new(), handles: Handles::default() },
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
        (Some(Passed(file)), Vec::new())
    } else {
        (None, bytes)
    };
    let until = until();
    protocol::send(socket, &Outcome { ending, file }, &until)?;
    let message = Message { encoding, bytes: &bytes, handles };
    socket::send(socket.as_fd(), message, &until)?;
    Ok(())
}
