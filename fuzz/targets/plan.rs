//! Plan files: any bytes are a plan or none; one that is read is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::Digest as _;
use usher_queries::plan_file::{VERSION, decode, encode};

fuzz_target!(|body: &[u8]| {
    let _ = decode(body);
    // The hash keeps damage out; what stands behind it must hold without.
    let mut file = b"usherpln".to_vec();
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&sha2::Sha256::digest(body));
    file.extend_from_slice(body);
    if let Ok(plan) = decode(&file) {
        assert_eq!(decode(&encode(&plan)), Ok(plan));
    }
});
