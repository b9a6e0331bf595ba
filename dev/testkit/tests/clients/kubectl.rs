//! What kubectl's commands say and do that need no node: every output form, patches, apply, permissions, requests for
//! certificates and tokens. What needs one is in the stories of whole clusters.

use serde_json::{Value, json};

use super::Server;
use testkit::Output;

/// A server with kubectl of some version.
struct Session {
    server: Server,
    /// kubectl is of version 1.MINOR.
    minor: u32,
}

const DEPLOYMENT: &str = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "example.local/web:v1"}]}}}}"#;

impl Session {
    fn start() -> Self {
        let server = Server::start();
        let version = server.kubectl(&["version", "--client", "-o", "json"]).output().ok();
        let version: Value = serde_json::from_str(&version).expect("JSON");
        let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
        let minor = minor.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
        Self { server, minor }
    }

    fn run(&self, line: &str, input: &str) -> Output {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.server.kubectl(&words).input(input).output()
    }

    /// What a command prints.
    #[track_caller]
    fn k(&self, line: &str) -> String {
        self.run(line, "").ok()
    }

    /// The same, with an object to read.
    #[track_caller]
    fn with(&self, line: &str, object: &Value) -> String {
        self.run(line, &object.to_string()).ok()
    }

    /// What a command complains of.
    #[track_caller]
    fn err(&self, line: &str) -> String {
        self.run(line, "").err()
    }

    /// The lines that a command prints, their words one space apart.
    #[track_caller]
    fn table(&self, line: &str) -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        self.k(line).lines().map(words).collect()
    }
}

#[test]
fn kubectl_works() {
    if !super::can_start(&["kubectl"]) {
        return;
    }
    let session = Session::start();
    session.run("create -f -", DEPLOYMENT).ok();
    output_forms(&session);
    edits(&session);
    apply(&session);
    shortcuts(&session);
    permissions(&session);
    certificates(&session);
    nodes(&session);
    documents(&session);
}

fn output_forms(s: &Session) {
    assert_eq!(s.k("get deploy -o name"), "deployment.apps/web");
    assert_eq!(
        s.table("get deploy web --no-headers -o custom-columns=N:.metadata.name,R:.spec.replicas"),
        ["web 2"]
    );
    assert_eq!(
        s.k("get deploy -o jsonpath={.items[*].spec.template.spec.containers[0].image}"),
        "example.local/web:v1"
    );
    let template = "{{range .items}}{{.metadata.name}}={{.spec.replicas}}{{end}}";
    assert_eq!(
        s.server.kubectl(&["get", "deploy", "-o", "go-template", "--template", template]).output().ok(),
        "web=2"
    );
    let wide = s.table("get deploy web -o wide --show-labels");
    assert_eq!(wide[0], "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR LABELS");
    assert!(
        wide[1].starts_with("web 0/2 0 0") && wide[1].ends_with("c example.local/web:v1 app=web app=web"),
        "{wide:?}"
    );
    assert!(s.table("get deploy -L app")[0].ends_with("AGE APP"));
    assert!(s.k("get deploy web -o yaml").contains("kind: Deployment\n"));
    let sorted = "get ns --sort-by={.metadata.name} -o name";
    assert_eq!(
        s.table(sorted),
        ["default", "kube-node-lease", "kube-public", "kube-system"].map(|n| format!("namespace/{n}"))
    );
    assert_eq!(
        s.k("get ns --chunk-size=1 --field-selector=metadata.name=default -o name"),
        "namespace/default"
    );
    assert_eq!(s.k("get deploy -l app=web,app!=other -o name"), "deployment.apps/web");
    assert!(s.err("get pods none").contains("Error from server (NotFound): pods \"none\" not found"));
    assert!(s.err("get nothing").contains("the server doesn't have a resource type \"nothing\""));
    assert!(s.k("describe deploy web").contains("Replicas:"));
    assert!(s.k("get --raw /api/v1/namespaces/default").contains("\"kind\":\"Namespace\""));
    if s.minor >= 24 {
        let scale = s.table("get deploy web --subresource=scale");
        assert_eq!(scale[0], "NAME DESIRED AVAILABLE AGE");
        assert!(scale[1].starts_with("web 2 0 "), "{scale:?}");
    }
}

fn edits(s: &Session) {
    for (kind, patch, replicas) in [
        ("strategic", r#"{"spec":{"replicas":3}}"#, "3"),
        ("merge", r#"{"spec":{"replicas":4}}"#, "4"),
        ("json", r#"[{"op":"replace","path":"/spec/replicas","value":5}]"#, "5"),
    ] {
        s.k(&format!("patch deploy web --type={kind} -p {patch}"));
        assert_eq!(s.k("get deploy web -o jsonpath={.spec.replicas}"), replicas);
    }
    assert!(s.err(r#"patch deploy web -p {"spec":{"replicas":"x"}}"#).contains("unrecognized type: int32"));
    assert_eq!(s.k("label deploy web tier=low"), "deployment.apps/web labeled");
    assert!(s.err("label deploy web tier=high").contains("--overwrite is false"));
    s.k("label deploy web tier=high --overwrite");
    s.k("annotate deploy web note=one");
    assert!(s.err("annotate deploy web note=two").contains("--overwrite is false"));
    s.k("annotate deploy web note=two --overwrite");
    assert_eq!(
        s.k("get deploy web -o jsonpath={.metadata.labels.tier}{.metadata.annotations.note}"),
        "hightwo"
    );
    s.k("label deploy web tier-");
    s.k("scale deploy web --replicas=2");
    assert!(
        s.err("scale deploy web --replicas=1 --current-replicas=9")
            .contains("Expected replicas to be 9, was 2")
    );
    s.k("set image deploy/web c=example.local/web:v2");
    s.k("set env deploy/web COLOUR=red");
    s.k("set resources deploy/web --limits=cpu=100m");
    s.k("set serviceaccount deploy/web robot");
    let spec: Value =
        serde_json::from_str(&s.k("get deploy web -o jsonpath={.spec.template.spec}")).expect("JSON");
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "example.local/web:v2");
    assert_eq!(container["env"], json!([{"name": "COLOUR", "value": "red"}]));
    assert_eq!(
        (&container["resources"]["limits"]["cpu"], &spec["serviceAccountName"]),
        (&json!("100m"), &json!("robot"))
    );
    let edited =
        s.server.kubectl(&["edit", "deploy", "web"]).env("EDITOR", "sed -i s/COLOUR/SHADE/").output().ok();
    assert_eq!(edited, "deployment.apps/web edited");
    let wrong =
        s.server.kubectl(&["edit", "deploy", "web"]).env("EDITOR", "sed -i s/replicas:.2/replicas:\\ -1/");
    let wrong = wrong.output().err();
    assert!(wrong.contains("deployments.apps \"web\" is invalid"), "{wrong}");
    s.k("rollout pause deploy web");
    assert!(s.err("rollout pause deploy web").contains("is already paused"));
    s.k("rollout resume deploy web");
    s.k("rollout restart deploy web");
}

fn apply(s: &Session) {
    let map = |a: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"a": a}});
    assert_eq!(s.with("create -f -", &map("0")), "configmap/map created");
    assert!(s.run("create -f -", &map("0").to_string()).err().contains("(AlreadyExists)"));
    assert_eq!(s.with("replace -f -", &map("1")), "configmap/map replaced");
    let forced = s.with("replace --force -f -", &map("2"));
    assert!(forced.contains("deleted") && forced.contains("configmap/map replaced"), "{forced}");
    assert_eq!(s.with("apply -f -", &map("3")), "configmap/map configured");
    assert_eq!(s.with("apply -f -", &map("3")), "configmap/map unchanged");
    assert!(s.k("apply view-last-applied cm map").contains("a: \"3\""));
    assert_eq!(s.with("apply --dry-run=server -f -", &map("4")), "configmap/map configured (server dry run)");
    let diff = s.run("diff -f -", &map("4").to_string());
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    assert!(diff.stdout.contains("-  a: \"3\"\n+  a: \"4\"\n"), "{}", diff.stdout);
    let theirs = s.run("apply --server-side --field-manager=other -f -", &map("5").to_string()).err();
    assert!(
        theirs.contains("Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\""),
        "{theirs}"
    );
    s.with("apply --server-side --field-manager=other --force-conflicts -f -", &map("5"));
    assert_eq!(s.k("get cm map -o jsonpath={.data.a}"), "5");
    if s.minor >= 25 {
        let mut wrong = map("6");
        wrong["dat"] = json!(1);
        let strict = s.run("apply --validate=strict -f -", &wrong.to_string()).err();
        assert!(strict.contains("strict decoding error: unknown field \"dat\""), "{strict}");
        let warned = s.run("apply --validate=warn -f -", &wrong.to_string());
        assert!(warned.stderr.contains("Warning: unknown field \"dat\""), "{warned:?}");
        warned.ok();
    }
    let folder = s.server.folder.path().join("kustomization");
    std::fs::create_dir_all(&folder).expect("a folder");
    let text = "namePrefix: k-\nconfigMapGenerator: [{name: made, literals: [a=b]}]\n";
    std::fs::write(folder.join("kustomization.yaml"), text).expect("a file");
    let folder = folder.display();
    assert!(s.k(&format!("apply -k {folder}")).starts_with("configmap/k-made-"));
    assert_eq!(s.k(&format!("diff -k {folder}")), "");
    assert!(s.k(&format!("delete -k {folder}")).contains("deleted"));
}

fn shortcuts(s: &Session) {
    assert_eq!(s.k("expose deploy web --port=80 --target-port=8080"), "service/web exposed");
    assert_eq!(
        s.k("get service web -o jsonpath={.spec.selector.app}:{.spec.ports[0].targetPort}"),
        "web:8080"
    );
    s.k("autoscale deploy web --min=1 --max=3 --cpu-percent=50");
    assert_eq!(s.k("get hpa web -o jsonpath={.spec.scaleTargetRef.name}{.spec.maxReplicas}"), "web3");
    for line in [
        "create secret generic plain --from-literal=a=b",
        "create secret docker-registry pull --docker-username=u --docker-password=p",
        "create quota few --hard=pods=9",
        "create priorityclass high --value=5",
        "create ingress way --rule=a.example/x=web:80",
        "create serviceaccount robot",
        "create namespace other",
        "create job once --image=example.local/web:v1 -- true",
        "create service externalname away --external-name=example.org",
    ] {
        assert!(s.k(line).ends_with(" created"), "{line}");
    }
    // Older ones create these in versions that are gone.
    if s.minor >= 25 {
        s.k("create pdb careful --selector=app=web --min-available=1");
        s.k("create cronjob often --image=example.local/web:v1 --schedule=@hourly");
        assert!(s.k("create job by-hand --from=cronjob/often").ends_with(" created"));
    }
    assert_eq!(s.k("get secret plain -o jsonpath={.data.a}"), "Yg==");
    assert!(s.err("wait cm/none --for=condition=Ready --timeout=1s").contains("(NotFound)"));
    let delay = "wait cm/map --for=jsonpath={.data.a}=6 --timeout=5s";
    if s.minor >= 25 {
        assert_eq!(s.k(delay), "configmap/map condition met");
    }
    let late = s.err("wait deploy/web --for=condition=Available --timeout=1s");
    assert!(late.contains("timed out waiting for the condition"), "{late}");
}

fn permissions(s: &Session) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "viewer-of-maps"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "joe"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "viewer-of-maps"},
        "subjects": [{"kind": "User", "name": "joe", "apiGroup": "rbac.authorization.k8s.io"}]});
    let both = json!({"apiVersion": "v1", "kind": "List", "items": [role, binding]});
    let made = s.run("auth reconcile -f -", &both.to_string());
    let told = [&made.stdout[..], &made.stderr].concat();
    made.ok();
    assert!(
        told.contains("reconciliation required create") && told.contains("missing subjects added"),
        "{told}"
    );
    let again = s.run("auth reconcile -f -", &both.to_string());
    assert!(!again.stdout.contains("required") && !again.stderr.contains("required"), "{again:?}");
    assert_eq!(s.k("auth can-i list configmaps --as=joe"), "yes");
    let no = s.run("auth can-i delete configmaps --as=joe", "");
    assert_eq!((no.status.code(), no.stdout.trim()), (Some(1), "no"));
    assert_eq!(s.k("auth can-i * *"), "yes");
    let rules = s.table("auth can-i --list --as=joe");
    assert!(rules.contains(&"configmaps [] [] [get list]".to_owned()), "{rules:?}");
    let refused = s.err("get secrets --as=joe");
    let why = "Error from server (Forbidden): secrets is forbidden: User \"joe\" cannot list resource \"secrets\" in API \
               group \"\" in the namespace \"default\"";
    assert!(refused.contains(why), "{refused}");
    s.k("create role reader --verb=get --resource=pods");
    s.k("create rolebinding readers --role=reader --serviceaccount=default:robot");
    assert_eq!(s.k("auth can-i get pods --as=system:serviceaccount:default:robot"), "yes");
    if s.minor >= 28 {
        assert!(s.table("auth whoami").contains(&"Username admin".to_owned()));
    }
}

fn certificates(s: &Session) {
    if testkit::find_program("openssl").is_none() {
        return println!("no openssl: requests for certificates are not tested");
    }
    let key = s.server.folder.path().join("joe.key").display().to_string();
    let words = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-subj", "/CN=joe"];
    let request = testkit::Run::new(&words).output().ok();
    for (name, command, state) in [("good", "approve", "Approved"), ("bad", "deny", "Denied")] {
        let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
            "spec": {"request": base64(request.as_bytes()), "signerName": "example.com/own", "usages": ["client auth"]}});
        s.with("create -f -", &object);
        assert!(s.table("get csr")[1..].iter().any(|line| line.ends_with("Pending")));
        s.k(&format!("certificate {command} {name}"));
        let conditions = s.k(&format!("get csr {name} -o jsonpath={{.status.conditions[*].type}}"));
        assert_eq!(conditions, state);
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[((word >> (18 - 6 * i)) & 63) as usize];
            out.push(if i > chunk.len() { '=' } else { digit as char });
        }
    }
    out
}

fn nodes(s: &Session) {
    s.with("create -f -", &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}));
    assert_eq!(s.k("taint node n a=b:NoSchedule"), "node/n tainted");
    assert!(s.err("taint node n a=c:NoSchedule").contains("--overwrite is false"));
    assert_eq!(s.k("taint node n a=c:NoSchedule --overwrite"), "node/n modified");
    assert_eq!(s.k("taint node n a-"), "node/n untainted");
    assert_eq!(s.k("cordon n"), "node/n cordoned");
    assert!(s.table("get nodes")[1].contains("SchedulingDisabled"));
    assert_eq!(s.k("uncordon n"), "node/n uncordoned");
    assert!(s.err("top nodes").contains("Metrics API not available"));
}

fn documents(s: &Session) {
    assert!(s.k("api-versions").lines().any(|version| version == "autoscaling/v2"));
    assert!(
        s.table("api-resources --api-group=apps")
            .iter()
            .any(|line| line == "deployments deploy apps/v1 true Deployment")
    );
    assert!(s.k("explain deployment.spec.strategy").contains("rollingUpdate"));
    assert!(
        s.k("explain hpa --api-version=autoscaling/v2 --recursive").contains("stabilizationWindowSeconds")
    );
    assert!(s.err("explain deployment.spec.nothing").contains("field \"nothing\" does not exist"));
    assert!(s.k("cluster-info").contains("is running at"));
    let folder = s.server.folder.path().join("dump");
    s.k(&format!("cluster-info dump --output-directory={}", folder.display()));
    assert!(folder.join("nodes.json").is_file());
    assert!(s.k("version -o json").contains("\"serverVersion\""));
    let port = testnet::reserve_port().to_string();
    let mut proxy = s.server.kubectl(&["proxy", "--port", &port]).spawn();
    testkit::wait_until("kubectl proxy answers", || {
        let url = format!("http://127.0.0.1:{port}/api/v1/namespaces/default");
        let answer = testkit::Run::new(&["curl", "-sf", &url]).output();
        if answer.stdout.contains("\"default\"") { Ok(()) } else { Err(answer.stderr) }
    });
    let _ = proxy.kill();
    let _ = proxy.wait();
    let events = s.k("get events");
    assert!(events.is_empty(), "{events}");
    if s.minor >= 26 {
        s.k("events --types=Warning");
    }
}
