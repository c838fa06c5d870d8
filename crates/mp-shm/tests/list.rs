//! `ShareableList`: mixed values under a name, also for Python.

mod common;

use common::{cross, exists, name};
use mp_shm::{CreateError, Item, ItemError, OpenError, SetError, ShareableList, SharedMemory};
use mp_test::{Role, command, guarded, hear, say, steps_or_say};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

fn mixed() -> [Item; 7] {
    [
        "howdy".into(),
        vec![b'H', b'o', 0].into(),
        (-273.154).into(),
        100.into(),
        ().into(),
        true.into(),
        42.into(),
    ]
}

fn items(list: &ShareableList) -> Vec<Item> {
    list.iter().collect::<Result<_, _>>().expect("items")
}

#[test]
fn smoke() {
    guarded(|| {
        let list = ShareableList::create(&name("list"), mixed()).unwrap();
        assert_eq!((items(&list), list.len(), list.is_empty()), (mixed().to_vec(), 7, false));
        assert_eq!(list.get(7), Err(ItemError::OutOfRange { index: 7, len: 7 }));
        assert_eq!((list.position(&100.into()), list.position(&7.into())), (Ok(Some(3)), Ok(None)));
        assert_eq!(list.count(&true.into()), Ok(1));
        let there = ShareableList::open(list.memory().name()).unwrap();
        there.set(0, "hi").unwrap();
        assert_eq!(list.get(0).unwrap(), Item::from("hi"));
        assert!(format!("{list:?}").starts_with("[Some(Text(\"hi\"))"));
        let copy = ShareableList::create(&name("copy"), items(&list)).unwrap();
        copy.set(0, "yo").unwrap();
        assert_eq!((list.get(0).unwrap(), items(&copy)[1..] == mixed()[1..]), (Item::from("hi"), true));
    });
}

#[test]
fn an_item_changes_its_type_in_place_and_touches_no_other() {
    guarded(|| {
        let list = ShareableList::create(&name("retype"), mixed()).unwrap();
        let mut expected = mixed().to_vec();
        let new: [Item; 9] = [
            1.into(),
            "eight ch".into(),
            vec![0; 8].into(),
            Item::None,
            false.into(),
            f64::INFINITY.into(),
            "".into(),
            vec![1, 0].into(),
            i64::MIN.into(),
        ];
        for index in 0..list.len() {
            for item in &new {
                list.set(index, item.clone()).unwrap();
                expected[index] = item.clone();
                assert_eq!(items(&list), expected);
            }
        }
        assert_eq!(list.format(), "q".repeat(7));
    });
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_changed() {
    guarded(|| {
        let list = ShareableList::create(&name("fit"), ["12345678".into(), 5.into()]).unwrap();
        list.set(0, "1234567890123456").unwrap();
        let error = list.set(0, "12345678901234567").unwrap_err();
        assert_eq!(error, SetError::TooLong { length: 17, room: 16 });
        assert!(error.to_string().contains("do not fit"), "{error}");
        assert!(matches!(list.set(1, "123456789"), Err(SetError::TooLong { length: 9, room: 8 })));
        assert_eq!(list.set(2, 1), Err(SetError::OutOfRange { index: 2, len: 2 }));
        assert_eq!(items(&list), ["1234567890123456".into(), Item::from(5)]);
        let huge = ShareableList::create(&name("huge"), [vec![1; 10_000_000].into()]).unwrap_err();
        assert!(huge.to_string().contains("do not fit"), "{huge}");
        let mut zeroed = vec![1; 100_000];
        zeroed[99_999] = 0;
        assert!(ShareableList::create(&name("zero"), [zeroed.into()]).is_err());
        assert!(ShareableList::create(&name("large"), [vec![1; 5_000_000].into()]).is_ok());
    });
}

/// What Python's own loses: zero bytes at the end, and the length of what is not ASCII.
#[test]
fn zero_bytes_at_the_end_and_every_letter_are_kept() {
    guarded(|| {
        let texts: [Item; 5] =
            ["?多字节文本".into(), "a\0".into(), "\0".into(), vec![0; 7].into(), vec![7, 0, 0].into()];
        let list = ShareableList::create(&name("kept"), texts.clone()).unwrap();
        assert_eq!(items(&list), texts);
    });
}

#[test]
fn an_empty_list_is_one_and_a_missing_one_an_error() {
    guarded(|| {
        let list = ShareableList::create(&name("empty"), []).unwrap();
        assert!(list.is_empty() && list.iter().next().is_none() && list.format().is_empty());
        assert!(ShareableList::open(list.memory().name()).unwrap().is_empty());
        assert!(matches!(ShareableList::create(list.memory().name(), []), Err(CreateError::Exists(_))));
        assert!(matches!(ShareableList::open(&name("missing")), Err(OpenError::NotFound(_))));
    });
}

/// A handle crosses, and its size does not depend on what is in the list; it holds the memory even where the name is gone.
#[test]
fn it_crosses_as_a_handle_of_the_same_size() {
    guarded(|| {
        let size = |list: &ShareableList| mp_core::encode(list, &mut Vec::new()).unwrap().bytes.len();
        let small = ShareableList::create(&name("cross1"), [1.into()]).unwrap();
        let large = ShareableList::create(&name("cross2"), (0..1000).map(Item::from)).unwrap();
        assert_eq!(size(&small), size(&large));
        let there: ShareableList = cross(&large).unwrap();
        assert!(large.memory().unlink().unwrap());
        there.set(999, "nine").unwrap();
        assert_eq!(large.get(999).unwrap(), Item::from("nine"));
        let later: ShareableList = cross(&large).unwrap();
        assert_eq!(later.get(999).unwrap(), Item::from("nine"));
        assert!(matches!(ShareableList::open(large.memory().name()), Err(OpenError::NotFound(_))));
        assert!(cross::<_, ShareableList>(&SharedMemory::create(&name("other"), 100).unwrap()).is_ok());
    });
}

/// Whatever lies in the memory is an error or a list, never a panic: every byte of a list is given every kind of nonsense.
#[test]
fn nonsense_in_the_memory_is_an_error_or_an_item() {
    guarded(|| {
        let memory = SharedMemory::create(&name("nonsense"), 300).unwrap();
        let good = ShareableList::create(&name("good"), mixed()).unwrap().memory().to_vec();
        let mut seed = 1_u64;
        for round in 0..if cfg!(miri) { 10 } else { 20_000 } {
            let mut bytes = good.clone();
            for _ in 0..=round % 4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
                bytes[at] = seed.to_le_bytes()[3];
            }
            memory.copy_in(0, &bytes);
            match ShareableList::open(memory.name()) {
                Err(OpenError::Io(error)) => assert!(error.to_string().contains("no list"), "{error}"),
                Err(error) => panic!("{error}"),
                Ok(list) => {
                    list.iter().for_each(|item| _ = item);
                    let _ = list.set(0, "x");
                    let _ = (list.format(), list.count(&Item::None));
                }
            }
        }
    });
}

/// Killed at any step of replacing a text, one leaves nothing there, or the new text, and everything else as it was.
#[test]
fn who_is_killed_while_replacing_an_item_leaves_none() {
    const ME: &str = "who_is_killed_while_replacing_an_item_leaves_none";
    if mp_test::role().is_some() {
        let list = ShareableList::open(&hear().expect("a name")).unwrap();
        list.set(0, "jolly").unwrap();
        return say("set");
    }
    if !steps_or_say(mp_core::step::enabled(), ME) {
        return;
    }
    guarded(|| {
        for step in ["shm.list:1", "shm.list:2", "shm.list:3"] {
            let list = ShareableList::create(&name("killed"), mixed()).unwrap();
            let mut role = command(ME, "setter");
            role.env("MP_STEP", step);
            let mut setter = Role::start(role);
            setter.tell(list.memory().name());
            assert_eq!(setter.word(), None, "killed at {step}");
            setter.wait();
            assert_eq!(list.get(0), Ok(Item::None), "{step}");
            assert_eq!(items(&list)[1..], mixed()[1..]);
            list.set(0, "alive").unwrap();
            assert_eq!(list.get(0).unwrap(), Item::from("alive"));
        }
    });
}

/// Python, which runs `program` and is told to end by a line; `None`, said by name, where there is none.
fn python(test: &str, program: &str) -> Option<(Child, impl FnMut() -> String)> {
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
fn python_reads_and_writes_ours() {
    guarded(|| {
        let list = ShareableList::create(&name("to-python"), mixed()).unwrap();
        let program = format!(
            "from multiprocessing.shared_memory import ShareableList\n\
             l = ShareableList(name='{}')\n\
             print(list(l), l.count(100), l.index(None), flush=True)\n\
             l[0] = 'from py'; l[1] = b'longer'; l[3] = None; l[4] = 1.5; l[5] = 'true'; l[6] = -1\n\
             print(l.format, flush=True)\n\
             l.shm.close()\n",
            list.memory().name()
        );
        let Some((mut child, mut line)) = python("python_reads_and_writes_ours", &program) else { return };
        assert_eq!(line(), "['howdy', b'Ho', -273.154, 100, None, True, 42] 1 4");
        assert_eq!(line(), list.format());
        assert!(child.wait().unwrap().success());
        let expected: [Item; 7] = [
            "from py".into(),
            b"longer"[..].into(),
            (-273.154).into(),
            Item::None,
            1.5.into(),
            "true".into(),
            (-1).into(),
        ];
        assert_eq!(items(&list), expected);
    });
}

#[test]
fn ours_reads_and_writes_pythons() {
    guarded(|| {
        let name = name("from-python");
        let program = format!(
            "from multiprocessing.shared_memory import ShareableList\n\
             l = ShareableList(['howdy', b'HoWdY', -273.154, 100, None, True, 42, 'ä' * 8], name='{name}')\n\
             print('ready', flush=True)\n\
             input()\n\
             print(list(l)[:7], flush=True)\n\
             l.shm.close(); l.shm.unlink()\n"
        );
        let Some((mut child, mut line)) = python("ours_reads_and_writes_pythons", &program) else { return };
        assert_eq!(line(), "ready");
        let list = ShareableList::open(&name).unwrap();
        let expected: [Item; 7] = [
            "howdy".into(),
            b"HoWdY"[..].into(),
            (-273.154).into(),
            100.into(),
            Item::None,
            true.into(),
            42.into(),
        ];
        let found: Vec<Item> = list.iter().take(7).map(|item| item.expect("an item")).collect();
        assert_eq!(found, expected);
        // Python gives it a place by its letters, not its bytes, and cuts what does not fit.
        assert_eq!(list.get(7), Ok(Item::from("ä".repeat(8))));
        for (index, item) in
            ["rust".into(), b"ru"[..].into(), 1.into(), 2.5.into(), "none".into(), Item::None]
                .into_iter()
                .enumerate()
        {
            list.set(index, item).unwrap();
        }
        drop(list);
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(line(), "['rust', b'ru', 1, 2.5, 'none', None, 42]");
        assert!(child.wait().unwrap().success());
        assert!(!exists(&name));
    });
}
