//! Which build of the program this is, as the build script found it out.

use chrono::{DateTime, SecondsFormat};
use herald_api::Build;

pub fn of_this_program() -> Build {
    let time = env!("HERALD_BUILD_TIME");
    let seconds = time
        .parse()
        .ok()
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    Build {
        git_commit: env!("HERALD_GIT_COMMIT").to_owned(),
        build_time: seconds.map_or_else(|| time.to_owned(), |at| at.to_rfc3339_opts(SecondsFormat::Secs, true)),
    }
}
