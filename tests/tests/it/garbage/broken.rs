//! Valid documents → broken ones.

/// Boundary numbers.
const NUMBERS: [&str; 22] = [
    "0",
    "-1",
    "1",
    "1.5",
    "-0.0",
    "99",
    "101",
    "255",
    "256",
    "16385",
    "65536",
    "4294967295",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e-400",
    "1e999",
    "340282366920938463463374607431768211456",
];

/// The maxima of the types that documents are read into.
const GREATEST: [&str; 2] = ["4294967295", "18446744073709551615"];

/// Strings with a meaning in some field.
const STRINGS: [&str; 18] = [
    "",
    "\\u0000",
    "\\ud800",
    "é",
    "0ms",
    "18446744073709551615m",
    "5s",
    "orders",
    "id",
    "fixed",
    "maglev",
    "10.0.0.1:99999",
    "[::1]:1",
    "::ffff:10.0.0.1",
    "a,b",
    "*",
    "..",
    "0123456789abcdef",
];

/// Makes broken inputs, one after the other.
pub(super) struct Broken<'a> {
    valid: &'a [Vec<u8>],
    state: u64,
    input: Vec<u8>,
}

impl<'a> Broken<'a> {
    pub(super) fn new(valid: &'a [Vec<u8>], seed: u64) -> Self {
        Self {
            valid,
            state: seed,
            input: Vec::new(),
        }
    }

    pub(super) fn next(&mut self) -> &[u8] {
        self.input.clear();
        if self.below(16) == 0 {
            let length = self.below(200);
            self.insert_bytes(0, length);
            return &self.input;
        }
        let document = self.below(self.valid.len());
        self.input.extend_from_slice(&self.valid[document]);
        if self.below(5) == 0 {
            let pools = [NUMBERS.as_slice(), &GREATEST];
            let numbers = pools[self.below(2)];
            self.extreme_numbers(numbers);
            return &self.input;
        }
        // Most often a single change, so that the rest is read.
        for _ in 0..[1, 1, 1, 2, 3][self.below(5)] {
            self.break_once();
        }
        &self.input
    }

    fn break_once(&mut self) {
        let at = self.below(self.input.len());
        let end = (at + 1 + self.below(12)).min(self.input.len());
        match self.below(12) {
            0 => {
                let bit = self.below(8);
                if let Some(byte) = self.input.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            1 => drop(self.input.drain(at..end)),
            2 => {
                let length = self.below(6);
                self.insert_bytes(at, length);
            }
            3 => self.repeat(at, end, 2),
            // A field or an element, up to the next comma, so that much stays valid.
            4 => {
                let end = self.next_of(at, b",").min(self.input.len());
                self.repeat(at, end, 2);
            }
            5 => drop(self.input.drain(at..self.next_of(at, b",}]").max(at))),
            6 | 7 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                let start = self.next_of(at, b"0123456789");
                let digits = self.input[start..]
                    .iter()
                    .take_while(|b| b.is_ascii_digit());
                let end = start + digits.count();
                self.input.splice(start..end, number.bytes());
            }
            8 | 9 => {
                let string = STRINGS[self.below(STRINGS.len())];
                let start = (self.next_of(at, b"\"") + 1).min(self.input.len());
                let end = self.next_of(start, b"\"");
                self.input.splice(start..end, string.bytes());
            }
            // Long or deeply nested.
            10 => {
                let what = [b"[".as_slice(), b"{\"a\":", b"x", b"\xff"][self.below(4)];
                let times = self.below(300);
                self.input.splice(at..at, what.repeat(times));
            }
            _ => {
                let other = &self.valid[self.below(self.valid.len())];
                let from = self.below(other.len());
                let to = (from + 1 + self.below(60)).min(other.len());
                self.input.splice(at..at, other[from..to].iter().copied());
            }
        }
    }

    /// Replaces about every second number that is a value, since some sums overflow only where several
    /// numbers are large.
    fn extreme_numbers(&mut self, numbers: &[&str]) {
        let mut at = 0;
        while at < self.input.len() {
            at = (self.next_of(at, b":") + 1).min(self.input.len());
            let spaces = self.input[at..].iter().take_while(|byte| **byte == b' ');
            at += spaces.count();
            let digits = self.input[at..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            let end = at + digits.count();
            if end > at && self.below(2) == 0 {
                let number = numbers[self.below(numbers.len())];
                self.input.splice(at..end, number.bytes());
            }
        }
    }

    fn repeat(&mut self, at: usize, end: usize, times: usize) {
        let part = self.input[at..end].repeat(times - 1);
        self.input.splice(end..end, part);
    }

    fn insert_bytes(&mut self, at: usize, length: usize) {
        let bytes: Vec<u8> = (0..length)
            .map(|_| self.random().to_le_bytes()[0])
            .collect();
        self.input.splice(at..at, bytes);
    }

    /// The position of the next of these bytes; the end if there is none.
    fn next_of(&self, at: usize, bytes: &[u8]) -> usize {
        let found = self.input[at..]
            .iter()
            .position(|byte| bytes.contains(byte));
        found.map_or(self.input.len(), |more| at + more)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap().max(1);
        usize::try_from(self.random() % end).unwrap()
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}
