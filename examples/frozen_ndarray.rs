//! One large table, read by several processes as an `ndarray` without a copy: it is frozen once, and a handle goes to each.

use multiprocess::Process;
use multiprocess::shm::{Frozen, FrozenWriter};
use ndarray::{ArrayView2, ArrayViewMut2, Axis, ShapeError};
use std::error::Error;

const ROWS: usize = 10_000;
const COLUMNS: usize = 64;

/// The frozen numbers as rows and columns: a view, checked to fit.
fn table(numbers: &Frozen<f64>) -> Result<ArrayView2<'_, f64>, ShapeError> {
    ArrayView2::from_shape((ROWS, COLUMNS), numbers)
}

/// The mean of some columns, in another process.
fn means(numbers: Frozen<f64>, from: usize, to: usize) -> Result<Vec<f64>, multiprocess::RemoteError> {
    let table = table(&numbers)?;
    let columns = table.axis_iter(Axis(1)).skip(from).take(to - from);
    Ok(columns.map(|column| column.sum() / ROWS as f64).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let mut writer = FrozenWriter::<f64>::new(ROWS * COLUMNS)?;
    let mut rows = ArrayViewMut2::from_shape((ROWS, COLUMNS), &mut writer)?;
    for ((row, column), number) in rows.indexed_iter_mut() {
        *number = (row % 2 * 2 * column) as f64;
    }
    let numbers = writer.freeze()?;

    let halves = [(0, COLUMNS / 2), (COLUMNS / 2, COLUMNS)];
    let workers = halves.map(|(from, to)| Process::spawn(means, (numbers.clone(), from, to)));
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker?.join()??);
    }
    let expected: Vec<f64> = (0..COLUMNS).map(|column| column as f64).collect();
    assert_eq!(all, expected);
    println!("{} MiB read by two processes, the means of {} columns", (numbers.len() * 8) >> 20, all.len());
    Ok(())
}
