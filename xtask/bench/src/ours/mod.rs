//! This project's crates, as their users have them: through the facade. One file each.

/// A child of `multiprocess` enters here and does not return.
pub(crate) fn init() {}
