//! Copies that stay sound while another process writes the same bytes.

#![expect(unsafe_code, reason = "raw copies, whose ranges the callers vouch for")]

/// Below this, moving words beats the start-up of a string instruction.
#[cfg(target_arch = "x86_64")]
const STRING_FROM: usize = 512;

/// Whether `to` lies less than two vectors behind `from` within their pages. A string instruction then takes each load for one of the bytes
/// that it has just stored, by the lower twelve bits, and waits for them: it is 15 to 30 times slower, which moving vectors is not. A message
/// behind a header of eight bytes that goes into memory of `malloc`, which begins sixteen bytes into a page, is such a case.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn trails_closely(from: *const u8, to: *mut u8) -> bool {
    const PAGE: usize = 4096;
    let distance = to.addr().wrapping_sub(from.addr()) % PAGE;
    (1..32).contains(&distance)
}

/// Copies `length` bytes as `memcpy` does; what a concurrent writer changes meanwhile arrives old or new, byte by
/// byte.
///
/// # Safety
///
/// `from` must be readable and `to` writable for `length` bytes, without overlap.
#[inline]
pub(super) unsafe fn opaque(from: *const u8, to: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    if length >= STRING_FROM && !trails_closely(from, to) {
        // SAFETY: the caller vouches for both ranges. An assembler block is outside of the language's memory
        // model, so a race with another process's write is none here.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") length => _, inout("rsi") from => _, inout("rdi") to => _,
                options(nostack, preserves_flags)
            );
        }
        return;
    }
    match length {
        0 => {}
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's contract, and the length is at least 16.
        16..=64 => unsafe { four_vectors(from, to, length) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, with at least 64.
        65.. => unsafe { vectors(from, to, length) },
        // SAFETY: as above, for the length of the word.
        8.. => unsafe { words::<u64>(from, to, length) },
        // SAFETY: as above.
        4..8 => unsafe { words::<u32>(from, to, length) },
        // SAFETY: as above.
        _ => unsafe { words::<u8>(from, to, length) },
    }
}

/// Sixty-four bytes at a time; the last ones may overlap those before.
///
/// # Safety
///
/// As [`opaque`], and `length` is at least 64.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn vectors(from: *const u8, to: *mut u8, length: usize) {
    let last = length - 64;
    let mut at = 0;
    while at < last {
        // SAFETY: `at + 64 <= length`, inside of the caller's ranges.
        unsafe { vectors_at(from, to, [at, at + 16, at + 32, at + 48]) };
        at += 64;
    }
    // SAFETY: the last ones end with the ranges.
    unsafe { vectors_at(from, to, [last, last + 16, last + 32, last + 48]) };
}

/// Four times sixteen bytes without a loop, which overlap as they must.
///
/// # Safety
///
/// As [`opaque`], and `length` is from 16 to 64.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn four_vectors(from: *const u8, to: *mut u8, length: usize) {
    let last = length - 16;
    // From 33 on 16, else nothing: then the middle ones are the outer ones once more.
    let step = 16 & 0_usize.wrapping_sub(usize::from(length > 32));
    // SAFETY: `step <= last`, so each of the four lies inside of the caller's ranges.
    unsafe { vectors_at(from, to, [0, step, last - step, last]) };
}

/// # Safety
///
/// Sixteen bytes at each of `at` lie inside of both ranges.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn vectors_at(from: *const u8, to: *mut u8, at: [usize; 4]) {
    // SAFETY: inside of the ranges, says the caller; an assembler block for the reason in `opaque`.
    unsafe {
        std::arch::asm!(
            "movups {v0}, [{from} + {a0}]",
            "movups {v1}, [{from} + {a1}]",
            "movups {v2}, [{from} + {a2}]",
            "movups {v3}, [{from} + {a3}]",
            "movups [{to} + {a0}], {v0}",
            "movups [{to} + {a1}], {v1}",
            "movups [{to} + {a2}], {v2}",
            "movups [{to} + {a3}], {v3}",
            from = in(reg) from, to = in(reg) to,
            a0 = in(reg) at[0], a1 = in(reg) at[1], a2 = in(reg) at[2], a3 = in(reg) at[3],
            v0 = out(xmm_reg) _, v1 = out(xmm_reg) _, v2 = out(xmm_reg) _, v3 = out(xmm_reg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// A word at any address. A plain array of bytes would be moved byte by byte.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Anywhere<W>(W);

/// Word by word, by volatile accesses, which are neither merged nor repeated; the last word may overlap the one before.
///
/// # Safety
///
/// As [`opaque`], and `length` is at least the size of a word.
#[inline]
unsafe fn words<W: Copy>(from: *const u8, to: *mut u8, length: usize) {
    let last = length - size_of::<W>();
    let mut at = 0;
    while at < last {
        // SAFETY: `at + size <= length`, inside of the caller's ranges.
        unsafe { word::<W>(from, to, at) };
        at += size_of::<W>();
    }
    // SAFETY: the last word ends with the ranges.
    unsafe { word::<W>(from, to, last) };
}

/// # Safety
///
/// A word at `at` lies inside of both ranges.
#[inline]
unsafe fn word<W: Copy>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: inside of the range, says the caller.
    let from = unsafe { from.add(at) }.cast::<Anywhere<W>>();
    // SAFETY: as above.
    let to = unsafe { to.add(at) }.cast::<Anywhere<W>>();
    // SAFETY: readable, and neither alignment nor a pattern of bits is asked for.
    let word = unsafe { from.read_volatile() };
    // SAFETY: writable, as above.
    unsafe { to.write_volatile(word) };
}
