//! Pure rules of messages: who may receive one, what it says, and how long it is. No I/O, no clock.

pub mod callback;
pub mod email;
pub mod email_address;
pub mod html;
pub mod inbound;
pub mod markdown;
pub mod personalisation;
pub mod phone;
pub mod python;
pub mod receipt;
pub mod sms;
pub mod status;
pub mod template;
mod text;
pub mod typography;
