//! What the program was built from: version, commit, features, and the version of librdkafka.

use std::sync::LazyLock;
use usher_connectors::kafka::librdkafka_version;
use usher_serve::Build;

/// Returns what the program was built from. The commit is known of releases, which `build.rs` looks up.
pub fn build() -> Build {
    let features = [("tls", cfg!(feature = "tls")), ("tls-vendored", cfg!(feature = "tls-vendored"))];
    let features: Vec<&str> = features.into_iter().filter(|(_, is_in)| *is_in).map(|(name, _)| name).collect();
    Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("USHER_COMMIT").to_owned(),
        features: features.join(","),
        librdkafka: librdkafka_version(),
    }
}

/// Returns what `--version` prints behind the name.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let Build { version, commit, features, librdkafka } = build();
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        format!(
            "{version}\ncommit: {}\nfeatures: {}\nlibrdkafka: {librdkafka}",
            or(commit, "not known: built for development"),
            or(features, "none")
        )
    });
    &TEXT
}
