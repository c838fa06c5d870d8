//! Small calls around the start and the end of a process.

#![expect(unsafe_code, reason = "atexit, the environment before threads exist, SIGPIPE, an ioctl on a pidfd")]

use crate::start_method::Fork;
use crate::status::ExitStatus;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::MemfdFlags;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Has `hook` called when this process ends normally.
pub(crate) fn at_exit(hook: extern "C" fn()) {
    // SAFETY: a plain function of this image; shared libraries that are unloaded run their hooks first.
    let answer = unsafe { libc::atexit(hook) };
    // Fails only without memory for one entry: then nobody is joined at exit.
    debug_assert_eq!(answer, 0, "atexit");
}

/// Ends this process without running what was registered for its end.
pub(crate) fn exit_without_hooks(code: i32) -> ! {
    // SAFETY: ends the process; no destructor, hook or handler runs.
    unsafe { libc::_exit(code) }
}

/// Forks this process: its pid in the parent, nothing in the child.
#[expect(clippy::disallowed_methods, reason = "the one door")]
pub(crate) fn fork(_: Fork) -> io::Result<Option<u32>> {
    // SAFETY: who made the promise answers for what the child does beside the threads that it does not have.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(u32::try_from(pid).ok().filter(|&pid| pid != 0)),
    }
}

/// Makes `fd` a null device, whoever owns it: what it was is let go, and its number stays taken.
pub(crate) fn blind(fd: BorrowedFd<'_>) {
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return };
    // SAFETY: both are open. What the owner does with a null device harms nobody.
    let answer = unsafe { libc::dup3(null.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) };
    debug_assert!(answer >= 0, "dup3");
}

/// Whether no thread but the first exists. Unknown counts as no.
pub(crate) fn is_single_threaded() -> bool {
    use std::os::unix::fs::MetadataExt;
    // A directory has two links and one for each directory in it, which here is each thread.
    std::fs::metadata("/proc/self/task").is_ok_and(|tasks| tasks.nlink() == 3)
}

/// Leaves threads that have ended the time to be gone: whoever has joined one may still find it listed. False where others stay.
pub(crate) fn outlive_threads() -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(1);
    let deadline = mp_core::Deadline::after(PATIENCE);
    // The kernel tells nobody when a thread is gone.
    while !is_single_threaded() && !deadline.passed() {
        std::thread::sleep(STEP);
    }
    is_single_threaded()
}

/// Whether other threads than the calling one exist. Unknown counts as no.
pub(crate) fn has_other_threads() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/task").is_ok_and(|tasks| tasks.nlink() > 3)
}

/// Whether `pid` names this process, here or in a pid namespace further out.
pub(crate) fn is_own_pid(pid: u32) -> bool {
    if pid == std::process::id() {
        return true;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let names = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    names.is_some_and(|names| names.split_ascii_whitespace().any(|name| name.parse() == Ok(pid)))
}

/// Takes a variable out of the environment; only where [`is_single_threaded`].
#[expect(clippy::disallowed_methods, reason = "the one door")]
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: the caller has seen that no other thread exists that could read the environment, and none starts meanwhile.
    unsafe { std::env::remove_var(name) };
}

/// Makes the environment just these variables; only where [`is_single_threaded`].
#[expect(clippy::disallowed_methods, reason = "the one door")]
pub(crate) fn replace_environment(variables: &[(OsString, OsString)]) {
    // A name that could not be set could not have been read either.
    let settable = |name: &OsString| !name.is_empty() && !name.as_encoded_bytes()[1..].contains(&b'=');
    for (name, _) in std::env::vars_os().filter(|(name, _)| settable(name)) {
        // SAFETY: no other thread exists that could read the environment: the caller's promise.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in variables.iter().filter(|(name, _)| settable(name)) {
        // SAFETY: as above.
        unsafe { std::env::set_var(name, value) };
    }
}

/// What `/proc` tells about this thread.
pub(crate) fn own_status() -> io::Result<String> {
    // In one read, without asking for a length that such a file does not have.
    let mut text = vec![0; 4096];
    let mut file = File::open("/proc/thread-self/status")?;
    let mut length = 0;
    loop {
        match file.read(&mut text[length..])? {
            0 => break,
            read => length += read,
        }
        if length == text.len() {
            text.resize(length * 2, 0);
        }
    }
    text.truncate(length);
    String::from_utf8(text).map_err(io::Error::other)
}

/// The file mode mask in [`own_status`]: read without being set meanwhile, as other threads create files.
pub(crate) fn umask_in(status: &str) -> Option<u32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok()
}

pub(crate) fn umask() -> Option<u32> {
    umask_in(&own_status().ok()?)
}

/// Whether the number of `fd` is the same open file in process `pid`; false where that cannot be known.
pub(crate) fn is_same_file(pid: u32, fd: BorrowedFd<'_>) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let number = fd.as_raw_fd();
    // SAFETY: the call takes plain numbers and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_kcmp, std::process::id(), pid, KCMP_FILE, number, number) == 0 }
}

/// A pidfd of this process.
pub(crate) fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?)
}

/// What the standard library does before `main`, for a process that is taken over before that.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: sets a disposition without a handler.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    debug_assert_ne!(before, libc::SIG_ERR, "signal");
}

/// Lets no signal reach the calling thread, a thread of ours: the program's handlers run in its own.
pub(crate) fn block_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: writes the whole set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: a set that was written just above, and nobody wants the old one.
    let answer = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) };
    debug_assert_eq!(answer, 0, "pthread_sigmask");
}

/// Lets every signal reach the calling thread.
pub(crate) fn unblock_signals() -> io::Result<()> {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: writes the whole set.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: a set that was written just above, and nobody wants the old one.
    let answer = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(answer)) }
}

/// Whether `id` names a child of this process that nobody has reaped.
pub(crate) fn is_child(id: WaitId<'_>) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(id, options).is_ok()
}

/// Reaps the child behind `pidfd`, if it has ended.
///
/// A child that somebody else has reaped (SIGCHLD ignored, a foreign `waitpid(-1)`) has ended all the same; the kernel may
/// still know how.
pub(crate) fn reap(pidfd: &OwnedFd) -> io::Result<Option<ExitStatus>> {
    let status = reap_quietly(pidfd);
    if matches!(status, Ok(Some(_))) {
        // Before anybody here is told: who sends to the child is refused from then on.
        mp_core::news::of_a_death();
    }
    status
}

fn reap_quietly(pidfd: &OwnedFd) -> io::Result<Option<ExitStatus>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(None) => return Ok(None),
            Ok(Some(status)) => {
                return Ok(Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ExitStatus::Code(code),
                    (None, Some(number)) => ExitStatus::Signal { number, core: status.dumped() },
                    (None, None) => ExitStatus::Unknown,
                }));
            }
            Err(rustix::io::Errno::CHILD) => return Ok(Some(remembered(pidfd))),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// `struct pidfd_info` in its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// How a process ended that was reaped by others, as a kernel from 6.15 on remembers it for who holds its pidfd.
fn remembered(pidfd: &OwnedFd) -> ExitStatus {
    /// `PIDFD_INFO_EXIT`: the exit code is asked for, and is there.
    const EXIT: u64 = 1 << 3;
    // Its removal and the record of its status follow each other; the pidfd hangs up when both are done.
    let mut polled = [PollFd::new(pidfd, PollFlags::empty())];
    let _ = mp_core::park::poll_once(&mut polled, Some(Duration::from_millis(100)));
    let Some(info) = info(pidfd, EXIT) else { return ExitStatus::Unknown };
    let code = info.exit_code;
    if libc::WIFSIGNALED(code) {
        ExitStatus::Signal { number: libc::WTERMSIG(code), core: libc::WCOREDUMP(code) }
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(code))
    }
}

/// What names the control group of this process, whose pidfd it is: a number from the kernel since 6.13, else the paths.
pub(crate) fn control_group(pidfd: &OwnedFd) -> Vec<u8> {
    /// `PIDFD_INFO_CGROUPID`: the control group is asked for, and is there.
    const CGROUP: u64 = 1 << 2;
    info(pidfd, CGROUP).map_or_else(
        || std::fs::read("/proc/self/cgroup").unwrap_or_default(),
        |info| info.cgroup.to_ne_bytes().to_vec(),
    )
}

/// What the kernel says of a process, if it knows what is `asked` for.
fn info(pidfd: &OwnedFd, asked: u64) -> Option<PidfdInfo> {
    let mut info = PidfdInfo { mask: asked, ..PidfdInfo::default() };
    // SAFETY: `info` is a `struct pidfd_info` of the size that the number of the call names; the kernel writes no more.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, ptr::from_mut(&mut info)) };
    (answer == 0 && info.mask & asked != 0).then_some(info)
}

/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = libc::_IOWR::<PidfdInfo>(0xFF, 11);

/// Whether the process behind `pidfd` has ended, reaped or not.
pub(crate) fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let ended = mp_core::park::sleep_on_fds(&[pidfd.as_fd()], Some(Duration::ZERO))?;
    if ended {
        mp_core::news::of_a_death();
    }
    Ok(ended)
}

/// An anonymous file with `bytes` in it.
pub(crate) fn anonymous_file(bytes: &[u8]) -> io::Result<File> {
    // Writing past this limit would end the process with a signal instead of an error.
    let most = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if most.is_some_and(|most| most < bytes.len() as u64) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than RLIMIT_FSIZE allows"));
    }
    let create = |flags| rustix::fs::memfd_create("mp-result", MemfdFlags::CLOEXEC | flags);
    // Some systems ask for the seal, older ones do not know it.
    let file = create(MemfdFlags::NOEXEC_SEAL).or_else(|_| create(MemfdFlags::empty()))?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    Ok(file)
}

/// `fd` under a number above the standard streams', which must never be a socket of ours: somebody prints there.
pub(crate) fn above_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?) }
}

/// A pipe, reading end first, above the standard streams.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((above_streams(reader.into())?, above_streams(writer.into())?))
}

/// What the standard library does before `main`: standard streams that are closed lead nowhere.
pub(crate) fn open_closed_streams() {
    for number in 0..=2 {
        // SAFETY: only asked whether it is open.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        if rustix::io::fcntl_getfd(stream).is_err() {
            // Takes the lowest free number, which is this one: those below are open.
            let null = File::options().read(true).write(true).open("/dev/null");
            std::mem::forget(null);
        }
    }
}
