//! Whether this process is alive, and whether it can do its work.

use std::{future::Future, sync::Arc, time::Duration};

use herald_store::{providers, services};
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Query};
use serde::Serialize;

use crate::{App, Error, Tag, error::OtherError, payload::Answer};

/// How long the database may take to answer before the service counts as unavailable.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which build this is.
#[derive(Debug, Clone, Default)]
pub struct Build {
    pub git_commit: String,
    /// Of the commit, unless whoever builds says otherwise: one commit makes one program.
    pub build_time: String,
}

pub struct Status;

#[OpenApi(tag = "Tag::Status")]
impl Status {
    /// Is the service well?
    ///
    /// With `?simple` it says only that this process is alive, without a look at the database: a load balancer
    /// that asks a busy database would take down instances that are only waiting.
    #[oai(path = "/_status", method = "get", operation_id = "getStatus")]
    async fn get_status(
        &self,
        app: Data<&Arc<App>>,
        /// Whatever it is, the database is not asked.
        simple: Query<Option<String>>,
    ) -> Result<StatusAnswer, OtherError> {
        answer(&app, simple.0).await
    }

    #[oai(path = "/_status", method = "post", operation_id = "postStatus", hidden)]
    async fn post_status(
        &self,
        app: Data<&Arc<App>>,
        simple: Query<Option<String>>,
    ) -> Result<StatusAnswer, OtherError> {
        answer(&app, simple.0).await
    }

    /// How many services are live
    ///
    /// And how many organisations have one that is.
    #[oai(
        path = "/_status/live-service-and-organisation-counts",
        method = "get",
        operation_id = "getLiveCounts"
    )]
    async fn live_counts(&self, app: Data<&Arc<App>>) -> Result<LiveAnswer, OtherError> {
        let counts = in_time(async {
            let mut connection = app.pool.acquire().await?;
            services::live_counts(&mut connection).await.map_err(Error::from)
        });
        let services::LiveCounts {
            services,
            organisations,
        } = counts.await?;
        Ok(LiveAnswer::Ok(Answer(LiveCounts {
            organisations,
            services,
        })))
    }

    #[oai(path = "/", method = "get", operation_id = "getRoot", hidden)]
    async fn root(&self, app: Data<&Arc<App>>, simple: Query<Option<String>>) -> Result<StatusAnswer, OtherError> {
        answer(&app, simple.0).await
    }
}

async fn answer(app: &App, simple: Option<String>) -> Result<StatusAnswer, OtherError> {
    if simple.is_some() {
        return Ok(StatusAnswer::Ok(Answer(StatusReport {
            status: "ok".to_owned(),
            ..StatusReport::default()
        })));
    }
    let asked = in_time(async {
        let mut connection = app.pool.acquire().await?;
        let version = herald_store::schema_version(&mut connection).await?;
        let alerts = providers::failing_channels(&mut connection).await?;
        Ok((version, alerts))
    });
    let (version, alerts) = asked.await?;
    let version = version.map(|version| version.to_string());
    let Build { git_commit, build_time } = app.settings.build.clone();
    Ok(StatusAnswer::Ok(Answer(StatusReport {
        alerts: Some(alerts).filter(|alerts| !alerts.is_empty()),
        build_time: Some(build_time),
        db_bulk_version: version.clone(),
        db_version: version,
        git_commit: Some(git_commit),
        status: "ok".to_owned(),
    })))
}

async fn in_time<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(|elapsed| Error::Unavailable(elapsed.into()))?
}

#[derive(ApiResponse)]
enum LiveAnswer {
    /// What counts as live.
    #[oai(status = 200)]
    Ok(Answer<LiveCounts>),
}

#[derive(Debug, Serialize, Object)]
struct LiveCounts {
    organisations: i64,
    services: i64,
}

#[derive(ApiResponse)]
enum StatusAnswer {
    /// The service is well.
    #[oai(status = 200)]
    Ok(Answer<StatusReport>),
}

#[derive(Debug, Default, Serialize, Object)]
struct StatusReport {
    /// `sms_failing` or `email_failing` while every provider of that channel fails: messages are accepted, and wait.
    /// This process is well all the same. Without such trouble it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    alerts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_time: Option<String>,
    /// The same as `db_version`: there is one database.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_bulk_version: Option<String>,
    /// The last migration of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    git_commit: Option<String>,
    /// Always `ok`.
    status: String,
}
