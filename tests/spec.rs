//! The OpenAPI documents tell all that a client needs, and what they show works.

mod schema;

use reqwest::Method;
use serde_json::{Map, Value};

use crate::harness::{Herald, http, live_token};
use schema::Schemas;

/// Operations that succeed for nobody yet.
const UNBUILT: [&str; 2] = ["sendLetter", "getLetterPdf"];

/// What succeeds only for what an example cannot hold: a message that is not being sent yet, a token of ours, SNS'
/// signature, credentials of a firm.
const NOT_BY_EXAMPLE: [&str; 5] = [
    "cancelNotification",
    "unsubscribe",
    "receiveSesEvent",
    "receiveMmgText",
    "receiveFiretextText",
];

struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    told: &'a Value,
}

impl Operation<'_> {
    fn id(&self) -> &str {
        self.told["operationId"].as_str().unwrap_or_default()
    }

    fn parameters(&self) -> impl Iterator<Item = &Value> {
        self.told["parameters"].as_array().into_iter().flatten()
    }

    fn body(&self) -> Option<&Value> {
        only_content(self.told.get("requestBody")?)
    }

    fn responses(&self) -> &Map<String, Value> {
        self.told["responses"].as_object().unwrap()
    }

    /// Whether it is for callers who prove who they are.
    fn is_guarded(&self) -> bool {
        ["/v2/", "/engine/", "/callbacks"]
            .iter()
            .any(|guarded| self.path.starts_with(guarded))
    }

    /// The statuses that any such operation can answer.
    fn must_tell(&self) -> Vec<&'static str> {
        let mut statuses = vec!["500", "503", "504"];
        if self.is_guarded() {
            statuses.extend(["400", "401", "403"]);
        }
        if self.path.contains('{') {
            statuses.push("404");
        }
        if self.body().is_some() {
            statuses.extend(["400", "408", "413"]);
        }
        statuses
    }
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, operations)| {
            let operations = operations.as_object().unwrap();
            operations
                .iter()
                .map(move |(method, told)| Operation { path, method, told })
        })
        .collect()
}

/// What is said of the body of a request or response, which has one content type.
fn only_content(message: &Value) -> Option<&Value> {
    let content = message["content"].as_object()?;
    assert_eq!(content.len(), 1, "{content:?}");
    content.values().next()
}

fn documents() -> [Value; 2] {
    [herald_api::public_spec(), herald_api::internal_spec()].map(|text| serde_json::from_str(&text).unwrap())
}

#[test]
fn every_operation_tells_all_that_a_client_needs() {
    let mut lacks = Vec::new();
    for document in documents() {
        let mut ids = Vec::new();
        for operation in operations(&document) {
            let name = format!("{} {}", operation.method, operation.path);
            let mut needs = |what: &str, there: bool| {
                if !there {
                    lacks.push(format!("{name}: {what}"));
                }
            };
            let told = |of: &Value, what: &str| of[what].as_str().is_some_and(|text| !text.is_empty());
            needs("summary", told(operation.told, "summary"));
            needs("tag", operation.told["tags"][0].is_string());
            needs(
                "an id of its own",
                !operation.id().is_empty() && !ids.contains(&operation.id().to_owned()),
            );
            ids.push(operation.id().to_owned());
            for parameter in operation.parameters() {
                needs(
                    &format!("description of {}", parameter["name"]),
                    told(parameter, "description"),
                );
            }
            for status in operation.must_tell() {
                needs(&format!("answer {status}"), operation.responses().contains_key(status));
            }
            let succeeds = operation.responses().keys().any(|status| status.starts_with('2'));
            needs("success", succeeds != UNBUILT.contains(&operation.id()));
            for (status, response) in operation.responses() {
                needs(
                    &format!("description of answer {status}"),
                    told(response, "description"),
                );
            }
            let schemes: Vec<&String> = operation.told["security"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|scheme| scheme.as_object().unwrap().keys())
                .collect();
            needs("bearer token", schemes.len() == usize::from(operation.is_guarded()));
            for scheme in schemes {
                let scheme = &document["components"]["securitySchemes"][scheme];
                needs(
                    "bearer scheme",
                    scheme["type"] == "http" && scheme["scheme"] == "bearer",
                );
            }
        }
        assert!(document["servers"][0]["url"].is_string());
    }
    assert!(lacks.is_empty(), "missing:\n{}", lacks.join("\n"));
}

#[test]
fn every_operation_has_examples_of_its_own_schemas() {
    let mut wrong = Vec::new();
    for document in documents() {
        let schemas = Schemas::of(&document);
        for operation in operations(&document) {
            let mut check = |what: &str, place: &Value| {
                let schema = &place["schema"];
                let example = place.get("example").or_else(|| schemas.example(schema));
                match example {
                    Some(example) => wrong.extend(
                        schemas
                            .faults(schema, example)
                            .map(|fault| format!("{}: example of {what}: {fault}", operation.id())),
                    ),
                    None => wrong.push(format!("{}: no example of {what}", operation.id())),
                }
            };
            for parameter in operation.parameters() {
                check(parameter["name"].as_str().unwrap(), parameter);
            }
            if let Some(body) = operation.body() {
                check("the request", body);
            }
            for (status, response) in operation.responses() {
                check(
                    &format!("answer {status}"),
                    only_content(response).unwrap_or(&Value::Null),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A fault in it is silent: an example of an operation that does not exist is shown nowhere.
#[test]
fn every_example_is_shown() {
    let [public, internal] = documents();
    let (public, internal) = (operations(&public), operations(&internal));
    let examples: Value = serde_json::from_str(include_str!("../src/api/spec/examples.json")).unwrap();
    let all = || public.iter().chain(&internal);
    for id in examples["requests"].as_object().unwrap().keys() {
        assert!(
            all().any(|operation| operation.id() == id && operation.body().is_some()),
            "{id}"
        );
    }
    for (id, answers) in examples["answers"].as_object().unwrap() {
        let operation = all().find(|operation| operation.id() == id).expect(id);
        for status in answers.as_object().unwrap().keys() {
            assert!(operation.responses().contains_key(status), "{id} {status}");
        }
    }
    for name in examples["parameters"].as_object().unwrap().keys() {
        assert!(
            all().any(|operation| operation
                .parameters()
                .any(|parameter| parameter["name"] == name.as_str())),
            "{name}"
        );
    }
}

/// People try what they see: on a fresh Herald with the development seed the examples work.
#[tokio::test]
async fn the_examples_work_on_the_development_seed() {
    let [document, _] = documents();
    let schemas = Schemas::of(&document);
    let herald = Herald::start_all().await;
    let mut sent = String::new();
    for operation in operations(&document) {
        let path = operation
            .parameters()
            .fold(operation.path.to_owned(), |path, parameter| {
                let name = parameter["name"].as_str().unwrap();
                let value = match &parameter["example"] {
                    // The one thing that is not there from the beginning.
                    _ if name == "notification_id" => sent.clone(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                path.replace(&format!("{{{name}}}"), &value)
            });
        let method: Method = operation.method.to_uppercase().parse().unwrap();
        let mut request = http().request(method, format!("{}{path}", herald.base_url));
        if operation.is_guarded() {
            request = request.bearer_auth(live_token());
        }
        if let Some(body) = operation.body() {
            let form = operation.told["requestBody"]["content"].get("application/x-www-form-urlencoded");
            request = match form {
                Some(_) => request.form(&body["example"]),
                None => request.json(&body["example"]),
            };
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let json: Value = answer.json().await.unwrap();
        let id = operation.id();
        let Some(response) = operation.responses().get(status.as_str()) else {
            panic!("{id}: {status} is not told of: {json}")
        };
        let faults: Vec<String> = schemas
            .faults(&only_content(response).unwrap()["schema"], &json)
            .collect();
        assert!(faults.is_empty(), "{id}: {faults:?} in {json}");
        let succeeds = !UNBUILT.contains(&id) && !NOT_BY_EXAMPLE.contains(&id);
        assert_eq!(status.is_success(), succeeds, "{id}: {json}");
        if id == "sendSms" {
            sent = json["id"].as_str().unwrap().to_owned();
        }
    }
}
