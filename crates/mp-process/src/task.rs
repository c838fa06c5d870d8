//! Which functions can run in another process, and how one is named there.

#![expect(
    unsafe_code,
    reason = "a function travels as an offset, and a zero-sized closure is conjured from nothing"
)]

use crate::sys::images::{self, ImageId};
use mp_core::handle::Handles;
use mp_core::{DecodeError, EncodeError, Encoding, wire};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

/// A function that can run in another process with `Args`: a `fn`, or a closure without captures, of up to eight arguments.
///
/// Implemented for all of them; there is nothing to implement. Values go along as arguments, not as captures:
///
/// ```compile_fail
/// let captured = String::new();
/// // A closure with captures does not travel; the error says to pass `captured` as an argument.
/// let process = mp_process::Process::spawn(move || captured.len(), ()).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run in another process with the arguments `{Args}`",
    label = "not a function of these arguments",
    note = "pass the function itself, `spawn(f, (x, y))`, not the result of calling it, `spawn(f(), ..)`",
    note = "arguments are a tuple, also a single one: `spawn(f, (x,))`, and none: `spawn(f, ())`",
    note = "a closure must not capture anything: pass what it needs as arguments"
)]
pub trait Task<Args>: Copy + Send + Sync + 'static {
    /// What it returns.
    type Output;

    /// Calls it.
    fn call(self, args: Args) -> Self::Output;
}

macro_rules! task {
    ($($arg:ident $value:ident),*) => {
        // Without this the compiler would talk about `Fn(..)` instead of showing the notes above.
        #[diagnostic::do_not_recommend]
        impl<Function, Return $(, $arg)*> Task<($($arg,)*)> for Function
        where
            Function: Fn($($arg),*) -> Return + Copy + Send + Sync + 'static,
        {
            type Output = Return;

            fn call(self, ($($value,)*): ($($arg,)*)) -> Return {
                self($($value),*)
            }
        }
    };
}

task!();
task!(A a);
task!(A a, B b);
task!(A a, B b, C c);
task!(A a, B b, C c, D d);
task!(A a, B b, C c, D d, E e);
task!(A a, B b, C c, D d, E e, F f);
task!(A a, B b, C c, D d, E e, F f, G g);
task!(A a, B b, C c, D d, E e, F f, G g, H h);

/// An encoded result with its handles.
#[derive(Debug)]
pub struct Reply {
    /// How the bytes are to be read.
    pub encoding: Encoding,
    /// The bytes.
    pub bytes: wire::Owned,
    /// The handles in it.
    pub handles: Handles,
}

/// Why a call had no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The arguments could not be decoded; the function did not run.
    Arguments(DecodeError),
    /// The function has run, and its result could not be encoded.
    Result(EncodeError),
}

/// Decodes arguments, calls, encodes the result: one for each function and tuple of arguments.
type Trampoline = fn(Encoding, Cow<'_, [u8]>, Vec<OwnedFd>) -> Result<Reply, CallError>;

fn trampoline<F, Args>(
    encoding: Encoding,
    bytes: Cow<'_, [u8]>,
    handles: Vec<OwnedFd>,
) -> Result<Reply, CallError>
where
    F: Task<Args>,
    Args: DeserializeOwned + 'static,
    F::Output: Serialize + 'static,
{
    // SAFETY: `F` has no size (`Routine::of` does not compile otherwise) and is `Copy`, so there is nothing to read and
    // nothing to duplicate. A value of it exists: this trampoline's address comes from a caller that held one.
    let function = unsafe { NonNull::<F>::dangling().read() };
    let args = wire::decode(encoding, bytes, handles).map_err(CallError::Arguments)?;
    Reply::from_value(function.call(args)).map_err(CallError::Result)
}

impl Reply {
    /// The encoded `result`, whose bytes are moved and not copied where they cross as they are.
    ///
    /// # Errors
    ///
    /// As [`of`](Reply::of).
    pub fn from_value<R: Serialize + 'static>(result: R) -> Result<Reply, EncodeError> {
        match wire::into_own(result) {
            Ok((encoding, bytes)) => Ok(Reply { encoding, bytes, handles: Handles::default() }),
            Err(result) => Reply::of(&result),
        }
    }

    /// The encoded `result`.
    ///
    /// # Errors
    ///
    /// As for any value that is encoded.
    pub fn of<R: Serialize + 'static>(result: &R) -> Result<Reply, EncodeError> {
        let mut scratch = Vec::new();
        let message = wire::encode(result, &mut scratch)?;
        let (encoding, handles, length) = (message.encoding, message.handles, message.bytes.len());
        let bytes = if encoding == Encoding::POSTCARD {
            scratch.truncate(length);
            scratch
        } else {
            own_bytes(result)
        };
        Ok(Reply { encoding, bytes: bytes.into(), handles })
    }
}

/// The bytes of a result that needed no scratch: encoded again, which for such types is a copy.
fn own_bytes<T: Serialize + 'static>(value: &T) -> Vec<u8> {
    let mut scratch = Vec::new();
    wire::encode(value, &mut scratch).map(|message| message.bytes.to_vec()).unwrap_or_default()
}

/// A function by the name that it has in every process that runs the same program: its image, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Routine {
    image: ImageId,
    offset: u64,
}

/// The function's image is not loaded here: another program, or another build of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRoutine;

impl fmt::Display for UnknownRoutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the function lies in a program or library that is not loaded here, or in another build of it",
        )
    }
}

impl std::error::Error for UnknownRoutine {}

impl Routine {
    /// The name of `function` when called with `Args`; `None` when it lies in no loaded image (generated code).
    #[must_use]
    pub fn of<F, Args>(_function: F) -> Option<Routine>
    where
        F: Task<Args>,
        Args: DeserializeOwned + 'static,
        F::Output: Serialize + 'static,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "a function that runs in another process must not capture anything and must be named itself, not by a \
                 `fn` pointer: pass what it needs as arguments, `spawn(f, (a, b))`"
            );
        }
        let call: Trampoline = trampoline::<F, Args>;
        let (image, offset) = images::locate(call as usize)?;
        Some(Routine { image, offset })
    }

    /// Finds the function in this process.
    ///
    /// # Errors
    ///
    /// When its image is not loaded here.
    pub fn resolve(&self) -> Result<Call, UnknownRoutine> {
        let address = images::address(&self.image, self.offset).ok_or(UnknownRoutine)?;
        let address = std::ptr::with_exposed_provenance::<()>(address);
        // SAFETY: the image is the very same as in the process that named the routine (its build id, or the hash of its
        // text, is equal), so a `Trampoline` starts at this offset; `address` checked that it lies in code.
        Ok(Call(unsafe { std::mem::transmute::<*const (), Trampoline>(address) }))
    }
}

/// A function found in this process.
#[derive(Clone, Copy, Debug)]
pub struct Call(Trampoline);

impl Call {
    /// Decodes the arguments, calls the function, encodes its result. Unwinds when the function does.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn call(
        &self,
        encoding: Encoding,
        bytes: Cow<'_, [u8]>,
        handles: Vec<OwnedFd>,
    ) -> Result<Reply, CallError> {
        (self.0)(encoding, bytes, handles)
    }

    /// As [`call`](Call::call) for a function without arguments, whose result does not matter.
    pub(crate) fn call_without_arguments(&self) -> Result<Reply, CallError> {
        let mut scratch = Vec::new();
        let none = wire::encode(&(), &mut scratch).map_err(CallError::Result)?;
        self.call(none.encoding, Cow::Borrowed(none.bytes), Vec::new())
    }
}

/// What calls a function again and again over something of its own: its loop is compiled anew for each function.
pub trait Driver: 'static {
    /// What it works on.
    type Context<'a>;

    /// Calls `function` with whatever `context` has for it.
    fn drive<F, Args>(function: F, context: &mut Self::Context<'_>)
    where
        F: Task<Args>,
        Args: DeserializeOwned + 'static,
        F::Output: Serialize + 'static;
}

type Engine<D> = fn(&mut <D as Driver>::Context<'_>);

fn engine<D, F, Args>(context: &mut D::Context<'_>)
where
    D: Driver,
    F: Task<Args>,
    Args: DeserializeOwned + 'static,
    F::Output: Serialize + 'static,
{
    // SAFETY: as in `trampoline`: `F` has no size and is `Copy`, and `DrivenRoutine::of` held a value of it.
    let function = unsafe { NonNull::<F>::dangling().read() };
    D::drive(function, context);
}

/// As [`Routine`], for a function in the loop of driver `D`. Its bytes are no [`Routine`]'s.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct DrivenRoutine<D> {
    mark: u64,
    routine: Routine,
    driver: PhantomData<fn(D)>,
}

/// What the bytes of a driven routine begin with.
const DRIVEN: u64 = 0x6472_6976_656e_2e31;

impl<D> fmt::Debug for DrivenRoutine<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DrivenRoutine").field(&self.routine).finish()
    }
}

impl<D: Driver> DrivenRoutine<D> {
    /// As [`Routine::of`].
    #[must_use]
    pub fn of<F, Args>(_function: F) -> Option<DrivenRoutine<D>>
    where
        F: Task<Args>,
        Args: DeserializeOwned + 'static,
        F::Output: Serialize + 'static,
    {
        const { assert!(size_of::<F>() == 0, "a function that captures something does not travel") }
        let call: Engine<D> = engine::<D, F, Args>;
        let (image, offset) = images::locate(call as usize)?;
        Some(DrivenRoutine { mark: DRIVEN, routine: Routine { image, offset }, driver: PhantomData })
    }

    /// As [`Routine::resolve`].
    ///
    /// # Errors
    ///
    /// When its image is not loaded here.
    pub fn resolve(&self) -> Result<Drive<D>, UnknownRoutine> {
        let image = Some(&self.routine.image).filter(|_| self.mark == DRIVEN);
        let address = image.and_then(|image| images::address(image, self.routine.offset));
        let address = std::ptr::with_exposed_provenance::<()>(address.ok_or(UnknownRoutine)?);
        // SAFETY: as in `Routine::resolve`; the mark tells that what named the routine was an `Engine`, and the program names
        // driven routines of one driver only as that driver's.
        Ok(Drive(unsafe { std::mem::transmute::<*const (), Engine<D>>(address) }))
    }
}

/// A driven function found in this process.
pub struct Drive<D: Driver>(Engine<D>);

impl<D: Driver> Drive<D> {
    /// Runs the driver's loop with the function.
    pub fn run(&self, context: &mut D::Context<'_>) {
        (self.0)(context);
    }
}

impl<D: Driver> Clone for Drive<D> {
    fn clone(&self) -> Drive<D> {
        *self
    }
}

impl<D: Driver> Copy for Drive<D> {}

impl<D: Driver> fmt::Debug for Drive<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drive")
    }
}
