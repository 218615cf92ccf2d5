//! Ways out of Herald: Firetext, MMG and SES.
