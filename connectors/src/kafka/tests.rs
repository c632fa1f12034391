//! Against a real broker, which `scripts/kafka` starts; without Java or Maven the tests say so and pass.

mod broker;
mod reading;
mod sending;
