//! What a text costs, over time.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::PgConnection;

use crate::Result;

/// Pounds for one fragment on a London day: the newest rate that was valid when that day began. `None` before the
/// first one.
pub async fn sms_rate(conn: &mut PgConnection, day: NaiveDate) -> Result<Option<Decimal>> {
    Ok(sqlx::query_scalar!(
        "select rate from rates
         where notification_type = 'sms'
             and valid_from <= ($1::date::timestamp at time zone 'Europe/London') at time zone 'utc'
         order by valid_from desc limit 1",
        day,
    )
    .fetch_optional(conn)
    .await?)
}
