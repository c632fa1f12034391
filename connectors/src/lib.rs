//! stub
#![allow(missing_docs, unused, clippy::all)]
pub mod source {
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct PartitionId { pub source: String, pub name: String }
    pub trait Partition: Send { fn id(&self) -> &PartitionId; fn poll(&mut self, budget: usize) -> Result<Polled<'_>, SourceError>; fn position(&self) -> u64; fn progress(&self) -> (u64, u64); fn caught_up(&self) -> bool; }
    pub enum Polled<'a> { Records(Records<'a>), Idle, End }
    pub struct Records<'a>(std::marker::PhantomData<&'a ()>);
    impl<'a> Iterator for Records<'a> { type Item = Record<'a>; fn next(&mut self) -> Option<Record<'a>> { None } }
    pub struct Record<'a> { pub position: u64, pub timestamp: Option<u64>, pub body: Body<'a> }
    pub enum Body<'a> { Bytes(&'a [u8]), Blank, TooLarge { head: &'a [u8], length: u64 } }
    #[derive(Debug)] pub struct SourceError { pub message: String, pub hint: Option<String> }
    impl std::fmt::Display for SourceError { fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result { Ok(()) } }
}
pub mod file { pub struct Files; impl Files { pub fn partitions(&mut self) -> Vec<Box<dyn crate::source::Partition>> { vec![] } pub fn discover(&mut self) -> Result<Vec<Box<dyn crate::source::Partition>>, crate::source::SourceError> { Ok(vec![]) } }
 pub fn open_files(_: &str, _: &str, _: &std::path::Path, _: bool, _: u64) -> Result<Files, crate::source::SourceError> { Ok(Files) } }
pub mod sink {
    #[derive(Clone, Copy, Debug)] pub enum ChangeKind { Entry, Exit }
    #[derive(Clone, Copy, Debug)] pub enum Reason { Event, Expiry, Snapshot, Trait, Definition, Recovery }
    #[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)] pub struct Changes;
    impl Changes { pub fn push(&mut self, at: u64, audience: u32, kind: ChangeKind, reason: Reason, key: &str) {} pub fn is_empty(&self) -> bool { true } pub fn sort(&mut self) {} pub fn append(&mut self, o: &Changes) {} pub fn take_before(&mut self, t: Option<u64>) -> Changes { Changes } }
    pub trait Sink: Send { fn write(&mut self, epoch: &Changes) -> Result<(), SinkError>; fn finish(&mut self) -> Result<(), SinkError>; }
    #[derive(Debug)] pub enum SinkError { Closed }
    impl SinkError { pub fn is_closed(&self) -> bool { true } pub fn hint(&self) -> Option<String> { None } }
    impl std::fmt::Display for SinkError { fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result { Ok(()) } }
}
pub mod dead_letters {
    use crate::source::PartitionId;
    #[derive(Clone, Debug, Default)] pub struct Counts { pub read: u64, pub matched: u64, pub blank: u64, pub unmatched: u64, pub no_key: u64, pub repeats: u64, pub mismatches: u64 }
    impl Counts { pub fn bury(&mut self, r: Reason) {} pub fn add(&mut self, o: &Counts) {} }
    #[derive(Clone, Copy, Debug)] pub enum Reason { Malformed, BadKey, NoTimestamp, BadTimestamp, FutureTimestamp, TooLarge }
    pub struct DeadLetter<'a> { pub partition: &'a PartitionId, pub position: u64, pub reason: Reason, pub detail: &'a str, pub raw: &'a [u8], pub length: u64 }
    pub struct DeadLetters; impl DeadLetters { pub fn write(&self, l: DeadLetter<'_>) {} }
}
pub mod formats {
    use usher_config::{Found, Format, Path};
    pub struct Decoder; pub struct Malformed; #[derive(Default)] pub struct Fields<'a>(Vec<Found<'a>>);
    impl std::fmt::Display for Malformed { fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result { Ok(()) } }
    #[derive(Clone, Copy, Debug)] pub enum TimeError { Missing, Unreadable }
    impl Decoder { pub fn new(f: &Format, p: &[Path]) -> Decoder { Decoder } pub fn decode<'a>(&self, m: &'a [u8], f: &mut Fields<'a>) -> Result<(), Malformed> { Ok(()) } }
    impl<'a> Fields<'a> { pub fn kind(&self) -> &Found<'a> { &self.0[0] } pub fn name(&self) -> &Found<'a> { &self.0[0] } pub fn key(&self) -> &Found<'a> { &self.0[0] } pub fn id(&self) -> &Found<'a> { &self.0[0] } pub fn get(&self, i: usize) -> &Found<'a> { &self.0[i] } pub fn time(&self, b: Option<u64>) -> Result<u64, TimeError> { Ok(0) } }
    pub fn time_of(f: &Found<'_>) -> Result<u64, TimeError> { Ok(0) }
}
pub mod snapshot {
    use arrow_array::*; use usher_config::ColumnType;
    pub struct Warehouse; pub struct Pull; pub struct Wanted { pub key: String, pub foreign_key: Option<String>, pub columns: Vec<(String, ColumnType)> }
    #[derive(Debug)] pub struct SnapshotError; impl SnapshotError { pub fn hint(&self) -> Option<String> { None } }
    impl std::fmt::Display for SnapshotError { fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result { Ok(()) } }
    impl Warehouse { pub fn pull(&self, w: &Wanted) -> Result<Pull, SnapshotError> { Err(SnapshotError) } }
    pub struct Rows { pub keys: StringArray, pub foreign_keys: Option<StringArray>, pub columns: Vec<ArrayRef>, pub skipped: u64 }
    impl Pull { pub fn pieces(&self) -> usize { 0 } pub fn read(&self, p: usize) -> Result<std::vec::IntoIter<Result<Rows, SnapshotError>>, SnapshotError> { Err(SnapshotError) } }
}
