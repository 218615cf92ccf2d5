//! Rows and changes for the tests beside.

use herald_message::{
    receipt::{Provider, Receipt},
    status::Status,
};
use herald_store::{
    KeyType, NotificationType,
    notifications::{self, NewNotification, Sent, Settled, Settlement},
    sealed::context,
};
use sqlx::{Connection, PgConnection};
use uuid::{Uuid, uuid};

use super::{LIVE, sealer};

const TEXT: Uuid = uuid!("b46d9e0f-f41e-4da8-a7d3-eb2e6fd96e6c");
const EMAIL: Uuid = uuid!("6910ee1e-1a5b-4712-8464-e03363ebd09d");

pub(super) fn text(id: Uuid) -> NewNotification {
    NewNotification {
        id,
        service_id: LIVE,
        template_id: TEXT,
        template_version: 1,
        notification_type: NotificationType::Sms,
        key_type: KeyType::Normal,
        api_key_id: None,
        created_by_id: None,
        job_id: None,
        job_row_number: None,
        status: Status::Created,
        to: "07411 000001".into(),
        normalised_to: Some("447411000001".into()),
        personalisation: Some(sealer().seal(context::PERSONALISATION, r#"{"name":"Ann"}"#)),
        client_reference: None,
        reference: None,
        reply_to_text: Some("GOVUK".into()),
        international: false,
        phone_prefix: Some("44".into()),
        rate_multiplier: Some(1),
        billable_units: 0,
        postage: None,
        document_download_count: None,
        unsubscribe_link: None,
        scheduled_for: None,
    }
}

pub(super) fn email(id: Uuid) -> NewNotification {
    NewNotification {
        template_id: EMAIL,
        notification_type: NotificationType::Email,
        to: "a@example.com".into(),
        normalised_to: Some("a@example.com".into()),
        phone_prefix: None,
        rate_multiplier: None,
        ..text(id)
    }
}

pub(super) fn sent(id: Uuid, reference: Option<&str>) -> Sent {
    Sent {
        id,
        sent_by: "mmg".into(),
        status: Status::Sending,
        billable_units: 1,
        reference: reference.map(str::to_owned),
    }
}

pub(super) fn receipt(id: Uuid, provider: Provider, status: Option<Status>) -> Settlement {
    let receipt = Receipt {
        provider,
        status,
        raw_status: "3".into(),
        detailed_code: None,
        at: None,
    };
    Settlement {
        id,
        receipt,
        billable_units: None,
    }
}

/// Settles as the system does: in a transaction.
pub(super) async fn settle(conn: &mut PgConnection, settlements: &[Settlement]) -> Vec<Settled> {
    let mut transaction = conn.begin().await.unwrap();
    let settled = notifications::settle(&mut transaction, settlements).await.unwrap();
    transaction.commit().await.unwrap();
    settled
}

pub(super) async fn status_of(conn: &mut PgConnection, id: Uuid) -> Status {
    notifications::get(conn, LIVE, id).await.unwrap().unwrap().status
}
