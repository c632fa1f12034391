//! How membership is kept.
