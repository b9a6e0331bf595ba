//! Policies end to end: a server in this process.

use schema::{Value, value};

use super::super::testing::{Api, CONFIG_MAPS, config_map};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

fn policy(kind: &str, name: &str, more: Value) -> Value {
    let mut spec = value!({
        "matchConstraints": {"resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]
        }]}
    });
    for (key, value) in more.entries() {
        spec.insert(key.clone(), value.clone());
    }
    value!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": (spec)
    })
}

fn binding(kind: &str, name: &str, more: Value) -> Value {
    let mut spec = value!({"policyName": name});
    for (key, value) in more.entries() {
        spec.insert(key.clone(), value.clone());
    }
    value!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": (format!("{name}-b"))},
        "spec": (spec)
    })
}

async fn validating(api: &Api, name: &str, spec: Value, bound: Value) {
    let kind = "ValidatingAdmissionPolicy";
    api.create(&format!("{GROUP}/validatingadmissionpolicies"), &policy(kind, name, spec)).await;
    let object = binding("ValidatingAdmissionPolicyBinding", name, bound);
    api.create(&format!("{GROUP}/validatingadmissionpolicybindings"), &object).await;
}

async fn mutating(api: &Api, name: &str, spec: Value) {
    let kind = "MutatingAdmissionPolicy";
    api.create(&format!("{GROUP}/mutatingadmissionpolicies"), &policy(kind, name, spec)).await;
    let object = binding("MutatingAdmissionPolicyBinding", name, Value::map());
    api.create(&format!("{GROUP}/mutatingadmissionpolicybindings"), &object).await;
}

const TRIAL: &str = "/api/v1/namespaces/default/configmaps?dryRun=All";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validations_refuse_with_their_message() {
    let api = Api::start().await;
    let spec = value!({
        "variables": [{"name": "count", "expression": "object.data.count"}],
        "matchConditions": [{"name": "counted", "expression": "has(object.data) && 'count' in object.data"}],
        "validations": [
            {"expression": "variables.count != 'many'", "reason": "Forbidden",
             "messageExpression": "'not ' + variables.count + ' in ' + request.namespace"},
            {"expression": "int(variables.count) < 3", "message": "at most two"}
        ],
        "auditAnnotations": [{"key": "count", "valueExpression": "'was ' + variables.count"}]
    });
    validating(&api, "counts", spec, value!({"validationActions": ["Deny"]})).await;
    let counted = |count: &str| config_map("c", value!({"count": count}));
    let refused = api.until(("POST", TRIAL, Some(&counted("5"))), |a| a.code != 201).await;
    assert_eq!(
        (refused.code, refused.body.str_at("reason"), refused.message()),
        (
            422,
            Some("Invalid"),
            "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'counts' with binding 'counts-b' denied request: \
             at most two"
        )
    );
    let many = api.ask("POST", TRIAL, Some(&counted("many"))).await;
    assert_eq!(
        (many.code, many.body.str_at("reason"), many.message()),
        (
            403,
            Some("Forbidden"),
            "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'counts' with binding 'counts-b' denied request: \
             not many in default"
        )
    );
    assert_eq!(api.ask("POST", TRIAL, Some(&counted("2"))).await.code, 201);
    assert_eq!(api.ask("POST", TRIAL, Some(&config_map("c", value!({"x": "y"})))).await.code, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_and_warnings() {
    let api = Api::start().await;
    let spec = value!({
        "paramKind": {"apiVersion": "v1", "kind": "Secret"},
        "validations": [{"expression": "object.metadata.name == params.stringData.name || 'forbidden' in params.metadata.labels"}]
    });
    let bound = value!({
        "paramRef": {"name": "wanted", "parameterNotFoundAction": "Deny"}, "validationActions": ["Warn"]
    });
    validating(&api, "names", spec, bound).await;
    let object = config_map("other", Value::map());
    let missing = api.until(("POST", TRIAL, Some(&object)), |a| a.code != 201).await;
    assert_eq!(
        missing.message(),
        "configmaps \"other\" is forbidden: ValidatingAdmissionPolicy 'names' with binding 'names-b' denied request: \
         failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    );
    let secret = value!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wanted", "labels": {"a": "b"}}
    });
    api.create("/api/v1/namespaces/default/secrets", &secret).await;
    let warned = api.ask("POST", TRIAL, Some(&object)).await;
    assert_eq!(warned.code, 201, "{}", warned.message());
    assert!(
        warned.warnings[0]
            .contains("Validation failed for ValidatingAdmissionPolicy 'names' with binding 'names-b'"),
        "{:?}",
        warned.warnings
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expressions_that_do_not_compile_are_refused() {
    let api = Api::start().await;
    let of = |expression: &str| {
        policy("ValidatingAdmissionPolicy", "p", value!({"validations": [{"expression": expression}]}))
    };
    let path = format!("{GROUP}/validatingadmissionpolicies?dryRun=All");
    let wrong = api.ask("POST", &path, Some(&of("1 + 1"))).await;
    assert!(wrong.message().ends_with("Invalid value: \"1 + 1\": must evaluate to bool but got int"));
    let unknown = api.ask("POST", &path, Some(&of("objekt.spec"))).await;
    assert!(unknown.message().contains("undeclared reference to 'objekt' (in container '')"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutations_apply_and_patch() {
    let api = Api::start().await;
    let apply = value!({
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
            "expression": "Object{metadata: Object.metadata{labels: {'by': 'policy'}}}"
        }}]
    });
    mutating(&api, "labels", apply).await;
    let patch = value!({
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {
            "expression": "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'x': 'y'}}, \
                            JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('a/b'), \
                            value: object.metadata.name}]"
        }}]
    });
    mutating(&api, "patches", patch).await;
    let object = config_map("m", value!({"x": "y"}));
    let done = |a: &super::super::testing::Answer| {
        a.body["metadata"]["annotations"].get("a/b").is_some() && !a.body["metadata"]["labels"].is_null()
    };
    let answer = api.until(("POST", TRIAL, Some(&object)), done).await;
    assert_eq!(answer.body["metadata"]["annotations"], value!({"x": "y", "a/b": "m"}));
    assert_eq!(answer.body["metadata"]["labels"], value!({"by": "policy"}));
    let stored = api.create(CONFIG_MAPS, &object).await;
    assert_eq!(stored["metadata"]["labels"], value!({"by": "policy"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_is_seen_as_such() {
    let api = Api::start().await;
    let rule = value!([{
        "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments/scale"]
    }]);
    let spec = value!({
        "matchConstraints": {"resourceRules": (rule)},
        "validations": [{"expression": "object.kind == 'Scale' && object.spec.replicas - oldObject.spec.replicas < 3"}]
    });
    let deployment = value!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}
            }
        }
    });
    api.create("/apis/apps/v1/namespaces/default/deployments", &deployment).await;
    validating(&api, "scales", spec, value!({"validationActions": ["Deny"]})).await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d/scale?dryRun=All";
    let to = |replicas: i64| value!({"spec": {"replicas": replicas}});
    let refused = api.until(("PATCH", path, Some(&to(9))), |a| a.code != 200).await;
    assert!(refused.message().contains("'scales' with binding 'scales-b' denied request"), "{refused:?}");
    assert_eq!(api.ask("PATCH", path, Some(&to(3))).await.code, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorizer_answers_expressions() {
    let api = Api::start().await;
    let spec = value!({
        "validations": [{
            "expression": "authorizer.group('').resource('pods').namespace('default').check('create').allowed() && \
                           !authorizer.serviceAccount('default', 'nobody').requestResource.check('create').allowed() || \
                           authorizer.requestResource.check('create').allowed() && object.metadata.name == 'x'",
            "message": "may not"
        }]
    });
    let wrong = api
        .ask(
            "POST",
            &format!("{GROUP}/validatingadmissionpolicies?dryRun=All"),
            Some(&policy("ValidatingAdmissionPolicy", "a", spec)),
        )
        .await;
    assert_eq!(wrong.code, 422, "serviceAccount() gives no requestResource");
    let spec = value!({
        "validations": [{
            "expression": "authorizer.requestResource.check('create').allowed() && \
                           !authorizer.serviceAccount('default', 'nobody').group('').resource('pods').check('create').allowed() && \
                           namespaceObject.metadata.name == 'default' && object.metadata.name == 'x'",
            "message": "may not"
        }]
    });
    validating(&api, "asks", spec, value!({"validationActions": ["Deny"]})).await;
    let refused = api.until(("POST", TRIAL, Some(&config_map("y", Value::map()))), |a| a.code != 201).await;
    assert!(refused.message().ends_with("denied request: may not"), "{}", refused.message());
    let allowed = api.ask("POST", TRIAL, Some(&config_map("x", Value::map()))).await;
    assert_eq!(allowed.code, 201, "{}", allowed.message());
}
