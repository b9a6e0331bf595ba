// What programs on the JavaScript client rely on: node client.mjs SERVER TOKEN

import assert from 'node:assert/strict';
import * as k8s from '@kubernetes/client-node';

const [server, token] = process.argv.slice(2);
const config = new k8s.KubeConfig();
config.loadFromOptions({
  clusters: [{ name: 'c', server, skipTLSVerify: true }],
  users: [{ name: 'c', token }],
  contexts: [{ name: 'c', cluster: 'c', user: 'c' }],
  currentContext: 'c',
});
const core = config.makeApiClient(k8s.CoreV1Api);
const namespace = 'javascript';
const patched = (strategy) => k8s.setHeaderOptions('Content-Type', strategy);

/// Events of an informer in order, awaited one by one.
class Events {
  constructor(informer) {
    this.seen = [];
    this.waiting = [];
    for (const type of ['add', 'update', 'delete']) {
      informer.on(type, (object) => this.push([type, object.metadata.name, object.data?.a]));
    }
    informer.on('error', (error) => this.push(['error', String(error), undefined]));
  }

  push(event) {
    const next = this.waiting.shift();
    if (next) next(event); else this.seen.push(event);
  }

  next() {
    return this.seen.length ? this.seen.shift() : new Promise((done) => this.waiting.push(done));
  }
}

async function refused(code, reason, call) {
  await assert.rejects(call, (error) => {
    const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
    assert.equal(error.code, code, String(error));
    assert.equal(status.kind, 'Status');
    assert.equal(status.reason, reason);
    return true;
  });
}

async function objects() {
  await core.createNamespace({ body: { metadata: { name: namespace } } });
  const made = await core.createNamespacedConfigMap({
    namespace,
    body: { metadata: { name: 'a', labels: { app: 'x' } }, data: { a: '1' } },
  });
  assert.ok(made.metadata.creationTimestamp instanceof Date);
  await refused(409, 'AlreadyExists', core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' } } }));
  await refused(404, 'NotFound', core.readNamespacedConfigMap({ namespace, name: 'none' }));
  await refused(422, 'Invalid', core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'No!' } } }));

  const name = 'a';
  const merged = await core.patchNamespacedConfigMap(
    { namespace, name, body: { data: { b: '2' } } },
    patched(k8s.PatchStrategy.MergePatch),
  );
  assert.deepEqual(merged.data, { a: '1', b: '2' });
  const jsonPatched = await core.patchNamespacedConfigMap(
    { namespace, name, body: [{ op: 'remove', path: '/data/b' }] },
    patched(k8s.PatchStrategy.JsonPatch),
  );
  assert.deepEqual(jsonPatched.data, { a: '1' });
  await core.patchNamespacedConfigMap(
    { namespace, name, body: { metadata: { labels: { app: null, tier: 'low' } } } },
    patched(k8s.PatchStrategy.StrategicMergePatch),
  );
  const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { a: '2' } };
  const apply = { namespace, name, body, fieldManager: 'javascript' };
  await refused(409, 'Conflict', core.patchNamespacedConfigMap(apply, patched(k8s.PatchStrategy.ServerSideApply)));
  const applied = await core.patchNamespacedConfigMap(
    { ...apply, force: true },
    patched(k8s.PatchStrategy.ServerSideApply),
  );
  assert.equal(applied.data.a, '2');
  assert.deepEqual(applied.metadata.labels, { tier: 'low' });
  assert.ok(applied.metadata.managedFields.some((f) => f.manager === 'javascript' && f.operation === 'Apply'));

  const stale = { ...applied, metadata: { ...applied.metadata, resourceVersion: made.metadata.resourceVersion } };
  await refused(409, 'Conflict', core.replaceNamespacedConfigMap({ namespace, name, body: stale }));
  for (const name of ['p1', 'p2', 'p3']) {
    await core.createNamespacedSecret({ namespace, body: { metadata: { name }, stringData: { k: name } } });
  }
  const page = await core.listNamespacedSecret({ namespace, limit: 2 });
  assert.equal(page.items.length, 2);
  const rest = await core.listNamespacedSecret({ namespace, limit: 2, _continue: page.metadata._continue });
  assert.equal(rest.items.length, 1);
  assert.equal(Buffer.from(rest.items[0].data.k, 'base64').toString(), 'p3');
}

async function informer() {
  const list = () => core.listNamespacedConfigMap({ namespace });
  const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list);
  const events = new Events(informer);
  await informer.start();
  assert.deepEqual(await events.next(), ['add', 'a', '2']);
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'b' }, data: { a: '1' } } });
  assert.deepEqual(await events.next(), ['add', 'b', '1']);
  await core.patchNamespacedConfigMap(
    { namespace, name: 'b', body: { data: { a: '3' } } },
    patched(k8s.PatchStrategy.MergePatch),
  );
  assert.deepEqual(await events.next(), ['update', 'b', '3']);
  await core.deleteNamespacedConfigMap({ namespace, name: 'b' });
  assert.deepEqual(await events.next(), ['delete', 'b', '3']);
  assert.equal(informer.get('a', namespace).data.a, '2');
  await informer.stop();
}

async function anyKind() {
  const client = k8s.KubernetesObjectApi.makeApiClient(config);
  const group = 'javascript.example.com';
  await client.create({
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `games.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { plural: 'games', singular: 'game', kind: 'Game' },
      versions: [{
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: { type: 'object', properties: { players: { type: 'integer', minimum: 1 } } },
              status: { type: 'object', x_kubernetes_preserve_unknown_fields: true },
            },
          },
        },
      }],
    },
  });
  const definitions = config.makeApiClient(k8s.ApiextensionsV1Api);
  for (;;) {
    const { status } = await definitions.readCustomResourceDefinition({ name: `games.${group}` });
    if (status?.conditions?.some((c) => c.type === 'Established' && c.status === 'True')) break;
    await new Promise((done) => setTimeout(done, 20));
  }
  const game = (players) => ({ apiVersion: `${group}/v1`, kind: 'Game', metadata: { name: 'chess', namespace }, spec: { players } });
  await refused(422, 'Invalid', client.create(game(0)));
  const made = await client.create(game(2));
  assert.equal(made.metadata.generation, 1);
  const custom = config.makeApiClient(k8s.CustomObjectsApi);
  const which = { group, version: 'v1', namespace, plural: 'games', name: 'chess' };
  await custom.patchNamespacedCustomObjectStatus(
    { ...which, body: { status: { round: 7 } } },
    patched(k8s.PatchStrategy.MergePatch),
  );
  const read = await client.read(made);
  assert.equal(read.status.round, 7);
  assert.equal(read.metadata.generation, 1);
  await client.delete(made);
  await refused(404, 'NotFound', client.read(made));
}

async function questions() {
  const { gitVersion } = await config.makeApiClient(k8s.VersionApi).getCode();
  assert.match(gitVersion, /^v1\.36/);
  const review = await config.makeApiClient(k8s.AuthorizationV1Api).createSelfSubjectAccessReview({
    body: { spec: { resourceAttributes: { verb: 'get', resource: 'pods' } } },
  });
  assert.equal(review.status.allowed, true);
}

await objects();
await informer();
await anyKind();
await questions();
await core.deleteNamespace({ name: namespace });
console.log('the JavaScript client works');
