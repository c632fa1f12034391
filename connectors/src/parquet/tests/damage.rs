//! Damaged files are errors, or go unnoticed where nothing tells; they never end the program.

use super::*;

#[test]
fn no_damage_ends_the_program() {
    let seed = 11;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("u.parquet");
    let (mut failed, mut passed) = (0, 0);
    for codec in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd(), gzip(), Compression::LZ4_RAW] {
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..300).map(|n| format!("u-{}", n % 40))));
        let values: ArrayRef =
            Arc::new(Float64Array::from_iter((0..300).map(|n| (n % 3 != 0).then_some(f64::from(n)))));
        write(&path, &[("user_id", keys), ("ltv", values)], codec, 120);
        let whole = fs::read(&path).expect("the file is read");
        for _ in 0..300 {
            let mut damaged = whole.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..damaged.len());
                damaged[at] = rng.u8(..);
            }
            if rng.u8(..8) == 0 {
                damaged.truncate(rng.usize(..damaged.len()));
            }
            fs::write(&path, damaged).expect("the file is written");
            match pull("u.parquet", folder.path(), &users()).and_then(|pull| read(&pull)) {
                Ok(_) => passed += 1,
                Err(_) => failed += 1,
            }
        }
    }
    assert!(failed > 100 && passed > 100, "both are reached: {failed} failed, {passed} passed");
}
