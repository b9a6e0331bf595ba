//! Expressions and what they evaluate to: tables of values, of errors at run time, and of costs.

use cel::{Bindings, CostBudget, Env, EvalError, Type, Value};

fn env() -> Env {
    Env::new()
        .variable("x", Type::Int)
        .variable("s", Type::String)
        .variable("d", Type::Dyn)
        .variable("l", Type::list(Type::Int))
        .variable("m", Type::map(Type::String, Type::Int))
        .variable("o", Type::object("o", [("a", Type::Int), ("b", Type::String), ("t", Type::Timestamp)]))
}

fn bindings() -> Bindings {
    Bindings::new()
        .with("x", Value::Int(5))
        .with("s", Value::str("hello"))
        .with("d", Value::map([("k", Value::str("v")), ("n", Value::Null)]))
        .with("l", Value::list(vec![Value::Int(1), Value::Int(2), Value::Int(3)]))
        .with("m", Value::map([("one", Value::Int(1)), ("two", Value::Int(2))]))
        .with("o", Value::map([("a", Value::Int(7))]))
}

fn run(source: &str) -> (Result<Value, EvalError>, u64) {
    let program = env().compile(source, &[]).unwrap_or_else(|error| panic!("{source}: {error}"));
    let mut budget = CostBudget::new(10_000_000);
    let result = program.evaluate(&bindings(), &mut budget);
    (result, 10_000_000 - budget.left())
}

#[test]
fn hold() {
    for source in [
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && -7 / 2 == -3 && -7 % 2 == -1",
        "dyn(1) == 1.0 && dyn(1u) == 1 && 2 > 1.5 && 1u < 2.5 && dyn(1) != dyn('1')",
        "'a' + 'b' == 'ab' && b'a' + b'b' == b'ab' && [1] + [2] == [1, 2]",
        "'\\u00e9' == 'é' && r'\\n' == '\\\\n' && '''a'b''' == \"a'b\" && b'\\xff' != b'\\x00' && '\\x41' == 'A'",
        "true || d.nope == 1",
        "d.nope == 1 || true",
        "!(false && d.nope == 1) && !(d.nope == 1 && false)",
        "[1, 2, 3].exists(i, i == 2 || d.nope == 1)",
        "!['a', 'b'].all(i, i == 'b' && d.nope == 1)",
        "l.all(i, i > 0) && l.exists(i, i == 3) && l.exists_one(i, i == 2)",
        "l.map(i, i * 2) == [2, 4, 6] && l.filter(i, i > 1) == [2, 3] && l.map(i, i > 1, i * 10) == [20, 30]",
        "m.all(k, m[k] > 0) && 'one' in m && !('three' in m) && size(m) == 2 && m.one == 1",
        "m.all(k, v, v > 0 && k != '') && l.exists(i, v, i == 0 && v == 1)",
        "l.transformList(i, v, i * v) == [0, 2, 6] && m.transformMap(k, v, v + 1) == {'one': 2, 'two': 3}",
        "l.transformMapEntry(i, v, {v: i})[3] == 2 && m.transformList(k, v, v > 1, k) == ['two']",
        "has(o.a) && !has(o.b) && has(d.k) && !has(d.z) && d.n == null",
        "o.?b.orValue('none') == 'none' && o.?a.value() == 7 && o.?a.hasValue() && l[?9].orValue(4) == 4",
        "optional.of(1).optMap(v, v + 1).value() == 2 && optional.none().orValue(3) == 3 && [?o.?b, 'x'] == ['x']",
        "cel.bind(v, x * 2, v + v) == 20",
        "x > 3 ? true : d.nope",
        "size('héllo') == 5 && 'hello'.size() == 5 && size(b'ab') == 2 && s.startsWith('he') && s.endsWith('lo')",
        "s.contains('ell') && s.matches('^h.*o$') && matches(s, 'l+') && s.charAt(1) == 'e' && s.indexOf('l') == 2",
        "s.lastIndexOf('l') == 3 && s.indexOf('l', 3) == 3 && s.upperAscii() == 'HELLO' && ' a '.trim() == 'a'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && ['a', 'b'].join('-') == 'a-b'",
        "'abc'.substring(1) == 'bc' && 'abc'.substring(0, 2) == 'ab' && 'aXbX'.replace('X', 'y', 1) == 'aybX'",
        "'%d of %s, %.2f'.format([dyn(1), 'two', 3.14159]) == '1 of two, 3.14' && '%x %b'.format([255, 5]) == 'ff 101'",
        "strings.quote('a\"b') == '\"a\\\\\"b\"'",
        "int('42') == 42 && uint(3) == 3u && double('1.5') == 1.5 && string(1.5) == '1.5' && int(2.9) == 2 && bool('true')",
        "type(1) == int && type('a') == string && type([]) == list && type(type(1)) == type",
        "duration('1h30m').getMinutes() == 90 && duration('90s') == duration('1m30s') && string(duration('1.5s')) == '1.5s'",
        "timestamp('2024-02-29T12:34:56.5Z').getFullYear() == 2024 && timestamp('2024-02-29T12:34:56Z').getMonth() == 1",
        "timestamp('2024-02-29T12:34:56Z').getDate() == 29 && timestamp('2024-02-29T12:34:56Z').getDayOfWeek() == 4",
        "timestamp('2024-02-29T23:34:56Z').getHours('+02:00') == 1 && timestamp('2024-07-01T00:00:00Z').getHours('Europe/Berlin') == 2",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "string(timestamp('2024-01-01T00:00:00.250Z')) == '2024-01-01T00:00:00.25Z'",
        "l.isSorted() && l.sum() == 6 && l.min() == 1 && l.max() == 3 && l.indexOf(2) == 1 && [1, 2, 1].lastIndexOf(1) == 2",
        "'abc 123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
        "url('https://u@example.com:80/a b?k=v&k=w').getHost() == 'example.com:80' && isURL('/x') && !isURL('x')",
        "url('https://example.com:80/a?k=v&k=w').getQuery() == {'k': ['v', 'w']} && url('https://[::1]:80/').getHostname() == '::1'",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1.5').add(quantity('500m')) == quantity('2')",
        "quantity('1k').compareTo(quantity('1000')) == 0 && isQuantity('1Mi') && !isQuantity('x') && quantity('2').asInteger() == 2",
        "ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('1.2.3') && ip('::1').isLoopback() && ip.isCanonical('::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && isCIDR('::/0')",
        "string(cidr('10.1.2.3/8').masked()) == '10.0.0.0/8' && cidr('10.0.0.0/8').prefixLength() == 8",
        "format.dns1123Label().validate('abc') == optional.none() && format.dns1123Label().validate('Abc').hasValue()",
        "format.named('uuid').value().validate('x').value().size() == 1 && !format.named('nope').hasValue()",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0')) && isSemver('v1.0', true)",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2, 2], [2, 1]) && sets.intersects([1], [1, 2])",
        "{1: 'a'}[dyn(1u)] == 'a' && dyn({'a': 1}) == {'a': 1.0} && dyn(1) in [1.0] && !(2 in [])",
        "jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'",
        "-9223372036854775808 < 0 && 0x1F == 31 && 1e3 == 1000.0 && .5 == 0.5 && 18446744073709551615u > 1u",
        "{'a.b': 1}.`a.b` == 1",
    ] {
        let result = run(source).0;
        assert!(matches!(result, Ok(Value::Bool(true))), "{source}: {result:?}");
    }
}

#[test]
fn fail_at_run_time() {
    for (source, words) in [
        ("1 / (x - 5)", "division by zero"),
        ("x % 0", "modulus by zero"),
        ("9223372036854775807 + x", "integer overflow"),
        ("0u - uint(x)", "unsigned integer overflow"),
        ("l[7]", "index out of bounds: 7"),
        ("m['z']", "no such key: z"),
        ("d.z", "no such key: z"),
        ("o.b", "no such key: b"),
        ("d.k + 1", "no such overload"),
        ("d.k && true", "no such overload"),
        ("optional.none().value()", "optional.none() dereference"),
        ("[].min() == 1", "min called on empty list"),
    ] {
        assert_eq!(run(source).0.map_err(|e| e.to_string()).err().as_deref(), Some(words), "{source}");
    }
}

#[test]
fn costs_are_upstreams() {
    for (source, cost) in [
        ("1 + 2", 1),
        ("x", 1),
        ("x + 1", 2),
        ("o.a", 2),
        ("has(o.a)", 1),
        ("x == 5", 2),
        ("s == 'hello'", 2),
        ("s + s", 3),
        ("s.startsWith('h')", 2),
        ("s.contains('ell')", 2),
        ("[1, 2, 3]", 0),
        ("[x]", 11),
        ("{'a': x}", 31),
        ("x in [1, 2, 5]", 1),
        ("x in l", 5),
        ("l[0]", 2),
        ("x > 3 ? 1 : 2", 2),
        ("duration('1h')", 0),
        // Range 1, result 1, and per item: condition 2, accumulator 1, variable 1, comparison 1.
        ("l.all(i, i > 0)", 1 + 1 + 3 * 5),
        // Per item: condition 3 (with the negation), accumulator 1, variable 1, equality 1; ends after the third.
        ("l.exists(i, i == 3)", 1 + 1 + 3 * 6),
        // Per item: accumulator 1, list 10, sum 1, variable 1.
        ("l.map(i, i)", 1 + 1 + 3 * 13),
        ("quantity('1') == quantity('1')", 3),
    ] {
        let (result, found) = run(source);
        assert!(result.is_ok(), "{source}: {result:?}");
        assert_eq!(found, cost, "{source}");
    }
}

#[test]
fn a_call_ends_at_its_limit() {
    let program = env().compile("l.all(a, l.all(b, l.all(c, a + b + c > 0)))", &[]).unwrap();
    let mut budget = CostBudget::with_call_limit(10_000, 50);
    assert_eq!(program.evaluate(&bindings(), &mut budget).err(), Some(EvalError::CallLimit));
    let mut budget = CostBudget::new(20);
    assert_eq!(program.evaluate(&bindings(), &mut budget).err(), Some(EvalError::BudgetExhausted));
    assert_eq!(budget.left(), 0);
}

#[test]
fn patches_are_built() {
    let env = Env::new().variable("object", Type::Dyn).patch_types();
    let source = "[JSONPatch{op: 'add', path: '/a', value: Object.spec{replicas: 3}}]";
    let program = env.compile(source, &[Type::list(Type::Dyn)]).unwrap();
    assert_eq!(program.result_type().to_string(), "list(JSONPatch)");
    let result = program.evaluate(&cel::NoVariables, &mut CostBudget::new(1_000));
    assert!(
        matches!(result, Ok(Value::List(items, _)) if matches!(&items[0], Value::Object(name, _) if name == "JSONPatch"))
    );
    assert!(env.compile("JSONPatch{nope: 1}", &[]).is_err());
}

/// Allows what is asked by a verb that begins with `g`.
struct Verbs;

impl cel::Authorizer for Verbs {
    fn authorize(&self, query: &cel::AuthorizerQuery) -> cel::Decision {
        cel::Decision {
            allowed: query.verb.starts_with('g'),
            reason: query.resource.to_string(),
            error: None,
        }
    }
}

#[test]
fn the_authorizer_is_asked() {
    let authorizer = std::sync::Arc::new(Verbs);
    let query = cel::AuthorizerQuery { resource: "pods".into(), ..cel::AuthorizerQuery::default() };
    let env = Env::new()
        .variable("authorizer", Type::authorizer())
        .variable("authorizer.requestResource", Type::resource_check());
    let bindings = Bindings::new()
        .with("authorizer", Value::authorizer(authorizer.clone()))
        .with("authorizer.requestResource", Value::resource_check(authorizer, query));
    for source in [
        "authorizer.group('apps').resource('deployments').namespace('a').name('b').check('get').allowed()",
        "!authorizer.path('/healthz').check('post').allowed()",
        "authorizer.requestResource.check('get').reason() == 'pods'",
        "!authorizer.serviceAccount('ns', 'sa').group('').resource('x').check('get').errored()",
    ] {
        let program = env.compile(source, &[Type::Bool]).unwrap();
        let mut budget = CostBudget::new(1_000_000);
        let result = program.evaluate(&bindings, &mut budget);
        assert!(matches!(result, Ok(Value::Bool(true))), "{source}: {result:?}");
        assert!(budget.left() < 650_000, "{source}");
    }
}

#[test]
fn what_is_deep_enough_fits_the_stack() {
    let parens = format!("{}1{}", "(".repeat(110), ")".repeat(110));
    let chain = vec!["1"; 110].join(" + ");
    let lists = format!("{}1{}", "[".repeat(110), "]".repeat(110));
    let folds = format!("{}true{}", "[1].all(x, ".repeat(25), ")".repeat(25));
    let choice = format!("{}1", "false ? 0 : ".repeat(100));
    for source in [parens, chain, lists, folds, choice] {
        let program = Env::new().compile(&source, &[]).unwrap_or_else(|e| panic!("{source}: {e}"));
        let result = program.evaluate(&cel::NoVariables, &mut CostBudget::new(1_000_000));
        assert!(result.is_ok(), "{source}: {result:?}");
    }
}
