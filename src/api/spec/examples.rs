//! Examples for the documents: of parameters by their names, of requests and answers by operation, of errors by shape.
//!
//! They stand in `examples.json`. What they name is in the development seed, so that people can try them at once.

use std::{collections::HashMap, sync::LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::object;

#[derive(Deserialize)]
struct Examples {
    parameters: Map<String, Value>,
    /// By operation.
    requests: Map<String, Value>,
    /// By operation, then by status.
    answers: HashMap<String, Map<String, Value>>,
    /// By the name of the schema, then by status: of errors that are alike for all operations.
    errors: HashMap<String, Map<String, Value>>,
}

static EXAMPLES: LazyLock<Examples> = LazyLock::new(|| {
    serde_json::from_str(include_str!("examples.json")).expect("the file is part of the program, and has this form")
});

/// Gives an operation its examples. Tests see to it that none is missing.
pub fn add(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        if let Some(example) = EXAMPLES.parameters.get(name) {
            parameter["example"] = example.clone();
        }
    }
    if let Some(body) = operation.get_mut("requestBody") {
        show(body, EXAMPLES.requests.get(&id));
    }
    for (status, response) in object(&mut operation["responses"]) {
        let own = EXAMPLES.answers.get(&id).and_then(|answers| answers.get(status));
        let common = || EXAMPLES.errors.get(schema_of(response)?)?.get(status);
        let example = own.or_else(common);
        show(response, example);
    }
}

/// Sets the example of the one content that there is.
fn show(message: &mut Value, example: Option<&Value>) {
    let content = message.get_mut("content").and_then(Value::as_object_mut);
    for media in content.into_iter().flat_map(Map::values_mut) {
        if let Some(example) = example {
            media["example"] = example.clone();
        }
    }
}

/// The name of the schema of a response.
fn schema_of(response: &Value) -> Option<&str> {
    let media = response.get("content")?.as_object()?.values().next()?;
    media.pointer("/schema/$ref")?.as_str()?.rsplit('/').next()
}
