//! What requests read.

use herald_message::status::Status;
use herald_store::{
    Error, KeyType, NotificationType,
    notifications::{self, Filter},
    providers, rates, received, recipients,
    sealed::{Key, Sealer, context},
    senders, services, templates,
};
use sqlx::PgConnection;
use uuid::{Uuid, uuid};

use super::{LIVE, sealer, with_golden_fixture};

const REVOKED: Uuid = uuid!("f02f456a-a006-4b3f-8e7e-0b266c647ef3");
const LIST: Uuid = uuid!("705048e7-8dfd-49ed-929f-a5fd0313dd37");
const INBOUND: Uuid = uuid!("01108a1e-86d2-4f78-b69b-7eb152477c39");
const VERSIONED: Uuid = uuid!("74f365ad-9d8e-4efa-9538-fdb8e0440557");

#[tokio::test]
async fn a_service_is_read_with_its_permissions_and_usable_keys() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let live = services::for_requests(conn, LIVE, &sealer()).await.unwrap().unwrap();
    assert_eq!(
        (live.name.as_str(), live.active, live.restricted),
        ("Golden Live", true, false)
    );
    assert_eq!(live.permissions, ["sms", "email", "letter"].map(str::to_owned).into());
    let keys: Vec<_> = live.keys.iter().map(|key| (key.name.as_str(), key.key_type)).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.contains(&("live.team", KeyType::Team)));
    assert!(
        live.keys
            .iter()
            .any(|key| key.secret == "827f0c7a-8d25-48e0-95ce-91cb4583bc60")
    );

    // Two keys were revoked two days ago, the third so long ago that it is forgotten.
    let revoked = services::for_requests(conn, REVOKED, &sealer()).await.unwrap().unwrap();
    assert_eq!(revoked.keys.len(), 2);
    assert!(revoked.keys.iter().all(|key| key.expires.is_some()));

    assert!(
        services::for_requests(conn, Uuid::nil(), &sealer())
            .await
            .unwrap()
            .is_none()
    );
    let stranger = Sealer::new(Key::new("other", &[1; 32]).unwrap(), Vec::new());
    assert!(matches!(
        services::for_requests(conn, LIVE, &stranger).await,
        Err(Error::Corrupt(_))
    ));
}

#[tokio::test]
async fn templates_senders_and_recipients_are_read_as_a_request_needs_them() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let latest = templates::latest(conn, LIVE, VERSIONED).await.unwrap().unwrap();
    assert_eq!((latest.version, latest.content.as_str()), (2, "Second wording ((b))"));
    assert_eq!(latest.created_by, "golden.author@example.gov.uk");
    let first = templates::version(conn, LIVE, VERSIONED, 1).await.unwrap().unwrap();
    assert_eq!((first.name.as_str(), first.updated_at), ("Versioned", None));
    assert!(templates::version(conn, LIVE, VERSIONED, 3).await.unwrap().is_none());
    assert!(
        templates::latest(conn, LIST, VERSIONED).await.unwrap().is_none(),
        "it is another service's"
    );
    let texts = templates::all(conn, LIVE, Some(NotificationType::Sms)).await.unwrap();
    let names: Vec<_> = texts.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "A only field",
            "Plain text message",
            "Text with fields",
            "Versioned two",
            "conditional",
            "welsh sms"
        ]
    );
    assert!(templates::all(conn, LIVE, None).await.unwrap().len() > texts.len());

    assert_eq!(
        senders::sms_default(conn, LIVE).await.unwrap().as_deref(),
        Some("GOVUK")
    );
    let other = uuid!("7717a8d3-877d-4902-8a6b-fac94abb6aa1");
    assert_eq!(
        senders::sms(conn, LIVE, other).await.unwrap().as_deref(),
        Some("GoldenAlt")
    );
    assert_eq!(senders::sms(conn, LIST, other).await.unwrap(), None);
    let archived = uuid!("a67e8782-33ec-4900-aa5c-0a6541c4d10c");
    assert_eq!(senders::sms(conn, LIVE, archived).await.unwrap(), None);
    assert_eq!(
        senders::reply_to_default(conn, LIVE).await.unwrap().as_deref(),
        Some("replies@example.gov.uk")
    );
    assert_eq!(senders::reply_to_default(conn, LIST).await.unwrap(), None);
    let second = uuid!("df09fa69-5935-42e1-bd21-aa2e314a3a36");
    assert_eq!(
        senders::reply_to(conn, LIVE, second).await.unwrap().as_deref(),
        Some("second@example.gov.uk")
    );

    let allowed = recipients::allowed(conn, LIVE).await.unwrap();
    assert_eq!((allowed.team.len(), allowed.guests.len()), (2, 3));

    let page = received::page(conn, INBOUND, None, 250).await.unwrap();
    let older = received::page(conn, INBOUND, Some(page[0].id), 250).await.unwrap();
    assert_eq!((page.len(), older.len()), (4, 3));
    assert_eq!(
        sealer().open(context::RECEIVED_TEXT, &page[0].content).unwrap(),
        "second\nline"
    );

    let firms = providers::active(conn, NotificationType::Sms).await.unwrap();
    let weights: Vec<_> = firms.iter().map(|p| (p.identifier.as_str(), p.priority)).collect();
    assert_eq!(weights, [("mmg", 51), ("firetext", 49)]);
    let rate = async |conn: &mut PgConnection, day: &str| rates::sms_rate(conn, day.parse().unwrap()).await.unwrap();
    assert_eq!(rate(conn, "2026-11-21").await.unwrap().to_string(), "0.024");
    assert_eq!(rate(conn, "2026-03-31").await.unwrap().to_string(), "0.0233");
    assert_eq!(
        rate(conn, "2026-04-01").await.unwrap().to_string(),
        "0.024",
        "from London midnight on"
    );
    assert_eq!(rate(conn, "2016-05-17").await, None);
}

#[tokio::test]
async fn lists_go_on_where_they_stopped() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let filter = Filter {
        key_type: Some(KeyType::Normal),
        limit: 250,
        ..Filter::default()
    };
    let all = notifications::list(conn, LIST, &filter).await.unwrap();
    assert!(all.is_sorted_by(|a, b| a.created_at > b.created_at) && all.iter().all(|n| n.job_id.is_none()));
    let mut walked = Vec::new();
    let mut page = Filter {
        limit: 3,
        ..filter.clone()
    };
    loop {
        let rows = notifications::list(conn, LIST, &page).await.unwrap();
        let Some(last) = rows.last() else { break };
        page.older_than = Some(last.id);
        walked.extend(rows.iter().map(|n| n.id));
    }
    assert_eq!(walked, all.iter().map(|n| n.id).collect::<Vec<_>>());
    let by_reference = Filter {
        client_reference: Some("ref-one".into()),
        ..filter.clone()
    };
    let found = notifications::list(conn, LIST, &by_reference).await.unwrap();
    assert!(!found.is_empty() && found.iter().all(|n| n.client_reference.as_deref() == Some("ref-one")));
    let failed = Filter {
        statuses: vec![Status::PermanentFailure, Status::Sent],
        ..filter.clone()
    };
    assert_eq!(notifications::list(conn, LIST, &failed).await.unwrap().len(), 2);
    let emails = Filter {
        notification_types: vec![NotificationType::Email],
        include_jobs: true,
        ..filter
    };
    assert!(
        notifications::list(conn, LIST, &emails)
            .await
            .unwrap()
            .iter()
            .all(|n| n.template_subject.is_some())
    );
    let strange = Filter {
        older_than: Some(Uuid::nil()),
        limit: 250,
        ..Filter::default()
    };
    assert!(notifications::list(conn, LIST, &strange).await.unwrap().is_empty());
}
