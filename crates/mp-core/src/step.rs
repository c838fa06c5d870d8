//! Numbered steps of a protocol, where a test may kill or stop the process.
//!
//! `step!("ring.publish", 2)` is nothing in an ordinary build. In a build with `--cfg mp_steps` it ends this process
//! with SIGKILL (or stops it with SIGSTOP) when that step was armed, by [`arm`] or by the environment variable
//! `MP_STEP=ring.publish:2` (`:stop` behind it stops instead, `:+3` lets it pass three times before).

use std::sync::{OnceLock, PoisonError, RwLock};

/// Marks step `$number` of the protocol `$protocol`.
#[macro_export]
macro_rules! step {
    ($protocol:literal, $number:literal) => {
        #[cfg(mp_steps)]
        $crate::step::reached($protocol, $number);
    };
}

/// What happens at an armed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL: nothing of this process runs after the step.
    Kill,
    /// SIGSTOP: the process stands still until somebody continues it.
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Armed {
    protocol: String,
    number: u32,
    action: Action,
    passes: u32,
}

/// Not a mutex: what one thread of many looks at when the process is forked, the child can look at, too.
static ARMED: OnceLock<RwLock<Option<Armed>>> = OnceLock::new();

fn armed() -> &'static RwLock<Option<Armed>> {
    ARMED.get_or_init(|| RwLock::new(std::env::var("MP_STEP").ok().as_deref().and_then(parse)))
}

fn parse(text: &str) -> Option<Armed> {
    let mut parts = text.split(':');
    let protocol = parts.next()?.to_owned();
    let number = parts.next()?.parse().ok()?;
    let mut found = Armed { protocol, number, action: Action::Kill, passes: 0 };
    for part in parts {
        match part.strip_prefix('+') {
            Some(passes) => found.passes = passes.parse().ok()?,
            None if part == "stop" => found.action = Action::Stop,
            None => return None,
        }
    }
    Some(found)
}

/// Arms step `number` of `protocol` in this process: the `passes + 1`-th arrival acts.
pub fn arm(protocol: &str, number: u32, action: Action, passes: u32) {
    let step = Armed { protocol: protocol.to_owned(), number, action, passes };
    *armed().write().unwrap_or_else(PoisonError::into_inner) = Some(step);
}

/// Whether this build acts at steps at all.
#[must_use]
pub const fn enabled() -> bool {
    cfg!(mp_steps)
}

/// Called by [`step!`](crate::step!) on arrival at a step.
pub fn reached(protocol: &str, number: u32) {
    let is_this = |step: &Armed| step.protocol == protocol && step.number == number;
    if !armed().read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(is_this) {
        return;
    }
    let mut guard = armed().write().unwrap_or_else(PoisonError::into_inner);
    let Some(step) = guard.as_mut().filter(|step| is_this(step)) else {
        return;
    };
    if step.passes > 0 {
        step.passes -= 1;
        return;
    }
    let action = step.action;
    *guard = None;
    drop(guard);
    crate::sys::signal_self(action);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_environment_says() {
        let step = parse("ring.publish:2").unwrap();
        assert_eq!((step.protocol.as_str(), step.number, step.action), ("ring.publish", 2, Action::Kill));
        let step = parse("put:1:stop:+3").unwrap();
        assert_eq!((step.action, step.passes), (Action::Stop, 3));
        assert_eq!(parse("put"), None);
        assert_eq!(parse("put:x"), None);
        assert_eq!(parse("put:1:nonsense"), None);
    }
}
