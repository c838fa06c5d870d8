//! The key of a listener, and how both sides show that they know it without saying it.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{fmt, io};
use subtle::ConstantTimeEq;

/// A secret that a [`Listener`](crate::Listener) and its clients share.
///
/// Both sides prove that they know it (HMAC-SHA-256 over fresh random numbers of both), and it never crosses the socket. It is a serde
/// value, so that it can be passed to a child. Any length does, also zero; what people can remember, programs can guess:
/// prefer [`Key::random`].
#[derive(Clone, Serialize, Deserialize)]
#[doc(alias = "authkey")]
pub struct Key(Vec<u8>);

impl Key {
    /// The key with these bytes.
    #[must_use]
    pub fn new(bytes: impl AsRef<[u8]>) -> Key {
        Key(bytes.as_ref().to_vec())
    }

    /// A key of 32 random bytes.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn random() -> io::Result<Key> {
        Ok(Key(random::<32>()?.to_vec()))
    }

    /// What `role` says to prove that it knows the key.
    pub(crate) fn proof(&self, role: Role, nonces: &Nonces) -> [u8; PROOF] {
        // HMAC takes keys of any length; this cannot fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length of key");
        mac.update(role.label());
        mac.update(&nonces.client);
        mac.update(&nonces.server);
        mac.finalize().into_bytes().into()
    }

    /// Whether `proof` is what `role` would say. Takes the same time wherever it differs.
    pub(crate) fn verify(&self, role: Role, nonces: &Nonces, proof: &[u8; PROOF]) -> bool {
        self.proof(role, nonces).ct_eq(proof).into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Bytes of a proof.
pub(crate) const PROOF: usize = 32;
/// Bytes of a random number.
pub(crate) const NONCE: usize = 32;

/// Who proves: in the text under the code, so that nobody can send a proof back to where it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Client,
    Server,
}

impl Role {
    const fn label(self) -> &'static [u8] {
        match self {
            Role::Client => b"mp-pipe listener 1: client",
            Role::Server => b"mp-pipe listener 1: server",
        }
    }
}

/// The random numbers of one handshake: an old proof fits no new one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nonces {
    pub(crate) client: [u8; NONCE],
    pub(crate) server: [u8; NONCE],
}

pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("random numbers: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_fits_its_key_role_and_nonces_alone() {
        let nonces = Nonces { client: [1; NONCE], server: [2; NONCE] };
        let key = Key::new("secret");
        let proof = key.proof(Role::Client, &nonces);
        assert!(key.verify(Role::Client, &nonces, &proof));
        assert!(!key.verify(Role::Server, &nonces, &proof));
        assert!(!Key::new("Secret").verify(Role::Client, &nonces, &proof));
        assert!(!key.verify(Role::Client, &Nonces { client: [2; NONCE], ..nonces }, &proof));
        assert!(!key.verify(Role::Client, &Nonces { server: [1; NONCE], ..nonces }, &proof));
        let empty = Key::new("");
        assert!(empty.verify(Role::Client, &nonces, &empty.proof(Role::Client, &nonces)));
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", Key::new("secret")), "Key(..)");
    }
}
