//! A value becomes bytes and handles, and comes back.
//!
//! `postcard` over serde carries everything; `Vec<u8>`, `String` and vectors of plain numbers, which postcard would
//! walk one by one, cross as the bytes they are. Each message names its [`Encoding`], and decoding another one than
//! the type asks for is an error, as are bytes left over.

use crate::handle::{self, Handles};
use crate::plain;
use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};
use std::any::{Any, TypeId, type_name};
use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;

/// How a message's bytes stand for its value; travels in the header of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding(pub u8);

impl Encoding {
    /// postcard over serde.
    pub const POSTCARD: Encoding = Encoding(1);
    /// The bytes of a `Vec<u8>` themselves.
    pub const BYTES: Encoding = Encoding(2);
    /// The bytes of a `String`.
    pub const TEXT: Encoding = Encoding(3);
    /// The bytes of one [`plain`] number. Only for values in a pack; alone they are postcard's.
    pub const PLAIN: Encoding = Encoding(4);

    /// The encoding that values of type `T` have.
    #[must_use]
    #[inline(always)]
    pub fn of<T: 'static>() -> Encoding {
        let id = TypeId::of::<T>();
        // As the only argument of a function as well as alone.
        if id == TypeId::of::<Vec<u8>>() || id == TypeId::of::<(Vec<u8>,)>() {
            return Encoding::BYTES;
        }
        if id == TypeId::of::<String>() || id == TypeId::of::<(String,)>() {
            return Encoding::TEXT;
        }
        numbers::encoding(id).unwrap_or(Encoding::POSTCARD)
    }
}

/// One encoded message: what kind of bytes, the bytes, and the handles that travel beside them.
#[derive(Debug)]
pub struct Message<'a> {
    /// How the bytes are to be read.
    pub encoding: Encoding,
    /// The value's own bytes where the type allows it, else the scratch buffer's.
    pub bytes: &'a [u8],
    /// The handles that the value held.
    pub handles: Handles,
}

/// Why a value could not be encoded. Nothing of it was sent, and its handles are still the sender's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError {
    type_name: &'static str,
    reason: String,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type `{}` cannot be encoded: {}", self.type_name, self.reason)
    }
}

impl std::error::Error for EncodeError {}

/// Why bytes could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    type_name: &'static str,
    reason: String,
}

impl DecodeError {
    /// A value of type `T` cannot be decoded, for a reason that whoever decodes has found.
    #[doc(hidden)]
    #[must_use]
    pub fn of<T>(reason: String) -> DecodeError {
        DecodeError { type_name: type_name::<T>(), reason }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message cannot be decoded as `{}`: {}", self.type_name, self.reason)
    }
}

impl std::error::Error for DecodeError {}

/// Encodes `value`, using `scratch`, whose contents are lost, where the value's own bytes do not do.
///
/// # Errors
///
/// Fails when the type's `Serialize` does, or is one that postcard does not carry (untagged and flattened types,
/// sequences of unknown length).
#[inline]
pub fn encode<'a, T: Serialize + 'static>(
    value: &'a T,
    scratch: &'a mut Vec<u8>,
) -> Result<Message<'a>, EncodeError> {
    let encoding = Encoding::of::<T>();
    // Known when this is compiled.
    if encoding != Encoding::POSTCARD
        && let Some(bytes) = own_bytes(value)
    {
        return Ok(Message { encoding, bytes, handles: Handles::default() });
    }
    let (result, handles) = handle::collecting(|| {
        postcard::serialize_with_flavor(value, Scratch { buffer: &mut *scratch, filled: 0 })
    });
    match result {
        Ok(filled) => Ok(Message { encoding, bytes: &scratch[..filled], handles }),
        Err(error) => Err(EncodeError { type_name: type_name::<T>(), reason: explain_encode(error) }),
    }
}

/// The bytes of a value that cross as they are, without being encoded.
#[inline(always)]
#[must_use]
pub fn own<T: 'static>(value: &T) -> Option<(Encoding, &[u8])> {
    let encoding = Encoding::of::<T>();
    // Known when this is compiled.
    if encoding == Encoding::POSTCARD { None } else { own_bytes(value).map(|bytes| (encoding, bytes)) }
}

/// The bytes that stand for a value, and nobody else's: moved out of it where that can be, so that large ones are not copied.
pub enum Owned {
    /// Bytes alone.
    Bytes(Vec<u8>),
    /// Those of a vector of plain numbers, whose allocation is aligned as theirs.
    Numbers(Box<dyn AsRef<[u8]> + Send + Sync>),
}

impl Owned {
    /// As a vector of bytes: what they are, or a copy.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Owned::Bytes(bytes) => bytes,
            Owned::Numbers(numbers) => (*numbers).as_ref().to_vec(),
        }
    }
}

impl std::ops::Deref for Owned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Owned::Bytes(bytes) => bytes,
            Owned::Numbers(numbers) => (**numbers).as_ref(),
        }
    }
}

impl From<Vec<u8>> for Owned {
    fn from(bytes: Vec<u8>) -> Owned {
        Owned::Bytes(bytes)
    }
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owned").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The bytes of a value that cross as they are, without being encoded and without a copy; other values are given back. Room that they
/// do not fill is let go where it is more than they are.
///
/// # Errors
///
/// The value, when it is to be [encoded](encode).
#[inline]
pub fn into_own<T: 'static>(value: T) -> Result<(Encoding, Owned), T> {
    let encoding = Encoding::of::<T>();
    // Known when this is compiled.
    if encoding == Encoding::POSTCARD {
        return Err(value);
    }
    let mut slot = Some(value);
    match (take_own(&mut slot), slot) {
        (Some(own), _) => Ok((encoding, own)),
        (None, Some(value)) => Err(value),
        (None, None) => unreachable!("what is taken out of the slot is returned"),
    }
}

fn take_own(slot: &mut dyn Any) -> Option<Owned> {
    let bytes = take::<Vec<u8>>(slot).or_else(|| take::<String>(slot).map(String::into_bytes));
    match bytes {
        Some(bytes) => Some(Owned::Bytes(without_much_room(bytes))),
        None => numbers::take_own(slot).map(Owned::Numbers),
    }
}

/// Takes the `V` out of a slot for one, or for a tuple of one.
fn take<V: 'static>(slot: &mut dyn Any) -> Option<V> {
    if let Some(slot) = slot.downcast_mut::<Option<V>>() {
        return slot.take();
    }
    slot.downcast_mut::<Option<(V,)>>()?.take().map(|(value,)| value)
}

/// What waits for long shall not hold much more memory than it is long.
fn without_much_room<V>(mut vector: Vec<V>) -> Vec<V> {
    if vector.capacity() / 2 > vector.len() {
        vector.shrink_to_fit();
    }
    vector
}

/// As [`encode`], appended to `out`. Gives the handles that the value held.
///
/// # Errors
///
/// As [`encode`]; `out` may hold a part of the value then.
pub fn append<T: Serialize + 'static>(value: &T, out: &mut Vec<u8>) -> Result<Handles, EncodeError> {
    if let Some(bytes) = own_bytes(value) {
        out.extend_from_slice(bytes);
        return Ok(Handles::default());
    }
    let (result, handles) =
        handle::collecting(|| postcard::serialize_with_flavor(value, Appended(&mut *out)));
    match result {
        Ok(()) => Ok(handles),
        Err(error) => Err(EncodeError { type_name: type_name::<T>(), reason: explain_encode(error) }),
    }
}

/// Decodes a value of type `T`; `handles` are those that came with the bytes, and the unused ones are closed.
///
/// # Errors
///
/// Fails when the encoding is not the type's, when the bytes are no such value, and when some are left over.
#[inline]
pub fn decode<T: DeserializeOwned + 'static>(
    encoding: Encoding,
    bytes: Cow<'_, [u8]>,
    handles: Vec<OwnedFd>,
) -> Result<T, DecodeError> {
    let fail = |reason: String| DecodeError { type_name: type_name::<T>(), reason };
    let expected = Encoding::of::<T>();
    if encoding == Encoding::PLAIN {
        return plain::read(&bytes).ok_or_else(|| fail("its bytes are not such a number".into()));
    }
    if encoding != expected {
        return Err(fail(format!("it was encoded as {encoding:?}, this type asks for {expected:?}")));
    }
    if expected != Encoding::POSTCARD {
        return from_own_bytes(expected, bytes).ok_or_else(|| fail("its bytes are not such a value".into()));
    }
    let (value, rest) = handle::offering(handles, || postcard::take_from_bytes::<T>(&bytes))
        .map_err(|error| fail(explain_decode(error)))?;
    if rest.is_empty() { Ok(value) } else { Err(fail(format!("{} bytes are left over", rest.len()))) }
}

fn explain_encode(error: postcard::Error) -> String {
    use postcard::Error::{SerdeSerCustom, SerializeSeqLengthUnknown};
    match error {
        SerializeSeqLengthUnknown => {
            "its length is not known beforehand (flattened types and lazy sequences do not cross)".into()
        }
        SerdeSerCustom => "its `Serialize` implementation failed".into(),
        other => other.to_string(),
    }
}

fn explain_decode(error: postcard::Error) -> String {
    use postcard::Error::{SerdeDeCustom, WontImplement};
    match error {
        WontImplement => "postcard does not carry untagged or internally tagged types".into(),
        SerdeDeCustom => "its `Deserialize` implementation failed".into(),
        other => other.to_string(),
    }
}

/// postcard writes into the front of a buffer that is used again and again: what it holds from before is room that needs neither an
/// allocation nor a zero.
struct Scratch<'a> {
    buffer: &'a mut Vec<u8>,
    filled: usize,
}

impl Scratch<'_> {
    #[cold]
    fn grow(&mut self, more: usize) {
        self.buffer.resize((self.filled + more).max(2 * self.buffer.len()).max(64), 0);
    }
}

impl Flavor for Scratch<'_> {
    /// How many bytes of the buffer are filled.
    type Output = usize;

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        if self.buffer.len() - self.filled < data.len() {
            self.grow(data.len());
        }
        self.buffer[self.filled..self.filled + data.len()].copy_from_slice(data);
        self.filled += data.len();
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        if self.buffer.len() == self.filled {
            self.grow(1);
        }
        self.buffer[self.filled] = data;
        self.filled += 1;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<usize> {
        Ok(self.filled)
    }
}

/// postcard writes behind what is there already.
struct Appended<'a>(&'a mut Vec<u8>);

impl Flavor for Appended<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[inline]
fn own_bytes<T: 'static>(value: &T) -> Option<&[u8]> {
    let value: &dyn Any = value;
    if let Some(bytes) = alone_or_in_a_tuple::<Vec<u8>>(value) {
        return Some(bytes);
    }
    if let Some(text) = alone_or_in_a_tuple::<String>(value) {
        return Some(text.as_bytes());
    }
    numbers::own_bytes(value)
}

#[inline]
fn alone_or_in_a_tuple<V: 'static>(value: &dyn Any) -> Option<&V> {
    value.downcast_ref::<V>().or_else(|| value.downcast_ref::<(V,)>().map(|(value,)| value))
}

/// Puts `value` into a slot for one such value, or for a tuple of one; gives it back where the slot is for something else.
#[inline]
fn put<V: 'static>(slot: &mut dyn Any, value: V) -> Result<(), V> {
    if let Some(slot) = slot.downcast_mut::<Option<V>>() {
        *slot = Some(value);
    } else if let Some(slot) = slot.downcast_mut::<Option<(V,)>>() {
        *slot = Some((value,));
    } else {
        return Err(value);
    }
    Ok(())
}

#[inline]
fn from_own_bytes<T: 'static>(encoding: Encoding, bytes: Cow<'_, [u8]>) -> Option<T> {
    let mut out: Option<T> = None;
    let slot: &mut dyn Any = &mut out;
    match encoding {
        Encoding::BYTES => put(slot, bytes.into_owned()).ok()?,
        Encoding::TEXT => put(slot, String::from_utf8(bytes.into_owned()).ok()?).ok()?,
        _ => numbers::fill(encoding, &bytes, slot)?,
    }
    out
}

/// Vectors of plain numbers, in the machine's own byte order: both ends are on one machine.
mod numbers {
    use super::Encoding;
    use std::any::{Any, TypeId};

    /// A vector of numbers, as bytes.
    struct Numbers<N>(Vec<N>);

    impl<N: bytemuck::NoUninit> AsRef<[u8]> for Numbers<N> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }

    macro_rules! numbers {
        ($($tag:literal => $number:ty),* $(,)?) => {
            #[inline(always)]
            pub(super) fn encoding(id: TypeId) -> Option<Encoding> {
                $(if id == TypeId::of::<Vec<$number>>() || id == TypeId::of::<(Vec<$number>,)>() {
                    return Some(Encoding($tag));
                })*
                None
            }

            #[inline]
            pub(super) fn own_bytes(value: &dyn Any) -> Option<&[u8]> {
                $(if let Some(numbers) = super::alone_or_in_a_tuple::<Vec<$number>>(value) {
                    return Some(bytemuck::cast_slice(numbers));
                })*
                None
            }

            pub(super) fn take_own(slot: &mut dyn Any) -> Option<Box<dyn AsRef<[u8]> + Send + Sync>> {
                $(if let Some(numbers) = super::take::<Vec<$number>>(slot) {
                    return Some(Box::new(Numbers(super::without_much_room(numbers))));
                })*
                None
            }

            pub(super) fn fill(encoding: Encoding, bytes: &[u8], slot: &mut dyn Any) -> Option<()> {
                match encoding.0 {
                    $($tag => {
                        if bytes.len() % size_of::<$number>() != 0 {
                            return None;
                        }
                        let mut numbers: Vec<$number> = vec![Default::default(); bytes.len() / size_of::<$number>()];
                        bytemuck::cast_slice_mut(&mut numbers).copy_from_slice(bytes);
                        super::put(slot, numbers).ok()
                    })*
                    _ => None,
                }
            }
        };
    }

    numbers! {
        16 => i8, 17 => u16, 18 => i16, 19 => u32, 20 => i32, 21 => u64, 22 => i64,
        23 => usize, 24 => isize, 25 => f32, 26 => f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn there_and_back<T: Serialize + DeserializeOwned + 'static>(value: &T) -> T {
        let mut scratch = Vec::new();
        let message = encode(value, &mut scratch).unwrap();
        decode(message.encoding, message.bytes.into(), Vec::new()).unwrap()
    }

    #[test]
    fn values_come_back() {
        assert_eq!(there_and_back(&vec![1u8, 2, 3]), [1, 2, 3]);
        assert_eq!(there_and_back(&"text".to_owned()), "text");
        assert_eq!(there_and_back(&vec![1.5f64, f64::MAX]), [1.5, f64::MAX]);
        assert_eq!(there_and_back(&vec![usize::MAX]), [usize::MAX]);
        assert_eq!(there_and_back(&(vec![1u8, 2, 3],)), (vec![1, 2, 3],));
        assert_eq!(there_and_back(&("text".to_owned(),)), ("text".to_owned(),));
        assert_eq!(there_and_back(&(vec![-1_i64],)), (vec![-1],));
        assert_eq!(there_and_back(&(1, "a".to_owned(), Some(()))), (1, "a".to_owned(), Some(())));
    }

    #[test]
    fn bytes_are_moved_out_of_what_crosses_as_it_is() {
        let bytes = vec![7_u8; 100];
        let at = bytes.as_ptr();
        let (encoding, own) = into_own((bytes,)).unwrap();
        assert_eq!((encoding, own.as_ptr(), own.len()), (Encoding::BYTES, at, 100));
        let bytes = own.into_vec();
        assert_eq!(bytes.as_ptr(), at);
        let (encoding, own) = into_own("text".to_owned()).unwrap();
        assert_eq!((encoding, &*own), (Encoding::TEXT, b"text".as_slice()));
        let numbers = vec![1.5_f64, -2.0];
        let at = numbers.as_ptr().cast();
        let (encoding, own) = into_own(numbers).unwrap();
        assert_eq!((encoding, own.as_ptr()), (Encoding::of::<Vec<f64>>(), at));
        assert_eq!(
            decode::<Vec<f64>>(encoding, Cow::Owned(own.into_vec()), Vec::new()).unwrap(),
            [1.5, -2.0]
        );
        assert_eq!(into_own((vec![1_u8], 2)).unwrap_err(), (vec![1], 2));
        let mut roomy = Vec::with_capacity(1000);
        roomy.push(1_u8);
        assert!(into_own(roomy).unwrap().1.into_vec().capacity() < 100);
    }

    #[test]
    fn another_encoding_is_an_error() {
        let error = decode::<String>(Encoding::BYTES, Cow::Borrowed(b"x"), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("alloc::string::String"), "{error}");
        assert!(decode::<Vec<u32>>(Encoding::of::<Vec<u32>>(), Cow::Borrowed(b"xyz"), Vec::new()).is_err());
        assert!(decode::<String>(Encoding::TEXT, Cow::Borrowed(b"\xff"), Vec::new()).is_err());
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let error = decode::<u8>(Encoding::POSTCARD, Cow::Borrowed(b"ab"), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("left over"), "{error}");
    }

    #[derive(Serialize, Deserialize, Debug)]
    struct Flattened {
        #[serde(flatten)]
        inner: std::collections::BTreeMap<String, u8>,
    }

    #[test]
    fn what_postcard_does_not_carry_is_a_readable_error() {
        let error = encode(&Flattened { inner: Default::default() }, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("length is not known"), "{error}");
    }

    #[test]
    fn a_failed_encoding_leaves_no_handle_for_the_next() {
        struct Fails(crate::Handle);
        impl Serialize for Fails {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let _ = serde::Serialize::serialize(&self.0, serializer)?;
                Err(serde::ser::Error::custom("no"))
            }
        }
        let handle = crate::Handle::from(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let mut scratch = Vec::new();
        assert!(encode(&Fails(handle.clone()), &mut scratch).is_err());
        assert_eq!(std::sync::Arc::strong_count(handle.shared()), 1);
        assert!(encode(&(1, 2), &mut scratch).unwrap().handles.is_empty());
    }
}
