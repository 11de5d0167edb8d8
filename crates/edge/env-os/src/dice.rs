//! Random numbers from the kernel.

use mainstay_env::Dice;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Numbers fetched by one call of `getrandom`. The kernel never interrupts a
/// request of up to 256 bytes (`getrandom(2)`), so a fetch is always whole.
const FETCH: usize = 32;

/// The kernel's random numbers (`getrandom`), fetched 32 at a time.
#[derive(Debug, Default)]
pub struct OsDice {
    waiting: Vec<u64>,
}

impl OsDice {
    /// Dice with nothing fetched yet.
    pub fn new() -> OsDice {
        OsDice::default()
    }

    fn fetch(&mut self) {
        let mut bytes = [0_u8; FETCH * 8];
        let mut filled = 0;
        while filled < bytes.len() {
            match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                // Every kernel we run on has the call; without randomness
                // identities could collide, so there is no going on.
                Err(error) => panic!("the kernel gives no random numbers: {error}"),
            }
        }
        let numbers = bytes.chunks_exact(8);
        self.waiting.extend(numbers.map(|chunk| {
            u64::from_le_bytes(chunk.try_into().expect("chunks_exact gives eight bytes"))
        }));
    }
}

impl Dice for OsDice {
    fn roll(&mut self) -> u64 {
        loop {
            if let Some(number) = self.waiting.pop() {
                return number;
            }
            self.fetch();
        }
    }
}
