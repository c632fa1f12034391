//! The whole program, from the outside: one binary of tests.

mod oracle;
mod support;
mod tidy;
