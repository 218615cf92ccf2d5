//! Rows from acceptance to the provider's yes.

use herald_message::status::Status;
use herald_store::{
    Error,
    notifications::{self, Filter, NewNotification},
    sealed::context,
};
use uuid::Uuid;

use super::{
    LIVE,
    rows::{email, sent, text},
    sealer, with_golden_fixture,
};

#[tokio::test]
async fn a_batch_inserted_twice_is_there_once_and_in_order() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let ids: Vec<Uuid> = (0..300).map(|_| Uuid::new_v4()).collect();
    let rows: Vec<NewNotification> = ids.iter().map(|id| text(*id)).collect();
    assert_eq!(notifications::insert(conn, &rows[..200]).await.unwrap(), 200);
    assert_eq!(notifications::insert(conn, &rows).await.unwrap(), 100);
    assert_eq!(
        notifications::insert(conn, &rows.iter().collect::<Vec<_>>())
            .await
            .unwrap(),
        0
    );
    let page = notifications::list(
        conn,
        LIVE,
        &Filter {
            limit: 400,
            ..Filter::default()
        },
    )
    .await
    .unwrap();
    assert!(
        page.iter().rev().map(|n| n.id).eq(ids.iter().copied()),
        "oldest first, as accepted"
    );
    assert!(
        page.is_sorted_by(|a, b| a.created_at > b.created_at),
        "no two at one instant"
    );

    let read = notifications::to_send(conn, &[ids[0], Uuid::new_v4()]).await.unwrap();
    let [one] = read.as_slice() else {
        panic!("{} rows", read.len())
    };
    assert_eq!(
        (one.status, one.to.as_str(), one.prefix_sms),
        (Status::Created, "07411 000001", false)
    );
    assert_eq!(
        (one.service_name.as_str(), one.template_content.as_str()),
        ("Golden Live", "Your appointment is confirmed")
    );
    let opened = sealer()
        .open(context::PERSONALISATION, one.personalisation.as_ref().unwrap())
        .unwrap();
    assert_eq!(opened, r#"{"name":"Ann"}"#);
    assert!(
        !format!("{one:?} {:?}", rows[0]).contains("07411"),
        "debug output holds no number"
    );
}

#[tokio::test]
async fn only_a_created_row_becomes_sending_and_an_email_is_found_by_its_reference() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
    notifications::insert(conn, &[text(a), email(b)]).await.unwrap();
    let batch = [sent(a, None), sent(b, Some("ses-1")), sent(Uuid::new_v4(), None)];
    let marked = notifications::mark_sending(conn, &batch).await.unwrap();
    assert!(
        marked
            .iter()
            .all(|marked| marked.waited_ms.is_some_and(|waited| waited >= 0))
    );
    let mut changed: Vec<Uuid> = marked.iter().map(|marked| marked.id).collect();
    changed.sort_unstable();
    let mut both = vec![a, b];
    both.sort_unstable();
    assert_eq!(changed, both);
    assert!(
        notifications::mark_sending(conn, &batch).await.unwrap().is_empty(),
        "a second send changes nothing"
    );
    let view = notifications::get(conn, LIVE, a).await.unwrap().unwrap();
    assert_eq!(
        (view.status, view.sent_by.as_deref(), view.billable_units),
        (Status::Sending, Some("mmg"), 1)
    );
    assert!(view.sent_at.is_some() && view.created_at <= view.sent_at.unwrap());
    assert!(
        notifications::get(conn, Uuid::nil(), a).await.unwrap().is_none(),
        "it is another service's"
    );
    let found = notifications::id_by_reference(conn, &["ses-1".into(), "ses-2".into()])
        .await
        .unwrap();
    assert_eq!(found, [("ses-1".to_owned(), b)]);
}

#[tokio::test]
async fn a_text_that_cannot_be_stored_is_found_before_it_spoils_a_batch() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let odd = NewNotification {
        client_reference: Some("a\0b".into()),
        ..text(Uuid::new_v4())
    };
    assert!(matches!(odd.check(), Err(Error::Invalid(_))));
    assert!(matches!(
        notifications::insert(conn, &[odd]).await,
        Err(Error::Refused(_))
    ));
    assert!(text(Uuid::new_v4()).check().is_ok());
}

/// An update that changes no indexed column stays in its page and writes no index: the reason for the table's fill
/// factor and few indexes. What share of updates that comes to is measured in the migration's comment.
#[tokio::test]
async fn no_index_holds_what_a_change_of_status_changes() {
    let pool = crate::harness::database().await;
    let indexed: Vec<String> = sqlx::query_scalar(
        "select pg_get_indexdef(indexrelid) from pg_index where indrelid = 'notifications'::regclass",
    )
    .fetch_all(&*pool)
    .await
    .unwrap();
    assert!(indexed.len() > 1, "{indexed:?}");
    for column in [
        "notification_status",
        "updated_at",
        "sent_at",
        "sent_by",
        "billable_units",
    ] {
        assert!(
            !indexed.iter().any(|index| index.contains(column)),
            "{column}: {indexed:?}"
        );
    }
}
