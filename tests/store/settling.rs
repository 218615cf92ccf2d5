//! The moves that a receipt or a lack of one may make, and those that it may not.

use herald_message::{receipt::Provider, status::Status};
use herald_store::{
    Error,
    notifications::{self, NewNotification, Sent, Settlement},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    LIVE, golden,
    rows::{receipt, sent, settle, status_of, text},
    with_golden_fixture,
};

#[tokio::test]
async fn no_receipt_moves_a_completed_notification() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    for from in Status::ALL
        .into_iter()
        .filter(|s| s.is_completed() && !s.accepts_receipt())
    {
        for to in Status::ALL.into_iter().map(Some).chain([None]) {
            let id = Uuid::new_v4();
            notifications::insert(
                conn,
                &[NewNotification {
                    status: from,
                    ..text(id)
                }],
            )
            .await
            .unwrap();
            for provider in [Provider::Mmg, Provider::Firetext, Provider::Ses] {
                assert!(settle(conn, &[receipt(id, provider, to)]).await.is_empty());
            }
            let given_up = [(id, Status::TechnicalFailure)];
            assert!(notifications::fail(conn, &given_up).await.unwrap().is_empty());
            let view = notifications::get(conn, LIVE, id).await.unwrap().unwrap();
            assert_eq!((view.status, view.updated_at, view.sent_by), (from, None, None));
        }
    }
}

#[tokio::test]
async fn receipts_of_one_batch_count_in_their_order() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let [a, b, c] = [(); 3].map(|()| Uuid::new_v4());
    notifications::insert(conn, &[text(a), text(b), text(c)]).await.unwrap();
    let (pending, permanent) = (Some(Status::Pending), Some(Status::PermanentFailure));
    let batch = [
        receipt(c, Provider::Mmg, Some(Status::Delivered)),
        receipt(a, Provider::Mmg, pending),
        receipt(b, Provider::Mmg, permanent),
        receipt(Uuid::new_v4(), Provider::Mmg, permanent),
        receipt(a, Provider::Mmg, permanent),
        receipt(c, Provider::Mmg, permanent),
        Settlement {
            billable_units: Some(2),
            ..receipt(b, Provider::Mmg, Some(Status::Delivered))
        },
    ];
    let settled = settle(conn, &batch).await;
    let of = |id| {
        settled
            .iter()
            .find(|s| s.id == id)
            .map(|s| (s.was, s.status, s.service_id))
    };
    assert_eq!(settled.len(), 3);
    assert_eq!(
        of(a),
        Some((Status::Created, Status::TemporaryFailure, LIVE)),
        "it was pending, then failed"
    );
    assert_eq!(of(b), Some((Status::Created, Status::PermanentFailure, LIVE)));
    assert_eq!(of(c), Some((Status::Created, Status::Delivered, LIVE)));
    let view = notifications::get(conn, LIVE, c).await.unwrap().unwrap();
    assert_eq!((view.status, view.sent_by.as_deref()), (Status::Delivered, Some("mmg")));
    let counts = notifications::count_by_status(conn).await.unwrap();
    let rows = golden()["notifications"].as_array().unwrap().len() + 3;
    assert_eq!(counts.iter().map(|(_, n)| *n).sum::<i64>(), rows as i64);
}

#[tokio::test]
async fn units_are_taken_from_a_receipt_only_where_there_are_none() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let (none, some) = (Uuid::new_v4(), Uuid::new_v4());
    notifications::insert(
        conn,
        &[
            text(none),
            NewNotification {
                billable_units: 1,
                ..text(some)
            },
        ],
    )
    .await
    .unwrap();
    let batch = [none, some].map(|id| Settlement {
        billable_units: Some(3),
        ..receipt(id, Provider::Mmg, Some(Status::Delivered))
    });
    assert_eq!(settle(conn, &batch).await.len(), 2);
    let units = async |conn: &mut PgConnection, id| {
        notifications::get(conn, LIVE, id)
            .await
            .unwrap()
            .unwrap()
            .billable_units
    };
    assert_eq!((units(conn, none).await, units(conn, some).await), (3, 1));
}

#[tokio::test]
async fn giving_up_is_for_what_is_under_way_and_only_as_a_failure() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let under_way = [Status::Created, Status::Sending, Status::Pending];
    for from in Status::ALL {
        let id = Uuid::new_v4();
        notifications::insert(
            conn,
            &[NewNotification {
                status: from,
                ..text(id)
            }],
        )
        .await
        .unwrap();
        let failed = notifications::fail(conn, &[(id, Status::TemporaryFailure)])
            .await
            .unwrap();
        if under_way.contains(&from) {
            assert_eq!((failed[0].was, failed[0].status), (from, Status::TemporaryFailure));
        } else {
            assert!(failed.is_empty(), "{from}");
            assert_eq!(status_of(conn, id).await, from);
        }
    }
    let refused = notifications::fail(conn, &[(Uuid::new_v4(), Status::Delivered)]).await;
    assert!(matches!(refused, Err(Error::Invalid(_))));
}

/// Two transactions over the same rows, in opposite orders, end one after the other instead of in a deadlock.
#[tokio::test]
async fn batches_lock_rows_in_one_order() {
    let pool = with_golden_fixture().await;
    let ids: Vec<Uuid> = (0..200).map(|_| Uuid::new_v4()).collect();
    let rows: Vec<NewNotification> = ids.iter().map(|id| text(*id)).collect();
    notifications::insert(&mut pool.acquire().await.unwrap(), &rows)
        .await
        .unwrap();
    let mark = async |ids: Vec<Uuid>| {
        let batch: Vec<Sent> = ids.into_iter().map(|id| sent(id, None)).collect();
        notifications::mark_sending(&mut pool.acquire().await.unwrap(), &batch)
            .await
            .unwrap()
            .len()
    };
    let settle_all = async |ids: Vec<Uuid>| {
        let batch: Vec<_> = ids
            .into_iter()
            .map(|id| receipt(id, Provider::Mmg, Some(Status::Pending)))
            .collect();
        settle(&mut pool.acquire().await.unwrap(), &batch).await.len()
    };
    let backwards: Vec<Uuid> = ids.iter().rev().copied().collect();
    let (a, b, c, d) = tokio::join!(
        mark(ids.clone()),
        mark(backwards.clone()),
        settle_all(ids.clone()),
        settle_all(backwards)
    );
    assert!(a + b <= 200 && c == 200 && d == 200, "{a} {b} {c} {d}");
}
