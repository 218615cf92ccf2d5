//! Schemas of an OpenAPI 3.0 document as JSON Schema, in which its `nullable` means nothing.
//!
//! They are stricter here than they are told: what they do not name must not be there. A client may get new properties
//! one day, but today's document tells today's.

use jsonschema::Draft;
use serde_json::{Value, json};

pub struct Schemas {
    components: Value,
}

impl Schemas {
    pub fn of(document: &Value) -> Self {
        let mut components = document["components"].clone();
        if let Some(schemas) = components["schemas"].as_object_mut() {
            schemas.values_mut().for_each(convert);
        }
        Self { components }
    }

    /// The example that stands in the schema itself.
    pub fn example(&self, schema: &Value) -> Option<&Value> {
        let name = schema["$ref"].as_str()?.rsplit('/').next()?;
        self.components["schemas"][name].get("example")
    }

    /// What is wrong with a value; nothing, if all is well.
    pub fn faults(&self, schema: &Value, value: &Value) -> impl Iterator<Item = String> {
        let mut schema = schema.clone();
        convert(&mut schema);
        let whole = json!({ "allOf": [schema], "components": self.components });
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .build(&whole)
            .unwrap();
        let faults = validator
            .iter_errors(value)
            .map(|fault| format!("{}: {fault}", fault.instance_path()));
        faults.collect::<Vec<_>>().into_iter()
    }
}

fn convert(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(convert);
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
            if fields.remove("nullable") == Some(true.into()) {
                *schema = json!({ "anyOf": [schema.take(), { "type": "null" }] });
            }
        }
        Value::Array(parts) => parts.iter_mut().for_each(convert),
        _ => {}
    }
}
