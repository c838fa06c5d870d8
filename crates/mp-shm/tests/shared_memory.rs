//! `SharedMemory`: names, sizes, rights, and Python beside us.

mod common;

use common::{cross, exists, name, only_reaper};
use mp_shm::{CreateError, OpenError, SharedMemory, reap};
use mp_test::guarded;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

#[test]
fn smoke() {
    guarded(|| {
        let name = name("smoke");
        let ours = SharedMemory::create(&name, 100).unwrap();
        let theirs = SharedMemory::open(&name).unwrap();
        assert_eq!((ours.name(), ours.len(), theirs.len()), (&*name, 100, 100));
        assert_eq!(ours.to_vec(), [0; 100]);
        theirs.copy_in(90, b"0123456789");
        assert_eq!(&ours.to_vec()[90..], b"0123456789");
        theirs.atomic_u32(4).store(5, std::sync::atomic::Ordering::Release);
        assert_eq!(ours.at::<u32>(4).fetch_add(1), 5);
        let inside = ours.as_ptr() as usize;
        assert!(inside.is_multiple_of(4096));
    });
}

#[test]
fn it_is_a_value_for_threads() {
    fn can_cross<T: Send + Sync + Clone + 'static>() {}
    can_cross::<SharedMemory>();
    guarded(|| {
        let memory = SharedMemory::create(&name("threads"), 8).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| _ = memory.at::<u64>(0).fetch_add(1)));
            }
        });
        let there = memory.clone();
        std::thread::spawn(move || drop(there)).join().unwrap();
        assert_eq!(memory.at::<u64>(0).get(), 4000);
    });
}

#[test]
fn what_is_no_name_or_size_is_refused() {
    guarded(|| {
        let long = "x".repeat(256);
        for name in ["", "/", ".", "..", "a/b", "//a", "a\0b", &*long] {
            assert!(matches!(SharedMemory::create(name, 1), Err(CreateError::InvalidName(_))), "{name:?}");
            assert!(matches!(SharedMemory::open(name), Err(OpenError::InvalidName(_))), "{name:?}");
            assert!(SharedMemory::remove(name).is_err());
        }
        assert!(matches!(SharedMemory::create(&name("empty"), 0), Err(CreateError::ZeroSize)));
        let slash = SharedMemory::create(&format!("/{}", name("slash")), 1).unwrap();
        assert_eq!(slash.name(), name("slash"));
        assert!(SharedMemory::open(&name("slash")).is_ok());
    });
}

#[test]
fn a_taken_and_a_missing_name_are_errors_that_say_so() {
    guarded(|| {
        let name = name("taken");
        let missing = SharedMemory::open(&name).unwrap_err();
        assert!(matches!(missing, OpenError::NotFound(_)));
        assert_eq!(io::Error::from(missing).kind(), io::ErrorKind::NotFound);
        let first = SharedMemory::create(&name, 10).unwrap();
        first.at::<u8>(0).set(1);
        let taken = SharedMemory::create(&name, 20).unwrap_err();
        assert!(taken.to_string().contains(&name), "{taken}");
        assert_eq!(io::Error::from(taken).kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(SharedMemory::open(&name).unwrap().to_vec()[0], 1);
    });
}

#[test]
fn the_name_goes_with_the_creators_last_clone_and_the_memory_with_the_last_user() {
    guarded(|| {
        let name = name("clones");
        let creator = SharedMemory::create(&name, 10).unwrap();
        let (clone, user) = (creator.clone(), SharedMemory::open(&name).unwrap());
        drop(creator);
        assert!(exists(&name));
        drop(clone);
        assert!(!exists(&name));
        user.at::<u8>(3).set(4);
        assert_eq!(user.to_vec()[3], 4);
        assert!(!user.unlink().unwrap());
        drop(user);
    });
}

#[test]
fn a_user_that_goes_leaves_the_name() {
    guarded(|| {
        let memory = SharedMemory::create(&name("user"), 10).unwrap();
        drop(SharedMemory::open(memory.name()).unwrap());
        let sent: SharedMemory = cross(&memory).unwrap();
        drop(sent);
        assert!(exists(memory.name()));
    });
}

#[test]
fn unlink_and_remove_happen_once() {
    guarded(|| {
        let memory = SharedMemory::create(&name("once"), 10).unwrap();
        assert!(SharedMemory::open(memory.name()).unwrap().unlink().unwrap());
        assert!(!memory.unlink().unwrap());
        assert!(!SharedMemory::remove(memory.name()).unwrap());
        assert!(matches!(SharedMemory::open(memory.name()), Err(OpenError::NotFound(_))));
        // A handle needs no name.
        let sent: SharedMemory = cross(&memory).unwrap();
        sent.at::<u8>(0).set(9);
        assert_eq!(memory.at::<u8>(0).get(), 9);
    });
}

#[test]
fn a_namesake_is_not_unlinked() {
    guarded(|| {
        let name = name("namesake");
        let old = SharedMemory::create(&name, 10).unwrap();
        assert!(SharedMemory::remove(&name).unwrap());
        let new = SharedMemory::create(&name, 20).unwrap();
        assert!(!old.unlink().unwrap());
        drop(old);
        assert_eq!(SharedMemory::open(&name).unwrap().len(), 20);
        drop(new);
        assert!(!exists(&name));
    });
}

#[test]
fn what_is_persisted_stays_until_it_is_removed() {
    guarded(|| {
        let _only = only_reaper();
        let name = name("persisted");
        let memory = SharedMemory::create(&name, 10).unwrap();
        memory.at::<u8>(0).set(6);
        memory.persist().unwrap();
        drop(memory);
        assert!(!reap().unwrap().contains(&name));
        assert!(matches!(SharedMemory::create(&name, 10), Err(CreateError::Exists(_))));
        assert_eq!(SharedMemory::open(&name).unwrap().to_vec()[0], 6);
        assert!(SharedMemory::remove(&name).unwrap());
        assert!(!exists(&name));
    });
}

#[test]
fn any_user_can_persist() {
    guarded(|| {
        let creator = SharedMemory::create(&name("asked"), 10).unwrap();
        let user = SharedMemory::open(creator.name()).unwrap();
        user.persist().unwrap();
        drop(creator);
        assert!(exists(user.name()));
        assert!(user.unlink().unwrap());
    });
}

#[test]
fn the_file_is_for_this_user_alone_and_closed_on_exec() {
    guarded(|| {
        let before: Vec<_> =
            fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().file_name()).collect();
        let memory = SharedMemory::create(&name("mode"), 10).unwrap();
        let file = fs::metadata(format!("/dev/shm/{}", memory.name())).unwrap();
        assert_eq!((file.mode() & 0o7777, file.len()), (0o600, 10));
        let mut ours = 0;
        for fd in fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
            let Ok(info) = fs::read_to_string(fd.path()) else { continue };
            let new = !before.contains(&fd.file_name());
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            if new
                && fs::metadata(format!("/proc/self/fd/{}", fd.file_name().display()))
                    .is_ok_and(|at| at.ino() == file.ino())
            {
                assert_ne!(
                    u32::from_str_radix(flags, 8).unwrap() & 0o2000000,
                    0,
                    "CLOEXEC of {}",
                    fd.file_name().display()
                );
                ours += 1;
            }
        }
        assert!(ours > 0);
    });
}

#[test]
fn what_another_program_has_not_sized_yet_is_an_error_that_says_so() {
    guarded(|| {
        let name = name("unsized");
        fs::write(format!("/dev/shm/{name}"), "").unwrap();
        let error = SharedMemory::open(&name).unwrap_err();
        assert!(matches!(error, OpenError::Unfinished(_)), "{error}");
        assert!(SharedMemory::remove(&name).unwrap());
    });
}

/// Nor one whose handle and whose mapping are two different segments, while the name passes from one to the next.
#[test]
fn an_opener_never_sees_a_half_made_one() {
    const ROUNDS: u64 = 2000;
    guarded(|| {
        let name = name("race");
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let made = SharedMemory::create(&name, 5000).unwrap();
                    assert_eq!(made.len(), 5000);
                }
            });
            let mut opened = 0;
            while !maker.is_finished() {
                match SharedMemory::open(&name) {
                    Ok(memory) => {
                        opened += 1;
                        assert_eq!(memory.len(), 5000);
                        memory.at::<u64>(0).set(opened);
                        let by_handle: SharedMemory = cross(&memory).unwrap();
                        assert_eq!(by_handle.at::<u64>(0).get(), opened);
                    }
                    Err(OpenError::NotFound(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    });
}

#[test]
fn of_many_creators_one_wins() {
    guarded(|| {
        let name = name("many");
        let all: Vec<_> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| SharedMemory::create(&name, 100))).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert_eq!(all.iter().filter(|made| made.is_ok()).count(), 1);
        assert_eq!(all.iter().filter(|made| matches!(made, Err(CreateError::Exists(_)))).count(), 7);
    });
}

#[test]
fn more_than_the_machine_has_is_an_error_now() {
    guarded(|| {
        let name = name("huge");
        let error = SharedMemory::create(&name, 1 << 50).unwrap_err();
        assert!(error.to_string().starts_with(&format!("create shared memory `{name}`: ")), "{error}");
        assert!(!exists(&name));
        // What another program has sized without having the memory.
        File::create_new(format!("/dev/shm/{name}")).unwrap().set_len(1 << 50).unwrap();
        assert!(matches!(SharedMemory::open(&name), Err(OpenError::Io(_))));
        assert!(SharedMemory::remove(&name).unwrap());
    });
}

#[test]
fn the_memory_of_a_foreign_segment_is_there_once_it_is_open() {
    guarded(|| {
        let name = name("sparse");
        File::create_new(format!("/dev/shm/{name}")).unwrap().set_len(1 << 20).unwrap();
        let memory = SharedMemory::open(&name).unwrap();
        assert_eq!(memory.len(), 1 << 20);
        assert!(fs::metadata(format!("/dev/shm/{name}")).unwrap().blocks() * 512 >= 1 << 20);
        assert!(memory.unlink().unwrap());
    });
}

#[test]
fn a_file_or_directory_or_link_is_no_segment() {
    guarded(|| {
        let name = name("odd");
        let path = format!("/dev/shm/{name}");
        fs::create_dir(&path).unwrap();
        assert!(matches!(SharedMemory::open(&name), Err(OpenError::Io(_))));
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(SharedMemory::open(&name), Err(OpenError::Io(_))));
        fs::remove_file(&path).unwrap();
        let file = mp_core::Passed(File::open("/dev/null").unwrap());
        assert!(cross::<_, SharedMemory>(&(file, "x".to_owned())).is_err());
        let anonymous = mp_core::Passed(mp_shm::Value::new(1).unwrap().as_fd().try_clone_to_owned().unwrap());
        assert!(cross::<_, SharedMemory>(&(anonymous, "x".to_owned())).is_err());
    });
}

#[test]
fn names_that_are_not_ours_are_not_reaped() {
    guarded(|| {
        let _only = only_reaper();
        let foreign = name("foreign");
        fs::write(format!("/dev/shm/{foreign}"), "data").unwrap();
        let used = SharedMemory::create(&name("used"), 10).unwrap();
        let reaped = reap().unwrap();
        assert!(!reaped.contains(&foreign) && !reaped.contains(&used.name().to_owned()));
        assert!(exists(&foreign) && exists(used.name()));
        fs::remove_file(format!("/dev/shm/{foreign}")).unwrap();
    });
}

/// Writing to memory leaves the mark alone, which decides what may be removed.
#[test]
fn a_segment_that_was_written_to_is_still_its_creators() {
    guarded(|| {
        let memory = SharedMemory::create(&name("written"), 1 << 16).unwrap();
        memory.copy_in(0, &vec![1; 1 << 16]);
        SharedMemory::open(memory.name()).unwrap().copy_in(0, &vec![2; 1 << 16]);
        let name = memory.name().to_owned();
        drop(memory);
        assert!(!exists(&name));
    });
}

/// Python, talking by lines; `None`, said by name, where there is none.
fn python(test: &str, program: &str) -> Option<(std::process::Child, impl FnMut() -> String)> {
    let started = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else {
        eprintln!("mp-shm: {test} cannot run: there is no python3");
        return None;
    };
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let next = move || {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    };
    Some((child, next))
}

#[test]
fn python_opens_ours() {
    guarded(|| {
        let memory = SharedMemory::create(&name("to-python"), 5000).unwrap();
        memory.copy_in(0, b"from rust");
        let program = format!(
            "from multiprocessing.shared_memory import SharedMemory\n\
             m = SharedMemory('{}')\n\
             print(m.size, bytes(m.buf[:9]).decode(), flush=True)\n\
             m.buf[4990:5000] = b'and python'\n\
             m.close()\n",
            memory.name()
        );
        let Some((mut child, mut line)) = python("python_opens_ours", &program) else { return };
        assert_eq!(line(), "5000 from rust");
        assert!(child.wait().unwrap().success());
        assert_eq!(&memory.to_vec()[4990..], b"and python");
    });
}

#[test]
fn ours_opens_pythons() {
    guarded(|| {
        let name = name("from-python");
        let program = format!(
            "from multiprocessing.shared_memory import SharedMemory\n\
             m = SharedMemory('{name}', create=True, size=3000)\n\
             m.buf[:11] = b'from python'\n\
             print('ready', flush=True)\n\
             input()\n\
             print(bytes(m.buf[2991:]).decode(), flush=True)\n\
             m.close(); m.unlink()\n"
        );
        let Some((mut child, mut line)) = python("ours_opens_pythons", &program) else { return };
        assert_eq!(line(), "ready");
        let memory = SharedMemory::open(&name).unwrap();
        assert_eq!((memory.len(), &memory.to_vec()[..11]), (3000, &b"from python"[..]));
        memory.copy_in(2991, b"from rust");
        drop(memory);
        assert!(exists(&name));
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(line(), "from rust");
        assert!(child.wait().unwrap().success());
        assert!(!exists(&name));
    });
}
