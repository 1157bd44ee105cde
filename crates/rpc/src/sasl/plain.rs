//! The PLAIN message: `authzid NUL user NUL password`.
//!
//! Source: RFC 4616.

use crate::channels::MAX_USER_BYTES;

/// What PLAIN says. The password is not kept: SIMPLE has none, clients send a fixed word.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Plain {
    /// Who to act as; None if empty.
    pub(super) authzid: Option<String>,
    pub(super) user: String,
}

#[derive(thiserror::Error, PartialEq, Eq, Debug)]
pub(super) enum BadPlain {
    #[error("the handshake's message must have three parts with NUL between them: whom to act for, user, password")]
    Parts,
    #[error("the user name is not UTF-8")]
    Text,
    #[error("{0}")]
    User(&'static str),
}

impl Plain {
    pub(super) fn parse(bytes: &[u8]) -> Result<Plain, BadPlain> {
        let parts: Vec<&[u8]> = bytes.splitn(4, |byte| *byte == 0).collect();
        let [authzid, user, _password] = parts[..] else { return Err(BadPlain::Parts) };
        let name = |bytes| -> Result<String, BadPlain> {
            let text = std::str::from_utf8(bytes).map_err(|_| BadPlain::Text)?;
            check_user(text).map_err(BadPlain::User)?;
            Ok(text.to_owned())
        };
        let authzid = if authzid.is_empty() { None } else { Some(name(authzid)?) };
        Ok(Plain { authzid, user: name(user)? })
    }
}

/// Whether `user` can be a user's name, on either side of a handshake. The error completes "the name cannot be used: …".
pub(crate) fn check_user(user: &str) -> Result<(), &'static str> {
    if user.is_empty() {
        Err("the user name is empty; set goosefs.security.login.username or the variable USER")
    } else if user.len() > MAX_USER_BYTES {
        Err("the user name is longer than 256 bytes")
    } else if user.chars().any(char::is_control) {
        Err("the user name holds a control character")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(authzid: Option<&str>, user: &str) -> Result<Plain, BadPlain> {
        Ok(Plain { authzid: authzid.map(str::to_owned), user: user.to_owned() })
    }

    #[test]
    fn three_parts_and_a_name() {
        assert_eq!(Plain::parse(b"\0ann\0noPassword"), plain(None, "ann"));
        assert_eq!(Plain::parse(b"bob\0ann\0"), plain(Some("bob"), "ann"));
        assert_eq!(Plain::parse("\0jürgen\0x".as_bytes()), plain(None, "jürgen"));
        assert_eq!(Plain::parse(b""), Err(BadPlain::Parts));
        assert_eq!(Plain::parse(b"\0ann"), Err(BadPlain::Parts));
        assert_eq!(Plain::parse(b"\0ann\0x\0y"), Err(BadPlain::Parts));
        assert_eq!(Plain::parse(b"\0\xff\0x"), Err(BadPlain::Text));
        assert!(matches!(Plain::parse(b"\0\0x"), Err(BadPlain::User(_))));
        assert!(matches!(Plain::parse(b"\0a\nb\0x"), Err(BadPlain::User(_))));
        let long = [b"\0".as_slice(), &[b'u'; 257], b"\0x"].concat();
        assert!(matches!(Plain::parse(&long), Err(BadPlain::User(_))));
    }

    #[test]
    fn fuzz_plain() {
        let samples = [b"\0ann\0noPassword".to_vec(), b"bob\0ann\0".to_vec(), "\0j\u{fc}rgen\0x".as_bytes().to_vec()];
        testkit::fuzz::fuzz("plain", &samples, |bytes| {
            let Ok(Plain { authzid, user }) = Plain::parse(bytes) else { return };
            let whole = |name: &str| check_user(name).is_ok() && !name.contains('\0');
            assert!(whole(&user) && authzid.as_deref().is_none_or(whole));
        });
    }
}
