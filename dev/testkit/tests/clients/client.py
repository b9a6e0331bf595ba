"""The official Python client: objects, watches, scale, custom resources and apply. Arguments: URL and token."""

import sys
import threading

import urllib3
from kubernetes import client, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.dynamic.exceptions import DynamicApiError

urllib3.disable_warnings()
configuration = client.Configuration()
configuration.host = sys.argv[1]
configuration.verify_ssl = False
configuration.api_key = {"authorization": f"Bearer {sys.argv[2]}"}
api = client.ApiClient(configuration)
core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
NAMESPACE = "clients"


def config_maps():
    """Every verb on one object, while a watch looks on."""
    first = core.list_namespaced_config_map(NAMESPACE)
    seen = []

    def look():
        stream = watch.Watch()
        for event in stream.stream(
            core.list_namespaced_config_map,
            NAMESPACE,
            resource_version=first.metadata.resource_version,
            timeout_seconds=60,
        ):
            seen.append(event["type"])
            if event["type"] == "DELETED":
                stream.stop()

    watcher = threading.Thread(target=look)
    watcher.start()
    core.create_namespaced_config_map(
        NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a"), data={"x": "1"})
    )
    core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"y": "2"}})
    found = core.read_namespaced_config_map("a", NAMESPACE)
    assert found.data == {"x": "1", "y": "2"}, found
    found.data["z"] = "3"
    core.replace_namespaced_config_map("a", NAMESPACE, found)
    try:
        core.replace_namespaced_config_map("a", NAMESPACE, found)
        raise AssertionError("an old revision was accepted")
    except ApiException as error:
        assert error.status == 409, error
    core.delete_namespaced_config_map("a", NAMESPACE)
    watcher.join()
    assert seen == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"], seen


def scale():
    """The scale subresource of a deployment."""
    container = client.V1Container(name="main", image="example.local/none")
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "d"}), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(replicas=2, selector={"matchLabels": {"app": "d"}}, template=template)
    apps.create_namespaced_deployment(
        NAMESPACE, client.V1Deployment(metadata=client.V1ObjectMeta(name="d"), spec=spec)
    )
    current = apps.read_namespaced_deployment_scale("d", NAMESPACE)
    current.spec.replicas = 5
    apps.replace_namespaced_deployment_scale("d", NAMESPACE, current)
    assert apps.read_namespaced_deployment("d", NAMESPACE).spec.replicas == 5


def custom_resources():
    """A definition with a rule, found by discovery; the rule, and apply."""
    properties = {
        "spec": {
            "type": "object",
            "x-kubernetes-validations": [{"rule": "self.min <= self.max", "message": "min is over max"}],
            "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}},
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "toys.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "toys", "kind": "Toy"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                }
            ],
        },
    }
    objects = dynamic.DynamicClient(api)
    definitions = objects.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    definitions.create(body=definition)
    for event in definitions.watch(name="toys.example.com", timeout=60):
        conditions = (event["raw_object"].get("status") or {}).get("conditions") or []
        if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            break
    objects.resources.invalidate_cache()
    toys = objects.resources.get(api_version="example.com/v1", kind="Toy")

    def toy(name, spec):
        return {"apiVersion": "example.com/v1", "kind": "Toy", "metadata": {"name": name}, "spec": spec}

    toys.create(namespace=NAMESPACE, body=toy("good", {"min": 1, "max": 2}))
    try:
        toys.create(namespace=NAMESPACE, body=toy("bad", {"min": 3, "max": 2}))
        raise AssertionError("the rule did not hold")
    except DynamicApiError as error:
        assert error.status == 422 and "min is over max" in str(error.body), error
    toys.server_side_apply(
        namespace=NAMESPACE,
        name="good",
        field_manager="clients",
        force_conflicts=True,
        body=toy("good", {"max": 7}),
    )
    assert toys.get(namespace=NAMESPACE, name="good").spec.to_dict() == {"min": 1, "max": 7}


core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
config_maps()
scale()
custom_resources()
print("every call was answered as it must be")
