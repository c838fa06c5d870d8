//! Named memory in which others write: lists, and what is placed there.

use super::input::Input;
use super::memory;
use mp_shm::{Item, ShareableList, SharedMemory};
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("mp-fuzz-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed))
}

fn file(name: &str) -> File {
    File::options().read(true).write(true).open(format!("/dev/shm/{name}")).expect("it has this name")
}

fn items(input: &mut Input<'_>) -> Vec<Item> {
    let mut items = vec![Item::from(1_i64), Item::from(2.5), Item::from(true), Item::from("text")];
    items.push(Item::from(input.bytes(9).to_vec()));
    items.truncate(usize::from(input.byte() % 6));
    items
}

fn use_list(list: &ShareableList, input: &mut Input<'_>) {
    let index = usize::from(input.byte() % 8);
    let _ = (list.get(index), list.len(), list.is_empty(), list.format());
    let _ = list.iter().rev().count();
    let _ = list.set(index, i64::from(input.byte()));
    let _ = list.set(index, "other".to_owned());
    let _ = (list.position(&Item::from(1_i64)), list.count(&Item::from("text")));
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let name = name();
    if input.byte() % 4 == 0 {
        // Another program's memory, read as a list.
        let memory = SharedMemory::create(&name, 1 + usize::from(input.pair() % 500)).expect("memory");
        let bytes = input.rest();
        memory.copy_in(0, &bytes[..bytes.len().min(memory.len())]);
        if let Ok(list) = ShareableList::open(&name) {
            use_list(&list, &mut input);
        }
        return;
    }
    let list = ShareableList::create(&name, items(&mut input)).expect("memory");
    let file = file(&name);
    let mut opened = Vec::new();
    for _ in 0..32 {
        let Some(what) = input.next() else { break };
        match what % 8 {
            0..=3 => memory::write(&file, u64::from(input.byte()), &mut input),
            4 | 5 => use_list(&list, &mut input),
            6 => opened.iter().for_each(|list| use_list(list, &mut input)),
            _ => opened.extend(ShareableList::open(&name).ok()),
        }
    }
}
