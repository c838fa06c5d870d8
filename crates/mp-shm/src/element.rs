//! What a shared value may be, and how it lies in memory as one atomic word.
//!
//! Every element is one word of its own size, so it is read and written whole, whoever else does so and dies there.
//! Types that have invalid patterns are checked when they are read: nothing that lies in shared memory is believed.

use crate::mapping::Mapping;
use bytemuck::NoUninit;
use std::fmt;
use std::sync::atomic::Ordering::{Release, SeqCst};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// A type that a [`Value`](crate::Value) or an [`Array`](crate::Array) may hold: `i8` to `i64`, `u8` to `u64`, `isize`,
/// `usize`, `f32`, `f64`, `bool` and `char`.
///
/// A `bool` is stored as a byte: false is 0, and every other byte reads as true. A `char` is stored as four bytes; a number
/// that is no `char` reads as `'\u{FFFD}'`. Neither can be written through this crate, only by a foreign or broken program.
///
/// Sealed: no other type can be stored as one atomic word without checks that this crate would not know.
pub trait Element: Copy + PartialEq + fmt::Debug + NoUninit + Send + Sync + sealed::Stored + 'static {}

/// An [`Element`] that is a number: it can be added to, and has a smaller and a larger.
///
/// Integers wrap around, as those of [`std::sync::atomic`] do. Floats are changed by a loop around a compare-and-exchange;
/// the smaller and larger are those of [`f64::min`] and [`f64::max`], which pass over NaN.
pub trait Number: Element + sealed::Arithmetic {}

/// An [`Element`] made of bits: the integers and `bool`.
pub trait Bits: Element + sealed::Logic {}

/// What the public traits are made of; outside of this crate nobody can name it, so nobody can implement them.
#[expect(unnameable_types, reason = "that is what seals the traits")]
pub(crate) mod sealed {
    use super::Mapping;

    /// An unsigned integer that has an atomic of its own size.
    pub trait Word: Copy + Eq {
        type Atomic: Sync;
        fn at(map: &Mapping, offset: usize) -> &Self::Atomic;
        fn load(place: &Self::Atomic) -> Self;
        fn store(place: &Self::Atomic, word: Self);
        /// In order after what was written before, but not after what is read: a fence follows the last of them.
        fn store_one_of_many(place: &Self::Atomic, word: Self);
        fn swap(place: &Self::Atomic, word: Self) -> Self;
        fn compare_exchange(place: &Self::Atomic, current: Self, new: Self) -> Result<Self, Self>;
        fn add(place: &Self::Atomic, word: Self) -> Self;
        fn sub(place: &Self::Atomic, word: Self) -> Self;
        fn and(place: &Self::Atomic, word: Self) -> Self;
        fn or(place: &Self::Atomic, word: Self) -> Self;
        fn xor(place: &Self::Atomic, word: Self) -> Self;
    }

    pub trait Stored: Sized {
        type Word: Word;
        /// Stands in the header of a segment: which type lies inside.
        const CODE: u32;
        /// What memory that nobody has written reads as.
        const ZERO: Self;
        fn into_word(self) -> Self::Word;
        fn from_word(word: Self::Word) -> Self;
        /// Copies elements from `offset`, not element by element.
        fn copy_out(map: &Mapping, offset: usize, out: &mut [Self]);
    }

    pub(crate) type Place<T> = <<T as Stored>::Word as Word>::Atomic;

    pub trait Arithmetic: Stored {
        fn fetch_add(place: &Place<Self>, by: Self) -> Self;
        fn fetch_sub(place: &Place<Self>, by: Self) -> Self;
        fn smaller(self, other: Self) -> Self;
        fn larger(self, other: Self) -> Self;
    }

    pub trait Logic: Stored {
        fn fetch_and(place: &Place<Self>, with: Self) -> Self;
        fn fetch_or(place: &Place<Self>, with: Self) -> Self;
        fn fetch_xor(place: &Place<Self>, with: Self) -> Self;
    }
}

use sealed::{Arithmetic, Logic, Place, Stored, Word};

/// Replaces an element by what `change` makes of it; returns the old one. `None` leaves it and returns it as an error.
pub(crate) fn try_update<T: Stored + Copy>(
    place: &Place<T>,
    mut change: impl FnMut(T) -> Option<T>,
) -> Result<T, T> {
    let mut word = T::Word::load(place);
    loop {
        let old = T::from_word(word);
        let Some(new) = change(old) else { return Err(old) };
        match T::Word::compare_exchange(place, word, new.into_word()) {
            Ok(_) => return Ok(old),
            Err(now) => word = now,
        }
    }
}

pub(crate) fn update<T: Stored + Copy>(place: &Place<T>, mut change: impl FnMut(T) -> T) -> T {
    let (Ok(old) | Err(old)) = try_update(place, |old| Some(change(old)));
    old
}

macro_rules! words {
    ($($word:ty, $atomic:ty, $at:ident;)*) => { $(
        impl Word for $word {
            type Atomic = $atomic;
            #[inline]
            fn at(map: &Mapping, offset: usize) -> &$atomic { map.$at(offset) }
            #[inline]
            fn load(place: &$atomic) -> $word { place.load(SeqCst) }
            #[inline]
            fn store(place: &$atomic, word: $word) { place.store(word, SeqCst); }
            #[inline]
            fn store_one_of_many(place: &$atomic, word: $word) { place.store(word, Release); }
            #[inline]
            fn swap(place: &$atomic, word: $word) -> $word { place.swap(word, SeqCst) }
            #[inline]
            fn compare_exchange(place: &$atomic, current: $word, new: $word) -> Result<$word, $word> {
                place.compare_exchange(current, new, SeqCst, SeqCst)
            }
            #[inline]
            fn add(place: &$atomic, word: $word) -> $word { place.fetch_add(word, SeqCst) }
            #[inline]
            fn sub(place: &$atomic, word: $word) -> $word { place.fetch_sub(word, SeqCst) }
            #[inline]
            fn and(place: &$atomic, word: $word) -> $word { place.fetch_and(word, SeqCst) }
            #[inline]
            fn or(place: &$atomic, word: $word) -> $word { place.fetch_or(word, SeqCst) }
            #[inline]
            fn xor(place: &$atomic, word: $word) -> $word { place.fetch_xor(word, SeqCst) }
        }
    )* };
}

words! {
    u8, AtomicU8, atomic_u8;
    u16, AtomicU16, atomic_u16;
    u32, AtomicU32, atomic_u32;
    u64, AtomicU64, atomic_u64;
}

macro_rules! plain {
    ($number:ty, $word:ty, $code:literal) => {
        impl Element for $number {}

        impl Stored for $number {
            type Word = $word;
            const CODE: u32 = $code;
            const ZERO: $number = 0 as $number;
            #[inline]
            fn into_word(self) -> $word {
                <$word>::from_ne_bytes(self.to_ne_bytes())
            }
            #[inline]
            fn from_word(word: $word) -> $number {
                <$number>::from_ne_bytes(word.to_ne_bytes())
            }
            #[inline]
            fn copy_out(map: &Mapping, offset: usize, out: &mut [$number]) {
                map.copy_out(offset, bytemuck::cast_slice_mut(out));
            }
        }

        impl Number for $number {}
    };
}

macro_rules! integers {
    ($($number:ty, $word:ty, $code:literal;)*) => { $(
        plain!($number, $word, $code);

        // Two's complement: adding words is adding the numbers, signed or not.
        impl Arithmetic for $number {
            #[inline]
            fn fetch_add(place: &Place<$number>, by: $number) -> $number {
                Stored::from_word(Word::add(place, by.into_word()))
            }
            #[inline]
            fn fetch_sub(place: &Place<$number>, by: $number) -> $number {
                Stored::from_word(Word::sub(place, by.into_word()))
            }
            #[inline]
            fn smaller(self, other: $number) -> $number { self.min(other) }
            #[inline]
            fn larger(self, other: $number) -> $number { self.max(other) }
        }

        impl Bits for $number {}

        impl Logic for $number {
            #[inline]
            fn fetch_and(place: &Place<$number>, with: $number) -> $number {
                Stored::from_word(Word::and(place, with.into_word()))
            }
            #[inline]
            fn fetch_or(place: &Place<$number>, with: $number) -> $number {
                Stored::from_word(Word::or(place, with.into_word()))
            }
            #[inline]
            fn fetch_xor(place: &Place<$number>, with: $number) -> $number {
                Stored::from_word(Word::xor(place, with.into_word()))
            }
        }
    )* };
}

integers! {
    i8, u8, 1;
    u8, u8, 2;
    i16, u16, 3;
    u16, u16, 4;
    i32, u32, 5;
    u32, u32, 6;
    i64, u64, 7;
    u64, u64, 8;
}

#[cfg(target_pointer_width = "64")]
integers! {
    isize, u64, 9;
    usize, u64, 10;
}

#[cfg(target_pointer_width = "32")]
integers! {
    isize, u32, 9;
    usize, u32, 10;
}

macro_rules! floats {
    ($($number:ty, $word:ty, $code:literal;)*) => { $(
        plain!($number, $word, $code);

        impl Arithmetic for $number {
            #[inline]
            fn fetch_add(place: &Place<$number>, by: $number) -> $number { update(place, |old: $number| old + by) }
            #[inline]
            fn fetch_sub(place: &Place<$number>, by: $number) -> $number { update(place, |old: $number| old - by) }
            #[inline]
            fn smaller(self, other: $number) -> $number { self.min(other) }
            #[inline]
            fn larger(self, other: $number) -> $number { self.max(other) }
        }
    )* };
}

floats! {
    f32, u32, 11;
    f64, u64, 12;
}

/// Elements with invalid patterns come out through a buffer in which each is checked.
fn copy_checked<T: Stored, const SIZE: usize>(
    map: &Mapping,
    mut offset: usize,
    out: &mut [T],
    check: impl Fn([u8; SIZE]) -> T,
) {
    let mut buffer = [[0; SIZE]; 256];
    for chunk in out.chunks_mut(buffer.len()) {
        let raw = &mut buffer[..chunk.len()];
        map.copy_out(offset, raw.as_flattened_mut());
        for (out, raw) in chunk.iter_mut().zip(&*raw) {
            *out = check(*raw);
        }
        offset += chunk.len() * SIZE;
    }
}

impl Element for bool {}

impl Stored for bool {
    type Word = u8;
    const CODE: u32 = 13;
    const ZERO: bool = false;
    #[inline]
    fn into_word(self) -> u8 {
        u8::from(self)
    }
    #[inline]
    fn from_word(word: u8) -> bool {
        word != 0
    }
    fn copy_out(map: &Mapping, offset: usize, out: &mut [bool]) {
        copy_checked(map, offset, out, |[byte]| bool::from_word(byte));
    }
}

impl Bits for bool {}

// By exchange, since a foreign byte other than 0 and 1 is true as a whole, not bit by bit.
impl Logic for bool {
    #[inline]
    fn fetch_and(place: &AtomicU8, with: bool) -> bool {
        update(place, |old| old & with)
    }
    #[inline]
    fn fetch_or(place: &AtomicU8, with: bool) -> bool {
        update(place, |old| old | with)
    }
    #[inline]
    fn fetch_xor(place: &AtomicU8, with: bool) -> bool {
        update(place, |old| old ^ with)
    }
}

impl Element for char {}

impl Stored for char {
    type Word = u32;
    const CODE: u32 = 14;
    const ZERO: char = '\0';
    #[inline]
    fn into_word(self) -> u32 {
        u32::from(self)
    }
    #[inline]
    fn from_word(word: u32) -> char {
        char::from_u32(word).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
    fn copy_out(map: &Mapping, offset: usize, out: &mut [char]) {
        copy_checked(map, offset, out, |bytes| char::from_word(u32::from_ne_bytes(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> Mapping {
        Mapping::new(memmap2::MmapOptions::new().len(4096).map_anon().unwrap().into())
    }

    #[test]
    fn patterns_that_no_rust_program_writes_are_read_as_something_valid() {
        let map = mapping();
        map.copy_in(0, &[7, 0, 1, 255]);
        let mut bools = [false; 4];
        bool::copy_out(&map, 0, &mut bools);
        assert_eq!(bools, [true, false, true, true]);
        assert!(bool::fetch_and(map.atomic_u8(0), true));
        assert!(bool::fetch_xor(map.atomic_u8(0), true));
        assert_eq!(map.atomic_u8(0).load(SeqCst), 0);
        map.copy_in(64, bytemuck::bytes_of(&[0xD800_u32, 0x61, u32::MAX]));
        let mut chars = ['x'; 3];
        char::copy_out(&map, 64, &mut chars);
        assert_eq!(chars, ['\u{FFFD}', 'a', '\u{FFFD}']);
        assert_eq!(char::from_word(Word::load(map.atomic_u32(64))), '\u{FFFD}');
    }

    #[test]
    fn more_elements_than_the_buffer_holds_come_out_in_order() {
        let map = mapping();
        let text: Vec<char> = ('a'..='z').cycle().take(700).collect();
        map.copy_in(4, bytemuck::cast_slice(&text));
        let mut out = vec!['\0'; 700];
        char::copy_out(&map, 4, &mut out);
        assert_eq!(out, text);
    }

    #[test]
    fn codes_differ() {
        let mut codes = [
            i8::CODE,
            u8::CODE,
            i16::CODE,
            u16::CODE,
            i32::CODE,
            u32::CODE,
            i64::CODE,
            u64::CODE,
            isize::CODE,
            usize::CODE,
            f32::CODE,
            f64::CODE,
            bool::CODE,
            char::CODE,
        ];
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }
}
