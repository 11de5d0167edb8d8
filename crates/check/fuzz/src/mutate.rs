//! Bending inputs: bits, numbers, lengths, pieces of other inputs.

use mainstay_env::Dice as _;
use mainstay_env_sim::SimDice;

/// Longest input in bytes.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// Numbers at which code turns.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fffe,
    0x00ff_ffff_ffff_ffff,
    1000,
];

/// Bends `input` in one to eight ways; `other` is another input to take pieces from.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], dice: &mut SimDice) {
    let times = 1 + dice.below(3).pow(2) + dice.below(4);
    for _ in 0..times {
        once(input, other, dice);
    }
    input.truncate(INPUT_BYTES_MAX);
}

fn once(input: &mut Vec<u8>, other: &[u8], dice: &mut SimDice) {
    if input.is_empty() {
        input.extend_from_slice(other);
        input.push(dice.roll() as u8);
        return;
    }
    let at = place(input.len(), dice);
    match dice.below(14) {
        0 | 1 => input[at] ^= 1 << dice.below(8),
        2 => input[at] = dice.roll() as u8,
        3 => input[at] = input[at].wrapping_add([1, 0xff][dice.below(2) as usize]),
        4 => write_number(input, at, dice),
        5 => write_varint(input, at, dice),
        6 => nudge_number(input, at, dice),
        7 => input.truncate(at),
        8 => drop(input.drain(at..end(at, input.len(), dice))),
        9 => {
            let piece = input[at..end(at, input.len(), dice)].to_vec();
            let to = place(input.len(), dice);
            input.splice(to..to, piece);
        }
        10 => {
            let to = end(at, input.len(), dice);
            input[at..to].fill([0, 0xff][dice.below(2) as usize]);
        }
        11 => {
            let count = 1 + dice.below(16) as usize;
            input.splice(at..at, (0..count).map(|_| dice.roll() as u8));
        }
        _ => take_piece(input, at, other, dice),
    }
}

/// Somewhere; half of the time near the front, where the headers are.
fn place(len: usize, dice: &mut SimDice) -> usize {
    let reach = if dice.one_in(2) { len } else { len.min(96) };
    dice.below(reach as u64) as usize
}

fn end(at: usize, len: usize, dice: &mut SimDice) -> usize {
    let most = if dice.one_in(3) { 4096 } else { 32 };
    (at + 1 + dice.below(most) as usize).min(len)
}

/// Overwrites 1, 2, 4 or 8 bytes with an edge, little- or big-endian.
fn write_number(input: &mut [u8], at: usize, dice: &mut SimDice) {
    let number = EDGES[dice.below(EDGES.len() as u64) as usize];
    let width = (1_usize << dice.below(4)).min(input.len() - at);
    let bytes = number.to_le_bytes();
    let target = &mut input[at..at + width];
    target.copy_from_slice(&bytes[..width]);
    if dice.one_in(2) {
        target.reverse();
    }
}

/// Puts an edge as a varint in the place of one byte: a length that lies.
fn write_varint(input: &mut Vec<u8>, at: usize, dice: &mut SimDice) {
    let mut number = EDGES[dice.below(EDGES.len() as u64) as usize];
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    input.splice(at..=at, bytes);
}

/// Adds a little to a number of 2, 4 or 8 bytes.
fn nudge_number(input: &mut [u8], at: usize, dice: &mut SimDice) {
    let width = 2 << dice.below(3);
    let Some(bytes) = input.get_mut(at..at + width) else { return };
    let mut wide = [0; 8];
    wide[..width].copy_from_slice(bytes);
    let by = dice.below(17).wrapping_sub(8);
    let number = u64::from_le_bytes(wide).wrapping_add(by);
    bytes.copy_from_slice(&number.to_le_bytes()[..width]);
}

/// Overwrites or inserts a piece of the other input.
fn take_piece(input: &mut Vec<u8>, at: usize, other: &[u8], dice: &mut SimDice) {
    if other.is_empty() {
        return;
    }
    let from = place(other.len(), dice);
    let piece = &other[from..end(from, other.len(), dice)];
    if dice.one_in(2) {
        let to = (at + piece.len()).min(input.len());
        input.splice(at..to, piece.iter().copied());
    } else {
        input.splice(at..at, piece.iter().copied());
    }
}
