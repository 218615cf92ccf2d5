//! Who gets a message: the form of numbers and addresses, and whom a key and a service may write to.

use herald_message::{
    email_address::EmailAddress,
    phone::{self, NotAllowed, Permissions, PhoneError, PhoneNumber},
};
use herald_store::KeyType;

use crate::{App, Error, auth::Caller, cache::TeamAndGuests};

const SIMULATED_NUMBERS: [&str; 3] = ["447700900000", "447700900111", "447700900222"];

const SIMULATED_ADDRESSES: [&str; 3] = [
    "simulate-delivered@notifications.service.gov.uk",
    "simulate-delivered-2@notifications.service.gov.uk",
    "simulate-delivered-3@notifications.service.gov.uk",
];

/// A number that is well formed, whatever a service may do.
#[derive(Debug)]
pub struct TypedNumber {
    /// Without the space around it.
    pub text: String,
    pub number: PhoneNumber,
}

/// Reads the number of a request.
pub fn read_phone_number(text: &str) -> Result<TypedNumber, PhoneError> {
    Ok(TypedNumber {
        number: phone::parse(text)?,
        text: text.trim().to_owned(),
    })
}

/// Numbers that are answered as any other, but nothing is stored or sent.
pub fn is_simulated_number(number: &PhoneNumber) -> bool {
    SIMULATED_NUMBERS.contains(&number.normalised.as_str())
}

/// Addresses that are answered as any other, but nothing is stored or sent.
pub fn is_simulated_address(address: &EmailAddress) -> bool {
    SIMULATED_ADDRESSES.contains(&address.normalised.as_str())
}

/// # Errors
/// When this key of this service may not send to that number.
pub async fn check_number(app: &App, caller: &Caller, number: &PhoneNumber) -> Result<(), Error> {
    check_known(app, caller, |known| known.phone_numbers.contains(&number.normalised)).await?;
    let permissions = Permissions {
        international: caller.may("international_sms"),
        landline: caller.may("sms_to_uk_landlines"),
    };
    number.allowed(permissions).map_err(|refusal| match refusal {
        NotAllowed::NotAUkMobile => Error::InvalidPhone(refusal.to_string()),
        NotAllowed::InternationalForbidden => Error::bad_request(refusal.to_string()),
    })
}

/// # Errors
/// When this key of this service may not send to that address.
pub async fn check_address(app: &App, caller: &Caller, address: &EmailAddress) -> Result<(), Error> {
    check_known(app, caller, |known| known.email_addresses.contains(&address.normalised)).await
}

/// A test key sends to anybody (and nobody gets it), a team key and a service in trial mode to those they know.
async fn check_known(app: &App, caller: &Caller, knows: impl FnOnce(&TeamAndGuests) -> bool) -> Result<(), Error> {
    let service = caller.service();
    let refusal = match caller.key_type {
        KeyType::Test => return Ok(()),
        KeyType::Team => "Can’t send to this recipient using a team-only API key",
        KeyType::Normal if service.restricted => {
            "Can’t send to this recipient when service is in trial mode – see https://www.notifications.service.gov.uk/trial-mode"
        }
        KeyType::Normal => return Ok(()),
    };
    let known = app.cache.team_and_guests(service.id).await?;
    if knows(&known) {
        Ok(())
    } else {
        Err(Error::bad_request(refusal))
    }
}
