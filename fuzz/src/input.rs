//! The fuzzer's bytes as a list of decisions.

/// Bytes, taken from the front.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input(data)
    }

    /// The next byte; `None` at the end.
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte; zero at the end.
    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    pub fn pair(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number that is at times small, near to `now`, a power of two or about one, or anything.
    pub fn number(&mut self, now: u64) -> u64 {
        let (kind, value) = (self.byte(), self.byte());
        match kind % 8 {
            0 | 1 => value.into(),
            2 | 3 => now.wrapping_add_signed(i64::from(value.cast_signed())),
            4 => now.wrapping_add_signed(i64::from(value.cast_signed()) << 16),
            5 => 1_u64.rotate_left(value.into()),
            6 => 1_u64.rotate_left(value.into()).wrapping_sub(1),
            _ => self.word(),
        }
    }

    /// The next bytes, at most `most`.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        front
    }

    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}
