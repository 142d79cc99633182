//! What the seed's message types need in `data`, as a table. Owns the check and the agent a payload is about; never
//! changes a payload. Source: `docs/dialects/native.md`, Types.

use roomcast_protocol::codes::Refused;
use roomcast_protocol::publication::TEXT_BYTES_MAX;

use super::fields::{each_element, each_member, is_number, missing, text, wrong};

/// What a field must be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A number, or a string of 1 to 255 bytes.
    Id,
    Text,
    Number,
    /// A number from 0 to 100.
    Percent,
    /// An object whose members are all numbers.
    Counters,
    Object(&'static [Field]),
    /// An array of such objects.
    Objects(&'static [Field]),
}

/// A field that is checked when it is there; other fields pass.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: &'static str,
    kind: Kind,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

/// A family of types: the fields of the seed's example, and what each type needs of them.
struct Family {
    fields: &'static [Field],
    types: &'static [(&'static str, &'static [&'static str])],
}

const AGENT: Family = Family {
    fields: &[
        field("agent_id", Kind::Id),
        field("hostname", Kind::Text),
        field("status", Kind::Text),
        field("last_seen", Kind::Text),
        field("cpu_usage", Kind::Number),
        field("memory_usage", Kind::Number),
        field("disk_usage", Kind::Number),
        field("network_io", Kind::Counters),
    ],
    types: &[
        ("agent_status", &["agent_id", "status"]),
        ("agent_connected", &["agent_id"]),
        ("agent_disconnected", &["agent_id"]),
        ("agent_updated", &["agent_id"]),
    ],
};

const TASK: Family = Family {
    fields: &[
        field("task_id", Kind::Id),
        field("title", Kind::Text),
        field("progress", Kind::Percent),
        field("status", Kind::Text),
        field("current_step", Kind::Text),
        field("completed_agents", Kind::Number),
        field("total_agents", Kind::Number),
        field("estimated_completion", Kind::Text),
        field(
            "logs",
            Kind::Objects(&[
                field("timestamp", Kind::Text),
                field("level", Kind::Text),
                field("message", Kind::Text),
            ]),
        ),
    ],
    types: &[
        ("task_progress", &["task_id", "progress"]),
        ("task_created", &["task_id"]),
        ("task_started", &["task_id"]),
        ("task_completed", &["task_id"]),
        ("task_failed", &["task_id"]),
    ],
};

const ALERT: Family = Family {
    fields: &[
        field("alert_id", Kind::Id),
        field("severity", Kind::Text),
        field("title", Kind::Text),
        field("description", Kind::Text),
        field("agent_id", Kind::Id),
        field("hostname", Kind::Text),
        field(
            "metric",
            Kind::Object(&[
                field("name", Kind::Text),
                field("current_value", Kind::Number),
                field("threshold", Kind::Number),
                field("unit", Kind::Text),
            ]),
        ),
        field(
            "actions",
            Kind::Objects(&[
                field("type", Kind::Text),
                field("delay", Kind::Number),
                field("target", Kind::Text),
            ]),
        ),
    ],
    types: &[
        ("alert_triggered", &["alert_id", "severity", "title"]),
        ("alert_acknowledged", &["alert_id"]),
        ("alert_resolved", &["alert_id"]),
        ("alert_escalated", &["alert_id"]),
    ],
};

const INVENTORY: Family = Family {
    fields: &[field("agent_id", Kind::Id)],
    types: &[
        ("metrics_update", &["agent_id"]),
        ("package_updated", &["agent_id"]),
        ("service_status", &["agent_id"]),
        ("inventory_refresh", &["agent_id"]),
    ],
};

const FAMILIES: [&Family; 4] = [&AGENT, &TASK, &ALERT, &INVENTORY];

/// Checks the payload of a publication of this type and tells the agent it names, if any.
///
/// # Errors
/// 102, naming the field and what it must be.
pub(super) fn check(kind: &str, data: &str) -> Result<Option<Box<str>>, Refused> {
    let known = FAMILIES.into_iter().find_map(|family| {
        let (_, needed) = family.types.iter().find(|(name, _)| *name == kind)?;
        Some((family.fields, *needed))
    });
    let Some((fields, needed)) = known else {
        // Without the name there is nothing to find, and most payloads are spared the walk. A name that is written
        // with escapes is not found: such a payload is about no agent.
        return Ok(if data.contains("agent_id") { walk("data", data, &[], &[])? } else { None });
    };
    walk("data", data, fields, needed)
}

/// Checks one object and tells the agent it names. Recurses as deep as the table does.
fn walk(
    path: &str,
    object: &str,
    fields: &[Field],
    needed: &[&str],
) -> Result<Option<Box<str>>, Refused> {
    let mut agent_id = None;
    let mut found = 0_u32;
    let mut fault = None;
    let is_object = each_member(object, |name, value| {
        if name == "agent_id" {
            agent_id = id(value);
        }
        let Some(field) = fields.iter().find(|field| field.name == name) else { return };
        let bit = needed.iter().position(|needed| *needed == name).map_or(0, |place| 1 << place);
        if value == "null" {
            found &= !bit;
            return;
        }
        found |= bit;
        if fault.is_none() {
            fault = fits(path, field, value).err();
        }
    });
    if !is_object && !fields.is_empty() {
        return Err(wrong(path, "an object"));
    }
    if let Some(fault) = fault {
        return Err(fault);
    }
    for (place, name) in needed.iter().enumerate() {
        if found & (1 << place) == 0 {
            let kind = fields.iter().find(|field| field.name == *name).map(|field| field.kind);
            return Err(missing(&format!("{path}.{name}"), kind.map_or("a value", Kind::must_be)));
        }
    }
    Ok(agent_id)
}

impl Kind {
    const fn must_be(self) -> &'static str {
        match self {
            Self::Id => "a number or a string",
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Percent => "a number from 0 to 100",
            Self::Counters => "an object whose members are numbers",
            Self::Object(_) => "an object",
            Self::Objects(_) => "an array of objects",
        }
    }
}

fn fits(path: &str, field: &Field, value: &str) -> Result<(), Refused> {
    let path = || format!("{path}.{}", field.name);
    let fits = match field.kind {
        Kind::Id => {
            if id(value).is_none() && value.starts_with('"') {
                return Err(wrong(&path(), &format!("1 to {TEXT_BYTES_MAX} bytes")));
            }
            id(value).is_some()
        }
        Kind::Text => value.starts_with('"'),
        Kind::Number => is_number(value),
        Kind::Percent => value.parse().is_ok_and(|percent: f64| (0.0..=100.0).contains(&percent)),
        Kind::Counters => {
            let mut numbers = true;
            each_member(value, |_, member| numbers &= is_number(member)) && numbers
        }
        Kind::Object(fields) if value.starts_with('{') => {
            return walk(&path(), value, fields, &[]).map(drop);
        }
        Kind::Objects(fields) if value.starts_with('[') => {
            let mut fault = None;
            each_element(value, |element| {
                if fault.is_none() {
                    fault = walk(&path(), element, fields, &[]).err();
                }
            });
            return fault.map_or(Ok(()), Err);
        }
        Kind::Object(_) | Kind::Objects(_) => false,
    };
    if fits { Ok(()) } else { Err(wrong(&path(), field.kind.must_be())) }
}

/// An id as text: strings as they are, numbers as they are written (`-0` is 0).
fn id(value: &str) -> Option<Box<str>> {
    if is_number(value) {
        let digits = if value == "-0" { "0" } else { value };
        return Some(digits).filter(|digits| digits.len() <= TEXT_BYTES_MAX).map(Into::into);
    }
    let text = text(value)?;
    (1..=TEXT_BYTES_MAX).contains(&text.len()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(kind: &str, data: &str, message: &str) {
        assert_eq!(check(kind, data).unwrap_err().message, message, "{kind} {data}");
    }

    #[track_caller]
    fn passes(kind: &str, data: &str, agent_id: Option<&str>) {
        assert_eq!(check(kind, data).unwrap().as_deref(), agent_id, "{kind} {data}");
    }

    #[test]
    fn every_type_of_the_seed_needs_its_fields() {
        for family in FAMILIES {
            for (kind, needed) in family.types {
                for name in *needed {
                    let error = check(kind, "{}").unwrap_err();
                    assert!(error.message.starts_with(&format!("data.{} is missing", needed[0])));
                    let field = family.fields.iter().find(|field| field.name == *name).unwrap();
                    let data = format!(r#"{{"{name}":{{"a":"b"}}}}"#);
                    let error = check(kind, &data).unwrap_err();
                    assert!(error.message.contains(field.kind.must_be()), "{kind} {data}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_what_it_must_be() {
        refused("agent_status", "{}", "data.agent_id is missing: a number or a string");
        refused("agent_status", r#"{"agent_id":7}"#, "data.status is missing: a string");
        refused(
            "agent_updated",
            r#"{"agent_id":null}"#,
            "data.agent_id is missing: a number or a string",
        );
        refused("agent_updated", r#"{"agent_id":""}"#, "data.agent_id must be 1 to 255 bytes");
        let twice = r#"{"agent_id":7,"agent_id":null}"#;
        refused("agent_updated", twice, "data.agent_id is missing: a number or a string");
        refused("agent_updated", "7", "data must be an object");
        refused(
            "task_progress",
            r#"{"task_id":1}"#,
            "data.progress is missing: a number from 0 to 100",
        );
        for progress in ["-1", "100.5", "\"65\"", "1e999"] {
            let data = format!(r#"{{"task_id":1,"progress":{progress}}}"#);
            refused("task_progress", &data, "data.progress must be a number from 0 to 100");
        }
    }

    #[test]
    fn fields_of_the_examples_keep_their_kinds() {
        let agent = |rest: &str| format!(r#"{{"agent_id":7,"status":"online",{rest}}}"#);
        let status = |rest: &str, message| refused("agent_status", &agent(rest), message);
        status(r#""hostname":5"#, "data.hostname must be a string");
        status(r#""cpu_usage":"15.2""#, "data.cpu_usage must be a number");
        for network in ["[]", r#"{"bytes_sent":"1"}"#, "3"] {
            let rest = format!(r#""network_io":{network}"#);
            status(&rest, "data.network_io must be an object whose members are numbers");
        }
        let task = |rest: &str| format!(r#"{{"task_id":1,"progress":0,{rest}}}"#);
        refused("task_progress", &task(r#""logs":{}"#), "data.logs must be an array of objects");
        refused("task_progress", &task(r#""logs":[7]"#), "data.logs must be an object");
        refused(
            "task_progress",
            &task(r#""logs":[{"level":1}]"#),
            "data.logs.level must be a string",
        );
        let alert = |rest: &str| format!(r#"{{"alert_id":1,"severity":"s","title":"t",{rest}}}"#);
        refused("alert_triggered", &alert(r#""metric":[]"#), "data.metric must be an object");
        let metric = r#""metric":{"threshold":"90"}"#;
        refused("alert_triggered", &alert(metric), "data.metric.threshold must be a number");
        passes("alert_triggered", &alert(r#""metric":null,"more":[[1]]"#), None);
    }

    #[test]
    fn the_agent_a_payload_names_is_told_as_text() {
        passes("agent_updated", r#"{"agent_id":123}"#, Some("123"));
        passes("agent_updated", r#"{"agent_id":-0}"#, Some("0"));
        passes("metrics_update", r#"{"agent_id":"a\u002d1"}"#, Some("a-1"));
        passes(
            "alert_resolved",
            r#"{"alert_id":"x","agent_id":18446744073709551616}"#,
            Some("18446744073709551616"),
        );
        passes("task_created", r#"{"task_id":"x"}"#, None);
        passes("own_type", r#"{"agent_id":7}"#, Some("7"));
        passes("own_type", r#"{"agent_id":[7]}"#, None);
        passes("own_type", r#"["agent_id"]"#, None);
    }

    #[test]
    fn the_last_of_two_agents_is_the_one_it_is_about() {
        passes("agent_updated", r#"{"agent_id":7,"agent_id":8}"#, Some("8"));
        passes("own_type", r#"{"agent_id":7,"agent\u005fid":8}"#, Some("8"));
        passes("own_type", r#"{"agent_id":7,"agent_id":{}}"#, None);
    }
}
