//! A few flips of every kind; `flips --flips 10000` is the long run.

use mainstay_flips::{Flip, Kind, Made, Outcome, Tally, judge};

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let made = Made::new(1);
    let mut tally = Tally::default();
    for number in 0..150 {
        let flip = Flip::draw(&made, 1, number, None);
        let outcome = judge(&made, &flip);
        assert!(!matches!(outcome, Outcome::Wrong(_)), "number {number}: {flip}\n{outcome:?}");
        tally.count(flip.kind, &outcome);
    }
    assert!(tally.to_string().contains("Wal: "), "{tally}");
}

/// The judge sees what it should: a db whose pages have no checksums is believed.
#[test]
fn without_checksums_the_judge_complains() {
    let made = Made::new(2);
    let disk = made.disk.copy();
    let sums = disk.paths().into_iter().find(|path| path.ends_with("/pages")).unwrap();
    disk.install(&sums, b"");
    let blind = Made { disk, ..made };
    let wrong = (0..60)
        .filter(|number| {
            let flip = Flip::draw(&blind, 2, *number, Some(Kind::Db));
            matches!(judge(&blind, &flip), Outcome::Wrong(_))
        })
        .count();
    assert!(wrong > 10, "{wrong} wrong answers were noticed");
}
