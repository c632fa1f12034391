//! The other processes of a job: requests that are passed on to one of them, and answers that are gathered from all.

pub(crate) mod forward;
pub(crate) mod gather;

/// Returns the builder of an HTTP client for the API of this or another process. It uses no proxy.
pub fn http_client() -> reqwest::ClientBuilder {
    // The client wants a provider of TLS even where it speaks plain HTTP. A second installation changes nothing.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy()
}
