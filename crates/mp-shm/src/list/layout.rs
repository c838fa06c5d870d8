//! Where the parts of a list lie, and how items become bytes.

use super::item::{Item, SetError};
use super::no_list;
use crate::shared_memory::SharedMemory;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// The unit of places and offsets.
const WORD: usize = 8;

/// The longest place: its size must fit into a format.
const MOST: usize = 9_999_999;

/// The longest text or bytes whose exact length fits into a format.
const MOST_EXACT: usize = 99_999;

const NONE: Format = Format(*b"xxxxxx?x");
const BOOL: Format = Format(*b"xxxxxxx?");
const INT: Format = Format(*b"q\0\0\0\0\0\0\0");
const FLOAT: Format = Format(*b"d\0\0\0\0\0\0\0");

const PLAIN: u8 = 0;
const TEXT: u8 = 1;
const BYTES: u8 = 2;
const NOTHING: u8 = 3;

/// An item's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format([u8; WORD]);

impl Format {
    fn of(text: &str) -> Option<Format> {
        let mut format = [0; WORD];
        format.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Format(format))
    }

    /// Without the zeroes behind it.
    pub(super) fn text(&self) -> &[u8] {
        let length = self.0.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        &self.0[..length]
    }

    /// The length that it states, and whether that is exact.
    fn length(&self) -> Option<(usize, bool)> {
        let text = std::str::from_utf8(self.text()).ok()?;
        let (digits, exact) = match text.strip_suffix("s0x") {
            Some(digits) => (digits, true),
            None => (text.strip_suffix('s')?, false),
        };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        Some((digits.parse().ok().filter(|_| plain)?, exact))
    }
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The places of the items, and where the last one ends; from the start of the data.
    offsets: Arc<[usize]>,
}

/// Where one item lies, from the start of the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    data: usize,
    pub(super) room: usize,
    format: usize,
    kind: usize,
}

impl Layout {
    /// The layout of places of these sizes.
    pub(super) fn of(rooms: impl Iterator<Item = usize>) -> Option<Layout> {
        let mut offsets = vec![0_usize];
        for room in rooms {
            offsets.push(offsets.last()?.checked_add(room)?);
        }
        let layout = Layout { offsets: offsets.into() };
        layout.end().map(|_| layout)
    }

    /// The layout that the memory says it has.
    pub(super) fn read(memory: &SharedMemory) -> io::Result<Layout> {
        let size = memory.len();
        let word = |index: usize| -> Option<usize> {
            let at = index.checked_mul(WORD).filter(|at| at.saturating_add(WORD) <= size)?;
            usize::try_from(memory.at::<i64>(at).get()).ok()
        };
        let len = word(0).filter(|len| *len < size / WORD).ok_or_else(no_list)?;
        let offsets: Option<Arc<[usize]>> = (1..len + 2).map(word).collect();
        let layout = Layout { offsets: offsets.ok_or_else(no_list)? };
        let rising = layout.offsets.windows(2).all(|pair| pair[0] + WORD <= pair[1]);
        let whole = layout.offsets.iter().all(|offset| *offset <= size && offset.is_multiple_of(WORD));
        let fits = layout.end().is_some_and(|end| end <= size);
        if layout.offsets.first() == Some(&0) && whole && rising && fits {
            Ok(layout)
        } else {
            Err(no_list())
        }
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn data(&self) -> usize {
        (self.len() + 2) * WORD
    }

    fn formats(&self) -> usize {
        self.data() + self.offsets.last().copied().unwrap_or(0)
    }

    /// How many bytes all of it takes.
    fn end(&self) -> Option<usize> {
        let around = self.len().checked_mul(2 * WORD + 1)?.checked_add(2 * WORD)?;
        self.offsets.last()?.checked_add(around)
    }

    pub(super) fn place(&self, index: usize) -> Option<Place> {
        let (start, end) = (*self.offsets.get(index)?, *self.offsets.get(index.checked_add(1)?)?);
        Some(Place {
            data: self.data() + start,
            room: end - start,
            format: self.formats() + index * WORD,
            kind: self.formats() + self.len() * WORD + index,
        })
    }

    /// All bytes of a list with these items.
    pub(super) fn image(&self, items: &[Kept<'_>]) -> Vec<u8> {
        let mut image = Vec::with_capacity(self.end().unwrap_or(0));
        image.extend_from_slice(&(self.len() as i64).to_ne_bytes());
        self.offsets.iter().for_each(|offset| image.extend_from_slice(&(*offset as i64).to_ne_bytes()));
        for (item, ends) in items.iter().zip(&self.offsets[1..]) {
            image.extend_from_slice(item.bytes());
            image.resize(self.data() + ends, 0);
        }
        items.iter().for_each(|item| image.extend_from_slice(&item.format.0));
        image.extend(items.iter().map(|item| item.kind));
        image
    }
}

/// An item as it will lie in its place.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    content: Content<'a>,
    format: Format,
    kind: u8,
    /// The size of its place.
    pub(super) room: usize,
}

#[derive(Debug)]
enum Content<'a> {
    Word([u8; WORD]),
    Bytes(&'a [u8]),
}

impl<'a> Kept<'a> {
    /// In a place as large as Python would give it, by the bytes that it really has.
    pub(super) fn with_room(item: &'a Item) -> Result<Kept<'a>, SetError> {
        let room = match item {
            Item::Text(text) => WORD * (text.len() / WORD + 1),
            Item::Bytes(bytes) => WORD * (bytes.len() / WORD + 1),
            _ => WORD,
        };
        if room > MOST {
            return Err(SetError::TooLong { length: room - 1, room: MOST / WORD * WORD });
        }
        Kept::within(item, room)
    }

    /// In a place of that size.
    pub(super) fn within(item: &'a Item, room: usize) -> Result<Kept<'a>, SetError> {
        let word = |word, format, kind| Ok(Kept { content: Content::Word(word), format, kind, room });
        match item {
            Item::None => word([0; WORD], NONE, NOTHING),
            Item::Bool(value) => word([0, 0, 0, 0, 0, 0, 0, u8::from(*value)], BOOL, PLAIN),
            Item::Int(value) => word(value.to_ne_bytes(), INT, PLAIN),
            Item::Float(value) => word(value.to_ne_bytes(), FLOAT, PLAIN),
            Item::Text(text) => Kept::long(text.as_bytes(), TEXT, room),
            Item::Bytes(bytes) => Kept::long(bytes, BYTES, room),
        }
    }

    fn long(bytes: &'a [u8], kind: u8, room: usize) -> Result<Kept<'a>, SetError> {
        let length = bytes.len();
        if length > room {
            return Err(SetError::TooLong { length, room });
        }
        let format = match bytes.last() {
            Some(0) if length > MOST_EXACT => return Err(SetError::EndsInZero),
            Some(0) => Format::of(&format!("{length}s0x")),
            _ => Format::of(&format!("{room}s")),
        };
        let format = format.ok_or(SetError::TooLong { length, room: MOST })?;
        Ok(Kept { content: Content::Bytes(bytes), format, kind, room })
    }

    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Word(word) => word,
            Content::Bytes(bytes) => bytes,
        }
    }
}

pub(super) fn format(memory: &SharedMemory, place: &Place) -> Format {
    Format(memory.at::<u64>(place.format).get().to_ne_bytes())
}

/// The item that lies there; `None` when it is none, or changed while it was read.
pub(super) fn read(memory: &SharedMemory, place: &Place) -> Option<Item> {
    let look = || (format(memory, place), memory.at::<u8>(place.kind).get());
    let (format, kind) = look();
    let word = || memory.at::<u64>(place.data).get().to_ne_bytes();
    let item = match (kind, format) {
        (NOTHING, _) => Item::None,
        (PLAIN, BOOL) => Item::Bool(word()[WORD - 1] != 0),
        (PLAIN, INT) => Item::Int(i64::from_ne_bytes(word())),
        (PLAIN, FLOAT) => Item::Float(f64::from_ne_bytes(word())),
        (TEXT | BYTES, _) => long(memory, place, format, kind)?,
        _ => return None,
    };
    (look() == (format, kind)).then_some(item)
}

fn long(memory: &SharedMemory, place: &Place, format: Format, kind: u8) -> Option<Item> {
    let (length, exact) = format.length().filter(|(length, _)| *length <= place.room)?;
    let mut bytes = vec![0; length];
    memory.copy_out(place.data, &mut bytes);
    if !exact {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(end);
    }
    Some(if kind == TEXT { Item::Text(String::from_utf8(bytes).ok()?) } else { Item::Bytes(bytes) })
}

/// Replaces a word by another of the same type, in one step; false when it is of another type.
pub(super) fn replace_word(memory: &SharedMemory, place: &Place, new: &Kept<'_>) -> bool {
    let Content::Word(word) = new.content else { return false };
    if (format(memory, place), memory.at::<u8>(place.kind).get()) != (new.format, new.kind) {
        return false;
    }
    memory.at::<u64>(place.data).set(u64::from_ne_bytes(word));
    true
}

/// The kind first: nothing else says anything once that is none.
pub(super) fn make_none(memory: &SharedMemory, place: &Place) {
    memory.at::<u8>(place.kind).set(NOTHING);
    memory.at::<u64>(place.format).set(u64::from_ne_bytes(NONE.0));
}

pub(super) fn write_bytes(memory: &SharedMemory, place: &Place, new: &Kept<'_>) {
    match &new.content {
        Content::Word(word) => memory.at::<u64>(place.data).set(u64::from_ne_bytes(*word)),
        Content::Bytes(bytes) => {
            let mut whole = bytes.to_vec();
            whole.resize(place.room, 0);
            memory.copy_in(place.data, &whole);
        }
    }
    // A copy is no atomic access: whoever sees the format that comes next sees the bytes.
    std::sync::atomic::fence(SeqCst);
}

pub(super) fn write_format(memory: &SharedMemory, place: &Place, new: &Kept<'_>) {
    memory.at::<u64>(place.format).set(u64::from_ne_bytes(new.format.0));
}

pub(super) fn write_kind(memory: &SharedMemory, place: &Place, new: &Kept<'_>) {
    memory.at::<u8>(place.kind).set(new.kind);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_state_lengths_that_are_numbers() {
        let length = |text| Format::of(text).and_then(|format| format.length());
        assert_eq!(length("16s"), Some((16, false)));
        assert_eq!(length("5s0x"), Some((5, true)));
        for wrong in ["s", "s0x", "+5s", "5", "q", "-1s", "5s1x", ""] {
            assert_eq!(length(wrong), None, "{wrong}");
        }
        assert_eq!(Format::of("123456789"), None);
    }

    #[test]
    fn places_lie_one_behind_the_other() {
        let layout = Layout::of([8, 24, 16].into_iter()).unwrap();
        assert_eq!((layout.len(), layout.data(), layout.formats(), layout.end()), (3, 40, 88, Some(115)));
        let place = layout.place(1).unwrap();
        assert_eq!((place.data, place.room, place.format, place.kind), (48, 24, 96, 113));
        assert!(layout.place(3).is_none() && layout.place(usize::MAX).is_none());
        assert!(Layout::of([usize::MAX, 8].into_iter()).is_none());
    }
}
