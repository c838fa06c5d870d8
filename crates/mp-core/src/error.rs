//! The shape that "not yet" errors of all crates share.

/// Completes an enum of two variants, "not yet" and `Failed(inner)`: a query for each, `Display`, `Error`, and `From` the
/// narrower error. An enum that gives a value back brings its own `Debug`, which does not ask for the value's; where it does, the bound stands here.
#[doc(hidden)]
#[macro_export]
macro_rules! not_yet_or_failed {
    ($name:ident $(<$value:ident $(: $bound:path)?>)?, $not_yet:ident, $is:ident, $text:literal, $failed:ty) => {
        impl $(<$value>)? $name $(<$value>)? {
            #[doc = concat!("Whether it is only that: ", $text, ".")]
            pub const fn $is(&self) -> bool {
                matches!(self, Self::$not_yet { .. })
            }

            /// Whether everybody at the other end is gone.
            pub const fn is_disconnected(&self) -> bool {
                matches!(self, Self::Failed(error) if error.is_disconnected())
            }
        }

        impl $(<$value>)? ::std::fmt::Display for $name $(<$value>)? {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self {
                    Self::$not_yet { .. } => f.write_str($text),
                    Self::Failed(error) => error.fmt(f),
                }
            }
        }

        impl $(<$value $(: $bound)?>)? ::std::error::Error for $name $(<$value>)? {
            fn source(&self) -> ::std::option::Option<&(dyn ::std::error::Error + 'static)> {
                match self {
                    Self::$not_yet { .. } => ::std::option::Option::None,
                    Self::Failed(error) => ::std::error::Error::source(error),
                }
            }
        }

        impl $(<$value>)? ::std::convert::From<$failed> for $name $(<$value>)? {
            fn from(error: $failed) -> Self {
                Self::Failed(error)
            }
        }
    };
}
