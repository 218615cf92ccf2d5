//! How a party shall fail. Set over HTTP, one list a party; a fault with `times` goes after that many requests
//! and makes room for the next of the list.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use herald_message::receipt::Provider;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::World;
use crate::callbacks::CALLBACKS;

/// One set of faults; all that are given apply together to each request that it hits.
///
/// Whether the provider takes the message (the phone counts it and receipts follow): yes, unless `reset_before` or a
/// `status` of 300 and more says otherwise. `accept` overrides both readings, so that
/// `{"status": 502, "accept": true}` is a gateway that lost an answer and `{"hang": true, "accept": false}` one that lost the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Requests that it applies to. None: until it is cleared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Share of the requests that it hits, 0 to 1. None: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Waits before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Seconds, sent as `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Sent as `Location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Error code of SES, such as `Throttling` (otherwise chosen by the status), or of Firetext's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Error text that goes with the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The whole body of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<bool>,
    /// Never answers.
    #[serde(skip_serializing_if = "is_false")]
    pub hang: bool,
    /// Closes the connection before taking the message.
    #[serde(skip_serializing_if = "is_false")]
    pub reset_before: bool,
    /// Takes the message and closes the connection without an answer.
    #[serde(skip_serializing_if = "is_false")]
    pub reset_after_accept: bool,
    /// The connection ends in the middle of the answer.
    #[serde(skip_serializing_if = "is_false")]
    pub truncate: bool,
    /// The body of the answer comes byte by byte, one a second.
    #[serde(skip_serializing_if = "is_false")]
    pub drip: bool,
    /// Further copies of each receipt.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate_receipts: u32,
    /// A message's receipts come last first (an intermediate one is added), and messages overtake one another.
    #[serde(skip_serializing_if = "is_false")]
    pub receipts_out_of_order: bool,
    /// The first receipt comes before the answer.
    #[serde(skip_serializing_if = "is_false")]
    pub receipt_before_answer: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub missing_receipts: bool,
    /// SES' notices come without our own id, as they do where no configuration set publishes them.
    #[serde(skip_serializing_if = "is_false")]
    pub untagged_receipts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_delay_ms: Option<u64>,
    /// `delivered`, `pending`, `temporary`, `permanent`, `complaint` (SES), or the provider's own text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_status: Option<String>,
    /// Firetext's code, MMG's substatus, SES's bounce sub-type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_code: Option<String>,
}

impl Fault {
    /// Whether the message gets to the phone.
    pub(crate) fn takes(&self) -> bool {
        self.accept
            .unwrap_or(!self.reset_before && self.status.is_none_or(|status| status < 300))
    }

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self {
                status: Some(status), ..
            } if !(200..600).contains(status) => Err("status must be from 200 to 599"),
            Self { share: Some(share), .. } if !(0.0..=1.0).contains(share) => Err("share must be from 0 to 1"),
            Self {
                duplicate_receipts: 101..,
                ..
            } => Err("duplicate_receipts must be at most 100"),
            _ => Ok(()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Who is played here and can fail; services besides, by the names of their endpoints.
#[derive(Clone, Copy)]
pub(crate) enum Party {
    Provider(Provider),
    /// The document-download service.
    Documents,
}

impl Party {
    const ALL: [Self; 4] = [
        Self::Provider(Provider::Firetext),
        Self::Provider(Provider::Mmg),
        Self::Provider(Provider::Ses),
        Self::Documents,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Provider(provider) => provider.name(),
            Self::Documents => "documents",
        }
    }
}

/// The faults set at present.
#[derive(Default)]
pub(crate) struct Faults {
    lists: [Faulty; Party::ALL.len()],
    services: Mutex<HashMap<String, Arc<Faulty>>>,
}

/// The faults of one of the outside world, the next one first.
#[derive(Default)]
pub(crate) struct Faulty(Mutex<VecDeque<Arc<Fault>>>);

impl Faults {
    /// The fault that the next request meets, counted against its `times`.
    pub(crate) fn next(&self, party: Party) -> Option<Arc<Fault>> {
        self.list(party).next()
    }

    /// As [`Self::next`], for the call of a service.
    pub(crate) fn next_of_service(&self, name: &str) -> Option<Arc<Fault>> {
        self.of_service(name).next()
    }

    fn list(&self, party: Party) -> &Faulty {
        &self.lists[match party {
            Party::Provider(Provider::Firetext) => 0,
            Party::Provider(Provider::Mmg) => 1,
            Party::Provider(Provider::Ses) => 2,
            Party::Documents => 3,
        }]
    }

    fn of_service(&self, name: &str) -> Arc<Faulty> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(services.entry(name.to_owned()).or_default())
    }
}

impl Faulty {
    fn next(&self) -> Option<Arc<Fault>> {
        let mut list = self.lock();
        let front = list.front_mut()?;
        if front.share.is_some_and(|share| !rand::random_bool(share)) {
            return None;
        }
        let fault = Arc::clone(front);
        if let Some(left) = front.times {
            if left > 1 {
                Arc::make_mut(front).times = Some(left - 1);
            } else {
                list.pop_front();
            }
        }
        fault.times.is_none_or(|times| times > 0).then_some(fault)
    }

    fn set(&self, faults: Vec<Fault>) {
        let faults = faults.into_iter().filter(|fault| *fault != Fault::default());
        *self.lock() = faults.map(Arc::new).collect();
    }

    fn shown(&self) -> serde_json::Value {
        let list = self.lock();
        match (list.len(), list.front()) {
            (1, Some(only)) => json!(**only),
            (0, _) | (_, None) => json!({}),
            _ => list.iter().map(|fault| json!(**fault)).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Fault>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `GET /faults/{party}`
pub(crate) async fn show(State(world): State<Arc<World>>, Path(name): Path<String>) -> Response {
    with_faulty(&world, &name, |faulty| Json(faulty.shown()).into_response())
}

/// `DELETE /faults/{party}`
pub(crate) async fn clear(State(world): State<Arc<World>>, Path(name): Path<String>) -> Response {
    with_faulty(&world, &name, |faulty| {
        faulty.set(Vec::new());
        StatusCode::NO_CONTENT.into_response()
    })
}

/// `PUT /faults/{party}` with one set of faults or a list of them; answers with what is set now.
pub(crate) async fn set(State(world): State<Arc<World>>, Path(name): Path<String>, body: Bytes) -> Response {
    with_faulty(&world, &name, |faulty| match parse(&body) {
        Ok(faults) => {
            faulty.set(faults);
            Json(faulty.shown()).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response(),
    })
}

fn parse(body: &[u8]) -> Result<Vec<Fault>, String> {
    let is_list = body.trim_ascii_start().starts_with(b"[");
    let faults: Vec<Fault> = if is_list {
        serde_json::from_slice(body).map_err(|error| error.to_string())?
    } else {
        vec![serde_json::from_slice(body).map_err(|error| error.to_string())?]
    };
    faults.iter().try_for_each(Fault::check)?;
    Ok(faults)
}

/// `callbacks` are the calls to `/callbacks`, `callbacks/a` those to `/callbacks/a`.
fn with_faulty(world: &World, name: &str, then: impl FnOnce(&Faulty) -> Response) -> Response {
    if name == CALLBACKS || name.strip_prefix(CALLBACKS).is_some_and(|rest| rest.starts_with('/')) {
        return then(&world.faults.of_service(name));
    }
    match Party::ALL.into_iter().find(|party| party.name() == name) {
        Some(party) => then(world.faults.list(party)),
        None => {
            let names = Party::ALL.map(Party::name).join(", ");
            let error = format!("there is no provider {name}; there are {names}, {CALLBACKS} and {CALLBACKS}/…");
            (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
        }
    }
}
