//! The server API as an OpenAPI 3.1 document, made of the table that routes. Source: the OpenAPI Specification 3.1.1.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::table::{ROWS, Row};
use super::{Answer, answer};

/// What bodies and answers look like.
const SCHEMAS: &str = include_str!("../../assets/schemas.json");

/// What every row below `/api` may answer.
const GUARDED: [u16; 2] = [401, 403];

/// `GET /api/v1/openapi.json`.
pub(super) fn openapi() -> Answer {
    let document = document().map_err(|error| {
        tracing::error!(%error, "the OpenAPI document cannot be made");
        let text = "The OpenAPI document cannot be made";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text.into())
    })?;
    Ok(answer::json(StatusCode::OK, &document))
}

fn document() -> Result<Value, serde_json::Error> {
    let schemas: Value = serde_json::from_str(SCHEMAS)?;
    let mut paths = Map::new();
    for row in ROWS {
        let verb = row.verb.name().to_ascii_lowercase();
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        if let Value::Object(path) = path {
            path.insert(verb, operation(row)?);
        }
    }
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Roomcast server API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The internal port of a node: docs/API.md",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }))
}

fn operation(row: &Row) -> Result<Value, serde_json::Error> {
    let guarded = row.path.starts_with("/api/");
    let mut parameters = Vec::new();
    for rest in row.path.split('{').skip(1) {
        let name = rest.split('}').next().unwrap_or_default();
        let schema = json!({"type": "string"});
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
    }
    for param in row.query {
        let schema: Value = serde_json::from_str(param.schema)?;
        let (name, about) = (param.name, param.about);
        parameters
            .push(json!({"name": name, "in": "query", "description": about, "schema": schema}));
    }
    if row.keyed {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 202});
        let about = "the id of what has none, so that the request can be sent again";
        let name = "Idempotency-Key";
        parameters
            .push(json!({"name": name, "in": "header", "description": about, "schema": schema}));
    }
    let mut responses = Map::new();
    let content = row.answer.map_or_else(
        || json!({"text/plain": {"schema": {"type": "string"}}}),
        |schema| json!({"application/json": {"schema": reference(schema)}}),
    );
    responses.insert("200".to_owned(), json!({"description": "As asked", "content": content}));
    if matches!(row.id, "livez" | "readyz") {
        responses.insert("503".to_owned(), json!({"description": "It is not", "content": content}));
    }
    let everywhere = GUARDED.iter().filter(|_| guarded);
    for status in everywhere.chain(row.problems) {
        let reason = StatusCode::from_u16(*status).ok();
        let reason = reason.and_then(|status| status.canonical_reason()).unwrap_or_default();
        let content = json!({"application/problem+json": {"schema": reference("Problem")}});
        let problem = json!({"description": reason, "content": content});
        responses.insert(status.to_string(), problem);
    }
    let mut operation =
        json!({"operationId": row.id, "summary": row.summary, "responses": responses});
    if let Value::Object(operation) = &mut operation {
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(schema) = row.body {
            let content = json!({"application/json": {"schema": reference(schema)}});
            let body = json!({"required": !row.bare, "content": content});
            operation.insert("requestBody".to_owned(), body);
        }
        if guarded {
            operation.insert("security".to_owned(), json!([{"key": []}]));
        }
        let needs = (row.route)(String::new(), String::new());
        if let Some((action, _)) = needs.needs() {
            operation.insert("x-action".to_owned(), action.name().into());
        }
    }
    Ok(operation)
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What of `value` is not as the schema says; this knows the keywords that the document uses, and no others.
    pub(in super::super) fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
        let schema = schema.as_object().unwrap();
        if let Some(reference) = schema.get("$ref") {
            let name = reference.as_str().unwrap().strip_prefix('#').unwrap();
            return check(document, document.pointer(name).unwrap(), value, at);
        }
        for (keyword, wants) in schema {
            match keyword.as_str() {
                "type" => assert!(is(value, wants), "{at} is no {wants}: {value}"),
                "enum" => assert!(wants.as_array().unwrap().contains(value), "{at}: {value}"),
                "const" => assert_eq!(wants, value, "{at}"),
                "required" => {
                    for name in wants.as_array().unwrap() {
                        assert!(
                            value.get(name.as_str().unwrap()).is_some(),
                            "{at} lacks {name}: {value}"
                        );
                    }
                }
                "properties" => {
                    for (name, wants) in wants.as_object().unwrap() {
                        if let Some(value) = value.get(name) {
                            check(document, wants, value, &format!("{at}.{name}"));
                        }
                    }
                }
                "additionalProperties" => {
                    assert_eq!(wants, &json!(false));
                    let known = schema["properties"].as_object().unwrap();
                    for name in value.as_object().unwrap().keys() {
                        assert!(known.contains_key(name), "{at} has {name}, which nobody told of");
                    }
                }
                "items" => {
                    for item in value.as_array().unwrap() {
                        check(document, wants, item, &format!("{at}[]"));
                    }
                }
                "minimum" => assert!(value.as_f64() >= wants.as_f64(), "{at}: {value}"),
                "maximum" => assert!(value.as_f64() <= wants.as_f64(), "{at}: {value}"),
                "description" | "default" | "pattern" | "minItems" | "maxLength" => {}
                other => panic!("the check does not know `{other}`"),
            }
        }
    }

    fn is(value: &Value, kind: &Value) -> bool {
        match kind.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            "boolean" => value.is_boolean(),
            other => panic!("the check does not know the type {other}"),
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        fn walk(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").map(|it| it.as_str().unwrap().to_owned()));
                    members.values().for_each(|value| walk(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document().unwrap();
        let mut used = BTreeSet::new();
        walk(&document, &mut used);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let known = schemas.keys().map(|name| format!("#/components/schemas/{name}")).collect();
        assert_eq!(used, known);
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let ids: BTreeSet<_> = ROWS.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), ROWS.len());
    }

    #[test]
    fn the_page_about_the_api_lists_the_rows() {
        let page = include_str!("../../../../docs/API.md");
        let row = |row: &Row| {
            let verb = row.verb.name();
            let key = if row.path.starts_with("/api/") { "yes" } else { "no" };
            format!("| `{verb} {}` | {} | {key} |", row.path, row.summary)
        };
        let expected: Vec<_> = ROWS.iter().map(row).collect();
        let begins = ["GET", "POST", "PUT", "DELETE"].map(|verb| format!("| `{verb} /"));
        let is_row = |line: &&str| begins.iter().any(|begin| line.starts_with(begin));
        let told: Vec<_> = page.lines().filter(is_row).collect();
        assert_eq!(told, expected);
    }
}
