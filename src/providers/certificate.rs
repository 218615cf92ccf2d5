//! Why a server's certificate was not trusted, so that nothing was said to it. Handshakes come before requests, and
//! certificates do not mend themselves: it never left, and somebody has to act.

use std::error::Error;
use std::io;

use rustls::CertificateError;

const EXPIRED: &str = "Request failed: its certificate has expired";
const NOT_YET_VALID: &str = "Request failed: its certificate is not valid yet";
const NOT_TRUSTED: &str = "Request failed: its certificate is not trusted";

/// Whether a reason is one of those that [`distrusted`] gives.
pub(crate) fn is_distrust(reason: &str) -> bool {
    [EXPIRED, NOT_YET_VALID, NOT_TRUSTED].contains(&reason)
}

/// The reason, if this error is or comes of a refused certificate.
pub(crate) fn distrusted(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(in_words(why));
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // Its own source would be that of what it wraps: the wrapped error itself is left out.
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn in_words(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => EXPIRED,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => NOT_YET_VALID,
        _ => NOT_TRUSTED,
    }
}
