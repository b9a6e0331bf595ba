//! What the compiler says: types, and errors word for word as cel-go prints them. And that no text makes it fall over.

use cel::{CompileError, Env, Type};
use proptest::prelude::*;

fn env() -> Env {
    let inner = Type::object("self.spec", [("size", Type::Int), ("names", Type::list(Type::String))]);
    Env::new().variable("self", Type::object("self", [("spec", inner), ("kind", Type::String)]))
}

fn error(source: &str) -> String {
    match env().compile(source, &[Type::Bool]) {
        Ok(_) => "compiles".to_owned(),
        Err(error) => error.to_string(),
    }
}

const STARTS: &str = "expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, \
                      NUM_UINT, STRING, BYTES, IDENTIFIER}";

#[test]
fn errors_read_as_upstreams() {
    for (source, expected) in [
        ("objekt.spec", "1:1: undeclared reference to 'objekt' (in container '')\n | objekt.spec\n | ^"),
        (
            "1 + 'a' == 2",
            "1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a' == 2\n | ..^",
        ),
        ("self.nope == 1", "1:5: undefined field 'nope'\n | self.nope == 1\n | ....^"),
        ("has(self.nope)", "1:4: undefined field 'nope'\n | has(self.nope)\n | ...^"),
        (
            "Bogus Value!",
            "1:7: Syntax error: mismatched input 'Value' expecting <EOF>\n | Bogus Value!\n | ......^",
        ),
        ("'a'x", "1:4: Syntax error: extraneous input 'x' expecting <EOF>\n | 'a'x\n | ...^"),
        ("", &format!("1:0: Syntax error: mismatched input '<EOF>' {STARTS}")),
        ("1 +", &format!("1:4: Syntax error: mismatched input '<EOF>' {STARTS}\n | 1 +\n | ...^")),
        ("(true", "1:6: Syntax error: missing ')' at '<EOF>'\n | (true\n | .....^"),
        (
            "self.spec.size.foo()",
            "1:19: undeclared reference to 'foo' (in container '')\n | self.spec.size.foo()\n | ..................^",
        ),
        (
            "self.kind.startsWith(1)",
            "1:21: found no matching overload for 'startsWith' applied to 'string.(int)'\n | self.kind.startsWith(1)\n | ....................^",
        ),
        (
            "self.kind == null",
            "1:11: found no matching overload for '_==_' applied to '(string, null)'\n | self.kind == null\n | ..........^",
        ),
        ("[1, 'a'] == []", "1:5: expected type 'int' but found 'string'\n | [1, 'a'] == []\n | ....^"),
        (
            "self.spec.size.all(x, true)",
            "1:10: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.spec.size.all(x, true)\n | .........^",
        ),
        (
            "self.kind.matches('a(')",
            "1:19: invalid matches argument\n | self.kind.matches('a(')\n | ..................^",
        ),
        (
            "duration('x') == duration('1s')",
            "1:10: invalid duration argument\n | duration('x') == duration('1s')\n | .........^",
        ),
    ] {
        assert_eq!(error(source), format!("compilation failed: ERROR: <input>:{expected}"), "{source}");
    }
    assert_eq!(error("1"), "must evaluate to bool");
}

#[test]
fn several_errors_come_in_order() {
    let text = error("self.a == self.b");
    assert_eq!(text.matches("ERROR: <input>").count(), 2, "{text}");
    assert!(text.find("field 'a'") < text.find("field 'b'"), "{text}");
}

#[test]
fn types_are_inferred() {
    for (source, of) in [
        ("self.spec.names", "list(string)"),
        ("self.spec.names.map(n, n.size())", "list(int)"),
        ("self.spec.names.filter(n, n != '')", "list(string)"),
        ("{'a': self.spec.size}", "map(string, int)"),
        ("self.?kind", "optional_type(string)"),
        ("true ? 1 : 2", "int"),
        ("dyn(1)", "dyn"),
        ("[]", "list(dyn)"),
        ("type(1)", "type(int)"),
        ("quantity('1')", "kubernetes.Quantity"),
        ("self.spec.names[0]", "string"),
        ("duration('1h') + timestamp('2024-01-01T00:00:00Z')", "timestamp"),
        ("self.spec.names.exists(n, n == 'a')", "bool"),
        ("optional.of(1).optMap(v, string(v))", "optional_type(string)"),
    ] {
        let program = env().compile(source, &[]).unwrap_or_else(|e| panic!("{source}: {e}"));
        assert_eq!(program.result_type().to_string(), of, "{source}");
    }
}

#[test]
fn deep_and_long_expressions_are_refused() {
    let deep = format!("{}1{}", "(".repeat(400), ")".repeat(400));
    let chain = vec!["1"; 2_000].join(" + ");
    let long = format!("'{}'", "a".repeat(100_001));
    for source in [deep, chain, long] {
        assert!(matches!(env().compile(&source, &[]), Err(CompileError::Issues(_))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_text_gives_an_answer(source in "\\PC{0,60}") {
        let _ = env().compile(&source, &[]);
    }

    #[test]
    fn any_tokens_give_an_answer(tokens in prop::collection::vec(prop::sample::select(vec![
        "self", ".", "spec", "size", "names", "[", "]", "(", ")", "{", "}", "?", ":", "+", "-", "!", "&&", "||", "==",
        "in", "1", "'a'", ".all(x, ", "has(", "null", ",", "1u", ".?", "[?", "r'\\'", "b'a'", "Object", "optional.of(",
    ]), 0..24)) {
        let source = tokens.concat();
        if let Ok(program) = env().compile(&source, &[]) {
            let _ = program.evaluate(&cel::NoVariables, &mut cel::CostBudget::new(1_000));
        }
    }

    #[test]
    fn numbers_come_back(a in any::<i64>(), b in any::<u64>(), s in "[ -~]{0,20}") {
        let quoted = format!("'{}'", s.replace('\\', "\\\\").replace('\'', "\\'"));
        let program = Env::new().compile(&format!("[dyn({a}), dyn({b}u), dyn({quoted})]"), &[]).unwrap();
        let value = program.evaluate(&cel::NoVariables, &mut cel::CostBudget::new(1_000)).unwrap();
        let cel::Value::List(items, _) = value else { panic!("no list") };
        prop_assert!(matches!(items[0], cel::Value::Int(i) if i == a));
        prop_assert!(matches!(items[1], cel::Value::Uint(u) if u == b));
        prop_assert!(items[2].as_str() == Some(s.as_str()));
    }
}
