//! Shared memory: values, arrays and frozen slices that several processes use at once.
