//! Values that are one plain number, or nothing: they stand in a pack as their own bytes, one behind the other.
//!
//! Which type it is is known when the code is generated, so each of these functions is a few instructions.

use std::any::{Any, TypeId};

macro_rules! plain {
    ($($number:ty),* $(,)?) => {
        /// How many bytes a value of type `T` takes; `None` for types that are no plain number, nor a tuple of one, nor `()`.
        #[inline(always)]
        #[must_use]
        pub fn width<T: 'static>() -> Option<usize> {
            let id = TypeId::of::<T>();
            if id == TypeId::of::<()>() {
                return Some(0);
            }
            $(if id == TypeId::of::<$number>() || id == TypeId::of::<($number,)>() {
                return Some(size_of::<$number>());
            })*
            None
        }

        /// Appends the bytes of `value`; false when its type is not plain.
        #[inline(always)]
        pub fn append<T: 'static>(value: &T, out: &mut Vec<u8>) -> bool {
            let value: &dyn Any = value;
            $(
                if let Some(number) = value.downcast_ref::<$number>() {
                    out.extend_from_slice(&number.to_ne_bytes());
                    return true;
                }
                if let Some((number,)) = value.downcast_ref::<($number,)>() {
                    out.extend_from_slice(&number.to_ne_bytes());
                    return true;
                }
            )*
            value.is::<()>()
        }

        /// The value that `bytes` are; `None` when its type is not plain, or has another width.
        #[inline(always)]
        #[must_use]
        pub fn read<T: 'static>(bytes: &[u8]) -> Option<T> {
            let mut out: Option<T> = None;
            let slot: &mut dyn Any = &mut out;
            $(
                if let Some(slot) = slot.downcast_mut::<Option<$number>>() {
                    *slot = Some(<$number>::from_ne_bytes(bytes.try_into().ok()?));
                    return out;
                }
                if let Some(slot) = slot.downcast_mut::<Option<($number,)>>() {
                    *slot = Some((<$number>::from_ne_bytes(bytes.try_into().ok()?),));
                    return out;
                }
            )*
            if let Some(slot) = slot.downcast_mut::<Option<()>>() {
                *slot = bytes.is_empty().then_some(());
            }
            out
        }
    };
}

plain!(u8, i8, u16, i16, u32, i32, u64, i64, usize, isize, u128, i128, f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        fn there_and_back<T: PartialEq + std::fmt::Debug + 'static>(value: &T) {
            let mut bytes = Vec::new();
            assert!(append(value, &mut bytes));
            assert_eq!(width::<T>(), Some(bytes.len()));
            assert_eq!(read::<T>(&bytes).as_ref(), Some(value));
            bytes.push(0);
            assert_eq!(read::<T>(&bytes), None);
        }
        there_and_back(&u8::MAX);
        there_and_back(&(i16::MIN,));
        there_and_back(&(f64::MIN_POSITIVE,));
        there_and_back(&usize::MAX);
        there_and_back(&());
    }

    #[test]
    fn what_is_not_plain_is_left() {
        let mut bytes = Vec::new();
        assert!(!append(&(1_u8, 2_u8), &mut bytes) && bytes.is_empty());
        assert!(!append(&"text".to_owned(), &mut bytes));
        assert_eq!((width::<Option<u8>>(), read::<bool>(&[1])), (None, None));
    }
}
