//! Loading a file of users, services and messages.

use herald_store::{Error, fixture};
use serde_json::{Value, json};

use super::{everything, golden, sealer, with_golden_fixture};
use crate::harness;

#[tokio::test]
async fn a_fixture_loaded_twice_changes_nothing() {
    let pool = with_golden_fixture().await;
    let once = everything(&pool).await;
    let mut conn = pool.acquire().await.unwrap();
    fixture::load(&mut conn, &golden().to_string(), &sealer())
        .await
        .unwrap();
    assert!(once == everything(&pool).await, "the second load changed rows");
}

#[tokio::test]
async fn a_mistake_in_a_fixture_is_named_with_its_place_and_leaves_nothing_behind() {
    let pool = harness::database().await;
    let before = everything(&pool).await;
    let mut conn = pool.acquire().await.unwrap();
    let wrong = |path: &str, value: Value| {
        let mut fixture = golden();
        *fixture.pointer_mut(path).unwrap() = value;
        fixture.to_string()
    };
    for (file, place, hint) in [
        (
            wrong("/services/2/permissions/0", json!("fax")),
            "services[2].permissions[0]",
            "`international_sms`",
        ),
        (
            wrong("/services/1/keys/0", json!({ "labl": 1 })),
            "services[1].keys[0].labl",
            "expected one of `label`",
        ),
        (
            wrong("/services/0/team_members/1", json!("x@y.z")),
            "services[0].team_members[1]",
            "golden.author@",
        ),
        (
            wrong("/notifications/3/template", json!("list.x")),
            "notifications[3].template",
            "list.plain",
        ),
        (wrong("/users/0/id", json!("7")), "users[0].id", "UUID"),
    ] {
        let error = fixture::load(&mut conn, &file, &sealer()).await.unwrap_err();
        let told = error.to_string();
        assert!(
            matches!(error, Error::Invalid(_)) && told.starts_with(place) && told.contains(hint),
            "{told}"
        );
    }
    // A clash that only the database sees: two services of one name.
    let clash = wrong("/services/1/name", golden()["services"][0]["name"].clone());
    let error = fixture::load(&mut conn, &clash, &sealer()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict(name) if name == "services_name_key"),
        "{error}"
    );
    assert!(before == everything(&pool).await);
}
