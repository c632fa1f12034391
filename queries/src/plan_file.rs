//! Plans as files: what `usher compile` writes and `usher run` takes in place of a job.
//!
//! A plan file is the magic, the format's version (u32, little endian), the SHA-256 of the body, and the body: the
//! [`Plan`] in bincode 1.3's default encoding. Equal plans have equal bytes, and the hash finds any damage. A newer
//! format is refused by its version, before anything of it is read.
//!
//! A change of a type that is reachable from [`Plan`] changes the body: raise [`VERSION`] and keep a fixture.

use crate::plan::Plan;
use sha2::Digest as _;
use std::fmt;

/// The first bytes of every plan file.
const MAGIC: &[u8; 8] = b"usherpln";
/// The format that is written and read.
pub const VERSION: u32 = 10;
/// The bytes before the body: magic, version, hash.
const HEADER: usize = 8 + 4 + 32;

/// Why bytes are no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanFileError {
    /// They do not start as a plan file.
    NotAPlan,
    /// They were written in another format.
    Version {
        /// The format's version in the file.
        found: u32,
    },
    /// The body is not what was written.
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for PlanFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanFileError::NotAPlan => write!(f, "not a plan file\n  hint: `usher compile JOB -o PLAN` writes one"),
            PlanFileError::Version { found } => write!(
                f,
                "the plan file has format `{found}`, this version reads `{VERSION}`\n  hint: compile the job again"
            ),
            PlanFileError::Damaged { reason } => {
                write!(f, "the plan file is damaged: {reason}\n  hint: compile the job again")
            }
        }
    }
}

impl std::error::Error for PlanFileError {}

/// Returns whether `bytes` start as a plan file, damaged or not. A job file never does.
pub fn is_plan(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Returns the bytes of a plan file.
pub fn encode(plan: &Plan) -> Vec<u8> {
    let body = bincode::serialize(plan).expect("a plan is plain data");
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&sha2::Sha256::digest(&body));
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads the plan in the bytes of a plan file. The job's folder is empty: the caller sets it to the plan file's.
///
/// # Errors
///
/// Returns an error if the bytes are no plan file, one of another format, or damaged.
pub fn decode(bytes: &[u8]) -> Result<Plan, PlanFileError> {
    if !is_plan(bytes) {
        return Err(PlanFileError::NotAPlan);
    }
    let damaged = |reason: &str| PlanFileError::Damaged { reason: reason.to_string() };
    let version = bytes.get(8..12).ok_or_else(|| damaged("it ends within its header"))?;
    let found = u32::from_le_bytes(version.try_into().expect("four bytes"));
    if found != VERSION {
        return Err(PlanFileError::Version { found });
    }
    let hash = bytes.get(12..HEADER).ok_or_else(|| damaged("it ends within its header"))?;
    let body = &bytes[HEADER..];
    if sha2::Sha256::digest(body)[..] != *hash {
        return Err(damaged("its hash does not fit its content"));
    }
    bincode::deserialize(body).map_err(|error| damaged(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::*;
    use crate::{Schemas, compile};
    use usher_config::{Aggregate, Comparison, Decimal};

    fn plan() -> Plan {
        let sum = Comparison::MoreThan(Decimal::parse("99.5").expect("a decimal"));
        let audiences = [
            ("keen", "users", performed_where("priced", "path like '/pricing%'", at_least(3), 4 * HOUR)),
            ("trial", "users", property("trial_ends > now() + interval '1 day' and ltv * 2 > 7.5")),
            ("some", "users", performed("priced", between(1, 2), HOUR)),
            (
                "target",
                "users",
                all([
                    audience("keen"),
                    not(performed("ordered", at_least(1), 5 * MINUTE)),
                    related(None, Aggregate::Sum("amount".into()), sum),
                    related(None, Aggregate::Count, at_most(7)),
                ]),
            ),
            ("valued", "users", related(Some("users.ltv > 7 and amount > 1"), Aggregate::Count, at_least(2))),
            ("visitors", "visitors", performed("visited", at_least(1), HOUR)),
            (
                "abandoned",
                "users",
                sequence(
                    [step("priced", Some("path like '/cart%'"), None), step("priced", None, Some(MINUTE))],
                    &["ordered"],
                    DAY,
                ),
            ),
        ];
        let mut job = job(&audiences);
        set_live(&mut job, "users", &["plan"]);
        job.syncs.insert("crm".to_string(), sync(&["keen"], &["plan", "ltv"]));
        compile(&job, "job.yaml", &Schemas::new()).expect("a sound job")
    }

    #[test]
    fn a_plan_reads_back_as_it_was() {
        assert_eq!(decode(&encode(&plan())), Ok(plan()));
    }

    /// The plan of the tests as version 10 of the format was first written.
    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v10.plan");
    /// Plans of earlier versions, whose jobs had fewer fields.
    const EARLIER: [&str; 9] = [
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v1.plan"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v2.plan"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v3.plan"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v4.plan"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v5.plan"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v6.plan"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v7.plan"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v8.plan"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop-v9.plan"),
    ];

    #[test]
    fn a_plan_file_of_version_10_stays_readable_and_is_written_the_same() {
        let bytes = std::fs::read(FIXTURE).expect("the fixture is part of the crate");
        let changed = "the format has changed: raise VERSION, and freeze a plan of it beside this one, which must stay \
                       readable or be refused by its version";
        assert_eq!(decode(&bytes), Ok(plan()), "{changed}");
        assert!(encode(&plan()) == bytes, "{changed}");
    }

    #[test]
    fn a_plan_file_of_an_earlier_version_is_refused_with_a_hint() {
        for (found, fixture) in (1..).zip(EARLIER) {
            let bytes = std::fs::read(fixture).expect("the fixture is part of the crate");
            let error = decode(&bytes).expect_err("an old format");
            assert_eq!(error, PlanFileError::Version { found });
            let text = format!(
                "the plan file has format `{found}`, this version reads `{VERSION}`\n  hint: compile the job again"
            );
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    #[ignore = "it writes the fixture that the test above reads: once for each version"]
    fn freeze_a_fixture() {
        std::fs::write(FIXTURE, encode(&plan())).expect("the folder is there");
    }

    #[test]
    fn other_files_are_no_plans() {
        assert_eq!(decode(b"job: shop"), Err(PlanFileError::NotAPlan));
        assert_eq!(decode(b""), Err(PlanFileError::NotAPlan));
    }

    #[test]
    fn a_newer_format_is_refused_by_its_version() {
        let mut bytes = encode(&plan());
        bytes[8] = VERSION as u8 + 1;
        bytes[50] ^= 1;
        assert_eq!(decode(&bytes), Err(PlanFileError::Version { found: VERSION + 1 }));
    }

    #[test]
    fn any_damage_is_found() {
        let whole = encode(&plan());
        for length in 8..whole.len() {
            let error = decode(&whole[..length]).expect_err("it is cut");
            assert!(matches!(error, PlanFileError::Damaged { .. }), "cut at {length}: {error}");
        }
        for at in 12..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let error = decode(&bytes).expect_err("a bit is flipped");
            assert!(matches!(error, PlanFileError::Damaged { .. }), "flipped at {at}: {error}");
        }
    }
}
