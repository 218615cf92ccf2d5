//! What the service does. Each story is a file; this page is the table of contents.
//!
//! | workflow | story |
//! |---|---|
//! | [`deliver_sms`] | sends one text and follows it until it is settled |
//! | [`deliver_email`] | sends one email and follows it until it is settled |
//! | [`settle_receipt`] | applies a receipt that no delivery waits for |
//! | [`find_email`] | finds the email that a receipt of SES is about |
//! | [`record_complaint`] | records that a recipient complained about an email, and has its service told |
//! | [`call_service`] | tells a service, one event after the other, what happened |
//! | [`switch_providers`] | moves texts away from a slow provider, and back |
//! | [`time_out_sending`] | settles what nobody follows any more after three days |
//! | [`keep_house`] | prepares the engine's tables for the days ahead |
//!
//! [`accept`], [`receipts`], [`received`] and [`callbacks`] are the ways in, [`schedule`] is what happens by the clock;
//! [`effects`] what stories change in our tables; [`tools`] the outside world as stories see it; [`switching`] the rules by
//! which texts move between providers; [`measures`] what is measured.

pub mod accept;
pub mod call_service;
pub mod callbacks;
pub mod deliver_email;
pub mod deliver_sms;
mod effects;
pub mod find_email;
mod follow;
pub mod keep_house;
pub mod measures;
pub mod queues;
pub mod receipts;
pub mod received;
pub mod record_complaint;
mod research;
pub mod retry;
pub mod schedule;
pub mod settle_receipt;
pub mod switch_providers;
pub mod switching;
pub mod time_out_sending;
pub mod tools;

use herald_engine::Registry;

pub use tools::Tools;

/// Every workflow that a worker can play.
pub fn registry(tools: Tools) -> Registry<Tools> {
    Registry::new(tools)
        .add::<deliver_sms::DeliverSms>()
        .add::<deliver_email::DeliverEmail>()
        .add::<settle_receipt::SettleReceipt>()
        .add::<find_email::FindEmail>()
        .add::<record_complaint::RecordComplaint>()
        .add::<call_service::CallService>()
        .add::<keep_house::KeepHouse>()
        .add::<switch_providers::SwitchProviders>()
        .add::<time_out_sending::TimeOutSending>()
}
