//! Figures as people read them: three digits and a unit.

use std::thread::available_parallelism;

use crate::rows::Unit;

pub(super) fn shown(unit: Unit, nanos: f64) -> String {
    match unit {
        Unit::Time => time(nanos),
        Unit::Rate => rate(1e9 / nanos),
        Unit::Ideal { .. } => format!("{:.3}", value(unit, nanos)),
    }
}

/// What is shown of an operation that took `nanos`.
pub(super) fn value(unit: Unit, nanos: f64) -> f64 {
    match unit {
        Unit::Time => nanos,
        Unit::Rate => 1e9 / nanos,
        Unit::Ideal { one } => {
            one.as_nanos() as f64 / available_parallelism().map_or(1, usize::from) as f64 / nanos
        }
    }
}

pub(super) fn time(nanos: f64) -> String {
    match nanos {
        _ if nanos < 1e3 => format!("{} ns", digits(nanos)),
        _ if nanos < 1e6 => format!("{} µs", digits(nanos / 1e3)),
        _ if nanos < 1e9 => format!("{} ms", digits(nanos / 1e6)),
        _ => format!("{} s", digits(nanos / 1e9)),
    }
}

fn rate(per_second: f64) -> String {
    match per_second {
        _ if per_second >= 1e6 => format!("{} M/s", digits(per_second / 1e6)),
        _ if per_second >= 1e3 => format!("{} k/s", digits(per_second / 1e3)),
        _ => format!("{} /s", digits(per_second)),
    }
}

pub(super) fn ratio(ratio: f64) -> String {
    format!("{}×", digits(ratio))
}

/// Three digits that count, no more than two of them behind the point.
fn digits(value: f64) -> String {
    let decimals = match value {
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        assert_eq!(time(0.123), "0.12 ns");
        assert_eq!(time(1234.0), "1.23 µs");
        assert_eq!(time(45_678_901.0), "45.7 ms");
        assert_eq!(shown(Unit::Rate, 20.0), "50.0 M/s");
        assert_eq!(shown(Unit::Rate, 1e6), "1.00 k/s");
        assert_eq!(ratio(123.4), "123×");
    }
}
