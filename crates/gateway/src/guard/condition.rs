//! Conditions of room rules, in CEL: compiled when the configuration is read, evaluated against a principal and a room.
//! Whatever fails at run time means no. No text of a peer is ever compiled.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr};
use cel::{Context, Program, Value};
use roomcast_protocol::guard::{Kind, Principal};
use roomcast_protocol::texts::Texts;
use serde_json::Value as Json;

/// Longest condition. Units: bytes.
pub(super) const CONDITION_BYTES_MAX: usize = 4_096;

/// What a condition knows of the principal.
const USER_FIELDS: [&str; 7] = ["id", "kind", "realm", "permissions", "roles", "teams", "claims"];

/// What a condition knows beside its rule's captures.
const VARIABLES: [&str; 3] = ["user", "room", "node"];

/// Types by their names, for `type(x) == int`.
const TYPES: [&str; 10] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// Functions of the CEL library as it is built here: without regular expressions and times.
const FUNCTIONS: [&str; 12] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

thread_local! {
    /// Making one registers all standard functions (19 µs), so each thread keeps one.
    static STANDARD: RefCell<Context<'static, 'static>> = RefCell::new(Context::default());
}

/// A compiled condition.
#[derive(Clone)]
pub struct Condition {
    source: Arc<str>,
    program: Arc<Program>,
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

/// What a condition is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who wants to.
    pub who: &'a Principal,
    /// In which room.
    pub room: &'a str,
    /// What the rule's pattern captured of the room's name.
    pub captures: &'a [(&'a str, &'a str)],
    /// On which node.
    pub node: &'a str,
}

impl Condition {
    /// Compiles a condition that may use `user`, `room`, `node` and these captures.
    ///
    /// # Errors
    /// Says what is wrong and how to mend it, with line and column inside of the condition where they are known.
    pub fn compile(source: &str, captures: &[&str]) -> Result<Self, String> {
        if source.len() > CONDITION_BYTES_MAX {
            return Err(format!("is longer than {CONDITION_BYTES_MAX} bytes"));
        }
        // The parser is made for well-meant input; what makes it panic must not take the node along.
        let compiled = catch_unwind(AssertUnwindSafe(|| Program::compile(source)))
            .map_err(|_| "cannot be read as CEL".to_owned())?;
        let program = compiled.map_err(|errors| {
            let first = errors.errors.first();
            first.map_or_else(
                || "is not CEL".to_owned(),
                |it| format!("is not CEL: {} (line {}, column {})", it.msg, it.pos.0, it.pos.1),
            )
        })?;
        check(program.expression(), &mut captures.to_vec())?;
        let condition = Self { source: source.into(), program: Arc::new(program) };
        condition.check_kind(captures)?;
        Ok(condition)
    }

    /// The condition as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it may read claims beside those that have a field of their own: it writes `user` otherwise than in front of
    /// such a field.
    #[must_use]
    pub fn may_read_claims(&self) -> bool {
        let mut uses = self.source.split("user").skip(1);
        uses.any(|behind| {
            let field = behind.strip_prefix('.').unwrap_or_default();
            let of_their_own = USER_FIELDS.iter().filter(|known| **known != "claims");
            !of_their_own.into_iter().any(|known| field.starts_with(known))
        })
    }

    /// Whether it holds; an error means no.
    #[must_use]
    pub fn holds(&self, question: Question<'_>) -> bool {
        match self.evaluate(question) {
            Some(Ok(Value::Bool(holds))) => holds,
            Some(Ok(_)) => {
                tracing::warn!(condition = %self.source, "a condition gave neither true nor false");
                false
            }
            Some(Err(error)) => {
                // Its text may hold claims, so only its kind is told.
                let kind = kind_of(&error);
                tracing::debug!(condition = %self.source, kind, "a condition failed: denied");
                false
            }
            None => {
                tracing::error!(condition = %self.source, "a condition ended in a panic: denied");
                false
            }
        }
    }

    fn evaluate(&self, question: Question<'_>) -> Option<cel::objects::ResolveResult> {
        STANDARD.with_borrow(|standard| {
            let evaluate = || {
                let mut scope = standard.new_inner_scope();
                scope.add_variable_from_value("user", user(question.who));
                scope.add_variable_from_value("room", question.room);
                scope.add_variable_from_value("node", question.node);
                for (name, value) in question.captures {
                    scope.add_variable_from_value(*name, *value);
                }
                self.program.execute(&scope)
            };
            catch_unwind(AssertUnwindSafe(evaluate)).ok()
        })
    }

    /// Tries it once, so that a condition that gives a list or a text is found before it denies everybody.
    fn check_kind(&self, captures: &[&str]) -> Result<(), String> {
        let who = Principal {
            kind: Kind::User,
            realm: "".into(),
            id: "1".into(),
            permissions: ["p"].into(),
            roles: ["r"].into(),
            teams: ["t"].into(),
            agent_id: None,
            expires_unix_ms: 0,
            issued_unix_ms: 0,
            token_id: Box::default(),
            claims: "{}".into(),
        };
        let captures: Vec<_> = captures.iter().map(|name| (*name, "1")).collect();
        let question = Question { who: &who, room: "room", captures: &captures, node: "node" };
        match self.evaluate(question) {
            Some(Ok(Value::Bool(_)) | Err(_)) => Ok(()),
            Some(Ok(other)) => {
                Err(format!("gives a {:?}, not true or false", other.type_of()).to_lowercase())
            }
            None => Err("cannot be evaluated".to_owned()),
        }
    }
}

fn kind_of(error: &cel::ExecutionError) -> String {
    let text = format!("{error:?}");
    text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}

fn user(who: &Principal) -> Value {
    let texts = |list: &Texts| Value::List(Arc::new(list.iter().map(Value::from).collect()));
    let claims = serde_json::from_str(&who.claims).map_or(Value::Null, value);
    Value::from(HashMap::from([
        ("id", Value::from(&*who.id)),
        ("kind", Value::from(who.kind.name())),
        ("realm", Value::from(&*who.realm)),
        ("permissions", texts(&who.permissions)),
        ("roles", texts(&who.roles)),
        ("teams", texts(&who.teams)),
        ("claims", claims),
    ]))
}

fn value(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(it),
        Json::Number(it) => match (it.as_i64(), it.as_u64()) {
            (Some(it), _) => Value::Int(it),
            (None, Some(it)) => Value::UInt(it),
            (None, None) => it.as_f64().map_or(Value::Null, Value::Float),
        },
        Json::String(it) => Value::from(it),
        Json::Array(items) => Value::List(Arc::new(items.into_iter().map(value).collect())),
        Json::Object(members) => Value::from(
            members.into_iter().map(|(key, it)| (key, value(it))).collect::<HashMap<_, _>>(),
        ),
    }
}

/// Refuses names that nothing will ever have: a rule with a slip of the pen would deny in silence.
fn check<'a>(node: &'a IdedExpr, known: &mut Vec<&'a str>) -> Result<(), String> {
    match &node.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => check_name(name, known),
        Expr::Select(select) => {
            if matches!(&select.operand.expr, Expr::Ident(name) if name == "user")
                && !USER_FIELDS.contains(&select.field.as_str())
            {
                let known = USER_FIELDS.join(", ");
                return Err(format!("knows no user.{}; a user has {known}", select.field));
            }
            check(&select.operand, known)
        }
        Expr::Call(call) => check_call(call, known),
        Expr::List(list) => list.elements.iter().try_for_each(|it| check(it, known)),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(it) => check(&it.key, known).and_then(|()| check(&it.value, known)),
            EntryExpr::StructField(it) => check(&it.value, known),
        }),
        Expr::Struct(it) => Err(format!("makes a {}, which does not exist here", it.type_name)),
        Expr::Comprehension(it) => check_comprehension(it, known),
    }
}

fn check_name(name: &str, known: &[&str]) -> Result<(), String> {
    let known_names = VARIABLES.iter().chain(known).chain(&TYPES);
    if name.starts_with('@') || known_names.into_iter().any(|it| *it == name) {
        return Ok(());
    }
    let captures: String = known.iter().map(|name| format!(", {name}")).collect();
    Err(format!("knows no {name}; there are {}{captures}", VARIABLES.join(", ")))
}

fn check_call<'a>(call: &'a CallExpr, known: &mut Vec<&'a str>) -> Result<(), String> {
    let name = call.func_name.as_str();
    // Operators are called `_&&_`, `!_`, `@in` and the like.
    let is_operator = name.contains('_') || name.starts_with('@');
    if !is_operator && !FUNCTIONS.contains(&name) {
        let known = FUNCTIONS.join(", ");
        return Err(format!(
            "knows no function {name}; there are {known}, has, all, exists, exists_one, map, filter"
        ));
    }
    if let Some(target) = &call.target {
        check(target, known)?;
    }
    call.args.iter().try_for_each(|it| check(it, known))
}

fn check_comprehension<'a>(
    it: &'a ComprehensionExpr,
    known: &mut Vec<&'a str>,
) -> Result<(), String> {
    check(&it.iter_range, known)?;
    check(&it.accu_init, known)?;
    let before = known.len();
    known.extend([it.accu_var.as_str(), it.iter_var.as_str()]);
    known.extend(it.iter_var2.as_deref());
    let inside = [&it.loop_cond, &it.loop_step, &it.result];
    let checked = inside.into_iter().try_for_each(|part| check(part, known));
    known.truncate(before);
    checked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Principal {
        Principal {
            kind: Kind::Backend,
            realm: "gs".into(),
            id: "alice".into(),
            permissions: ["view_agents", "view_agent:7"].into(),
            roles: ["admin"].into(),
            teams: ["red"].into(),
            agent_id: None,
            expires_unix_ms: 0,
            issued_unix_ms: 0,
            token_id: Box::default(),
            claims: r#"{"level":3,"plan":{"name":"pro"},"big":18446744073709551615,"tags":["a"]}"#
                .into(),
        }
    }

    #[test]
    fn whether_claims_may_be_read_is_known_beforehand() {
        let reads = |source: &str| Condition::compile(source, &["id"]).unwrap().may_read_claims();
        for source in ["true", "user.id == id || 'x' in user.roles", "room == node && id == '7'"] {
            assert!(!reads(source), "{source}");
        }
        for source in [
            "user.claims.level == 1",
            "has(user.claims.level)",
            "user . claims . level == 1",
            "user['cl' + 'aims'].level == 1",
            "[user].exists(it, it.claims.level == 1)",
            "user.id == id && user.claims.level == 1",
        ] {
            assert!(reads(source), "{source}");
        }
    }

    #[track_caller]
    fn check(source: &str, expected: bool) {
        let condition = Condition::compile(source, &["id"]).unwrap();
        let who = who();
        let question =
            Question { who: &who, room: "agent-7", captures: &[("id", "7")], node: "n1" };
        assert_eq!(condition.holds(question), expected, "{source}");
    }

    #[test]
    fn conditions_see_the_user_the_room_the_captures_and_the_node() {
        check(
            "'view_agents' in user.permissions || ('view_agent:' + id) in user.permissions",
            true,
        );
        check("('view_agent:' + id + '0') in user.permissions", false);
        check("user.kind == 'backend' && user.id == 'alice' && user.realm == 'gs'", true);
        check("'admin' in user.roles && 'red' in user.teams && !('blue' in user.teams)", true);
        check("room == 'agent-' + id && room.startsWith('agent-') && node == 'n1'", true);
        check("user.claims.level >= 3 && user.claims.plan.name == 'pro'", true);
        check("user.claims.big == 18446744073709551615u", true);
        check("has(user.claims.plan) && !has(user.claims.nothing)", true);
        check("user.permissions.exists(p, p.endsWith(':' + id))", true);
        check(
            "user.teams.all(team, team.size() == 3) && user.teams.map(t, t + '!') == ['red!']",
            true,
        );
        check("int(id) > 6 && type(id) == string", true);
        check("true", true);
        check("false", false);
    }

    #[test]
    fn what_fails_at_run_time_is_denied() {
        check("user.claims.nothing == 'x'", false);
        check("user.claims.level == 'x' || user.claims.level.size() > 0", false);
        check("int(user.id) > 0", false);
        check("user.claims.tags[9] == 'a'", false);
        check("9223372036854775807 + user.claims.level > 0", false);
        check("user.claims.level / 0 == 1", false);
        check("user.claims.plan", false);
    }

    #[track_caller]
    fn refused(source: &str, cause: &str) {
        let told = Condition::compile(source, &["id"]).unwrap_err();
        assert!(told.contains(cause), "{source}: {told}");
    }

    #[test]
    fn what_can_never_hold_is_refused_when_it_is_compiled() {
        refused("user.permissions ||", "is not CEL");
        refused("", "is not CEL");
        refused("'a", "is not CEL");
        refused("usr.kind == 'backend'", "knows no usr; there are user, room, node, id");
        refused("user.kind == 'backend' || name == 'x'", "knows no name");
        refused("user.permission == ['x']", "knows no user.permission; a user has id,");
        refused("has(user.agent)", "knows no user.agent");
        refused("matches(user.id, '.*')", "knows no function matches");
        refused("user.id.lowerAscii() == 'x'", "knows no function lowerAscii");
        refused("user.teams.exists(t, t == u)", "knows no u");
        refused("user.teams.exists(t, true) && t == 'x'", "knows no t;");
        refused("user.permissions", "not true or false");
        refused("'admin'", "not true or false");
        refused(
            &format!("'{}' == room", "a".repeat(CONDITION_BYTES_MAX)),
            "longer than 4096 bytes",
        );
    }

    #[test]
    fn every_function_and_type_that_is_named_exists() {
        for source in [
            "bool('true')",
            "bytes('a') == b'a'",
            "'abc'.contains('b')",
            "double(1) == 1.0",
            "dyn(1) == 1",
            "'abc'.endsWith('c')",
            "int('1') == 1",
            "size('abc') == 3",
            "'abc'.startsWith('a')",
            "string(1) == '1'",
            "type(1) == int",
            "uint(1) == 1u",
        ] {
            check(source, true);
        }
        for (value, name) in [
            ("true", "bool"),
            ("b'a'", "bytes"),
            ("1.0", "double"),
            ("[1]", "list"),
            ("{'a': 1}", "map"),
            ("null", "null_type"),
            ("'a'", "string"),
            ("int", "type"),
            ("1u", "uint"),
        ] {
            check(&format!("type({value}) == {name}"), true);
        }
    }
}
