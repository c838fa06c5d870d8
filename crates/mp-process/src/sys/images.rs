//! The loaded images of this process: the program and its shared libraries.

#![expect(unsafe_code, reason = "dl_iterate_phdr, and reading the notes and text of loaded images")]

use serde::{Deserialize, Serialize};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};
use std::{ptr, slice};

/// By what an image is known in every process that has loaded it: its build id, or where it has none a hash of its text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ImageId(Vec<u8>);

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) id: ImageId,
    base: usize,
    /// Where its code lies.
    text: Vec<(usize, usize)>,
}

impl Image {
    fn contains(&self, address: usize) -> bool {
        self.text.iter().any(|&(start, end)| (start..end).contains(&address))
    }
}

/// The image in whose code `address` lies, and how far from its start.
pub(crate) fn locate(address: usize) -> Option<(ImageId, u64)> {
    find(|image| image.contains(address)).map(|image| (image.id.clone(), (address - image.base) as u64))
}

/// The address of `offset` in the code of the image `id`.
pub(crate) fn address(id: &ImageId, offset: u64) -> Option<usize> {
    let image = find(|image| image.id == *id)?;
    let address = image.base.checked_add(usize::try_from(offset).ok()?)?;
    image.contains(address).then_some(address)
}

/// Describes the loaded images, for those that are copied from this process.
pub(crate) fn know() {
    find(|_| false);
}

/// Looks among the loaded images; they are described anew only after the loader has loaded or unloaded one.
fn find(wanted: impl Fn(&Image) -> bool) -> Option<Arc<Image>> {
    static KNOWN: Mutex<(Changes, Vec<Arc<Image>>)> = Mutex::new(((0, 0), Vec::new()));
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let changes = changes();
    if known.0 != changes || known.1.is_empty() {
        *known = (changes, loaded().into_iter().map(Arc::new).collect());
    }
    known.1.iter().find(|image| wanted(image)).map(Arc::clone)
}

/// How many images the loader has loaded and unloaded so far.
type Changes = (u64, u64);

fn changes() -> Changes {
    let mut changes: Changes = (0, 0);
    // SAFETY: `count` has the signature that is called back, and gets the pointer given here while `changes` lives.
    unsafe { libc::dl_iterate_phdr(Some(count), ptr::from_mut(&mut changes).cast()) };
    changes
}

/// The counters stand with every image; the first will do.
unsafe extern "C" fn count(info: *mut libc::dl_phdr_info, _size: usize, changes: *mut c_void) -> libc::c_int {
    // SAFETY: the loader passes a valid description for the time of the call.
    let info = unsafe { &*info };
    // SAFETY: it is the pair of `changes`, which nobody else uses meanwhile.
    let changes = unsafe { &mut *changes.cast::<Changes>() };
    *changes = (info.dlpi_adds, info.dlpi_subs);
    1
}

fn loaded() -> Vec<Image> {
    let mut images: Vec<Image> = Vec::new();
    // SAFETY: `visit` has the signature that is called back, and gets the pointer given here while `images` lives.
    unsafe { libc::dl_iterate_phdr(Some(visit), ptr::from_mut(&mut images).cast()) };
    images
}

/// One image; runs under the loader's lock, and must not unwind into it.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, images: *mut c_void) -> libc::c_int {
    // SAFETY: the loader passes a valid description for the time of the call.
    let info = unsafe { &*info };
    // SAFETY: it is the vector of `loaded`, which nobody else uses meanwhile.
    let images = unsafe { &mut *images.cast::<Vec<Image>>() };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader describes `dlpi_phnum` headers there, which stay while the image is loaded.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    images.extend(describe(usize::try_from(info.dlpi_addr).unwrap_or(0), headers));
    0
}

#[cfg(target_pointer_width = "64")]
type Header = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
type Header = libc::Elf32_Phdr;

#[expect(clippy::cast_possible_truncation, reason = "the words of an image are as wide as the target's")]
fn describe(base: usize, headers: &[Header]) -> Option<Image> {
    let range = |header: &Header| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        (start, start.wrapping_add(header.p_memsz as usize))
    };
    let code = |header: &&Header| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 && header.p_flags & libc::PF_R != 0
    };
    let text: Vec<(usize, usize)> = headers.iter().filter(code).map(range).collect();
    let notes = headers.iter().filter(|header| header.p_type == libc::PT_NOTE).map(range);
    if text.is_empty() {
        return None;
    }
    let id = notes.filter_map(|(start, end)| build_id(bytes(start, end))).next();
    Some(Image { id: id.unwrap_or_else(|| hash(&text)), base, text })
}

/// The bytes of a loaded segment.
fn bytes<'a>(start: usize, end: usize) -> &'a [u8] {
    // SAFETY: program headers of a loaded image name memory that is mapped readable; notes and text are not written to.
    // The slice is used only while the loader's lock keeps the image.
    unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(start), end - start) }
}

/// The build id among the notes: name `GNU`, type 3.
fn build_id(mut notes: &[u8]) -> Option<ImageId> {
    const GNU_BUILD_ID: u32 = 3;
    while let Some((head, rest)) = notes.split_first_chunk::<12>() {
        let [n0, n1, n2, n3, d0, d1, d2, d3, t0, t1, t2, t3] = *head;
        let name = u32::from_ne_bytes([n0, n1, n2, n3]) as usize;
        let data = u32::from_ne_bytes([d0, d1, d2, d3]) as usize;
        let kind = u32::from_ne_bytes([t0, t1, t2, t3]);
        let data_at = name.checked_next_multiple_of(4)?;
        let end = data_at.checked_add(data)?;
        if kind == GNU_BUILD_ID && rest.get(..name) == Some(b"GNU\0") {
            return rest.get(data_at..end).filter(|id| !id.is_empty()).map(|id| ImageId(id.to_vec()));
        }
        notes = rest.get(end.checked_next_multiple_of(4)?..)?;
    }
    None
}

/// FNV-1a with 128 bits over the words of the text: told apart from a build id by its first bytes.
fn hash(text: &[(usize, usize)]) -> ImageId {
    let mut state: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut mix = |word: u64| {
        state = (state ^ u128::from(word)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        // The product carries upwards only: bring the high half's news down again.
        state ^= state >> 67;
    };
    for &(start, end) in text {
        let (words, rest) = bytes(start, end).as_chunks::<8>();
        words.iter().for_each(|word| mix(u64::from_ne_bytes(*word)));
        rest.iter().for_each(|byte| mix(u64::from(*byte)));
        mix((end - start) as u64);
    }
    ImageId([b"text".as_slice(), &state.to_ne_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_function() {}

    #[test]
    fn a_function_of_this_program_is_found_again() {
        let place = some_function as fn() as usize;
        let (id, offset) = locate(place).unwrap();
        assert_eq!(address(&id, offset), Some(place));
        assert_eq!(address(&id, u64::MAX), None);
        assert_eq!(address(&ImageId(vec![1]), offset), None);
    }

    #[test]
    fn data_is_no_code() {
        static DATA: u8 = 1;
        assert_eq!(locate(&raw const DATA as usize), None);
        assert_eq!(locate(0), None);
    }

    #[test]
    fn notes_are_parsed_and_torn_ones_survived() {
        let note = [4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0, 7, 8, 0, 0];
        assert_eq!(build_id(&note), Some(ImageId(vec![7, 8])));
        let other = [4, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, b'G', b'N', b'U', 0, 7, 8, 0, 0];
        assert_eq!(build_id(&[other.as_slice(), &note].concat()), Some(ImageId(vec![7, 8])));
        for length in 0..note.len() - 2 {
            assert_eq!(build_id(&note[..length]), None, "{length}");
        }
    }

    #[test]
    fn without_a_build_id_the_text_names_the_image() {
        let text = [(some_function as fn() as usize, some_function as fn() as usize + 1)];
        assert_eq!(hash(&text), hash(&text));
        assert!(hash(&text).0.starts_with(b"text"));
    }
}
