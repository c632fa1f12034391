//! Signatures of requests, as Standard Webhooks 1.0.0 has them: `v1`, HMAC-SHA256.
//!
//! What is signed is `ID.TIMESTAMP.BODY`, the bytes of the body as sent. Each secret gives a signature; all stand in one header,
//! separated by spaces, so that receivers go on while a secret is replaced.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a key, by the specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that signs.
#[derive(Clone)]
pub(super) struct Key(Vec<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Reads a secret. The error says what is wrong without quoting it.
    pub fn read(secret: &str) -> Result<Key, String> {
        let encoded = secret.trim().strip_prefix(PREFIX).ok_or("it does not begin with `whsec_`")?;
        let key = STANDARD.decode(encoded).map_err(|_| "what follows `whsec_` is not base64")?;
        match KEY_BYTES.contains(&key.len()) {
            true => Ok(Key(key)),
            false => Err(format!("it has {} bytes, not 24 to 64", key.len())),
        }
    }

    fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Returns the header of a request; `timestamp` is in seconds.
pub(super) fn header(keys: &[Key], id: &str, timestamp: u64, body: &[u8]) -> String {
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(id, timestamp, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        let key = Key::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = header(&[key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn all_keys_sign_while_they_rotate() {
        let old = Key::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let new = Key::read("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let both = header(&[new.clone(), old.clone()], "id", 1, b"body");
        assert_eq!(both, [header(&[new], "id", 1, b"body"), header(&[old], "id", 1, b"body")].join(" "));
    }

    #[test]
    fn what_is_no_secret_is_refused_without_quoting_it() {
        for (secret, reason) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "it does not begin with `whsec_`"),
            ("whsec_???", "what follows `whsec_` is not base64"),
            ("whsec_c2hvcnQ=", "it has 5 bytes, not 24 to 64"),
        ] {
            assert_eq!(Key::read(secret).err().as_deref(), Some(reason));
        }
    }
}
