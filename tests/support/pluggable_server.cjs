// A pluggable component in another language than ours: state store, message broker, secret store and binding on one socket.
//
//   NODE_PATH=…/node_modules node pluggable_server.cjs PROTO_FOLDER SOCKET
//
// What it holds belongs to the property `space` that an instance was initialised with, and is gone when it ends, unless the
// property `file` names where values and messages are kept; every message then comes again after a restart.
"use strict";
const path = require("node:path");
const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");

const [protoFolder, socket] = process.argv.slice(2);
const files = ["state", "pubsub", "secretstore", "bindings"].map((name) => `dapr/proto/components/v1/${name}.proto`);
const definition = loader.loadSync([...files, "grpc/reflection/v1alpha/reflection.proto"], {
  includeDirs: [protoFolder],
  keepCase: true,
  longs: Number,
  enums: Number,
  defaults: true,
});
const { dapr, grpc: own } = grpc.loadPackageDefinition(definition);
const v1 = dapr.proto.components.v1;

const details = new protobuf.Root();
details.resolvePath = (_, target) => (protobuf.common.get(target) ? target : path.join(protoFolder, target));
details.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"]);

function etagError(code, text) {
  const bad = details.lookupType("google.rpc.BadRequest");
  const status = details.lookupType("google.rpc.Status");
  const value = bad.encode(bad.fromObject({ fieldViolations: [{ field: "etag", description: text }] })).finish();
  const detail = { type_url: "type.googleapis.com/google.rpc.BadRequest", value };
  const metadata = new grpc.Metadata();
  metadata.set(
    "grpc-status-details-bin",
    Buffer.from(status.encode(status.fromObject({ code, message: text, details: [detail] })).finish()),
  );
  return { code, details: text, metadata };
}

// Instances ----------------------------------------------------------------------------------------------------------

const instances = new Map();
const spaces = new Map();

function initialise(call, answer) {
  const properties = call.request.metadata.properties;
  instances.set(call.metadata.get("x-component-instance")[0], properties);
  answer(null, {});
}

function propertiesOf(call) {
  const found = instances.get(call.metadata.get("x-component-instance")[0]);
  if (!found) throw { code: grpc.status.INTERNAL, details: "this instance is not initialised" };
  return found;
}

function spaceOf(call) {
  const name = propertiesOf(call).space ?? "";
  if (!spaces.has(name)) {
    const space = { values: new Map(), topics: new Map(), file: propertiesOf(call).file };
    spaces.set(name, space);
    if (space.file) restore(space);
  }
  return spaces.get(name);
}

function keep(space, what) {
  if (space.file) fs.appendFileSync(space.file, JSON.stringify(what) + "\n");
}

function restore(space) {
  if (!fs.existsSync(space.file)) return;
  for (const line of fs.readFileSync(space.file, "utf8").split("\n")) {
    if (!line.endsWith("}")) continue; // cut off by a crash: nobody was told that it is kept
    const { key, item, message } = JSON.parse(line);
    if (message) topicOf(space, message.topic_name).log.push({ ...message, data: Buffer.from(message.data, "base64") });
    else if (item) space.values.set(key, { ...item, value: Buffer.from(item.value, "base64") });
    else space.values.delete(key);
    messages = Math.max(messages, Number(message?.id ?? 0));
    etags = Math.max(etags, Number(item?.etag ?? 0));
  }
}

const method = (work) => (call, answer) => {
  try {
    answer(null, work(call, call.request) ?? {});
  } catch (error) {
    answer("code" in error ? error : { code: grpc.status.INTERNAL, details: String(error) });
  }
};
const ping = method(() => {});
const features = (...names) => method(() => ({ features: names }));

// State --------------------------------------------------------------------------------------------------------------

let etags = 0;

function live(space, key) {
  const item = space.values.get(key);
  if (item?.expires && item.expires <= Date.now()) space.values.delete(key);
  return space.values.get(key);
}

function check(space, request) {
  const item = live(space, request.key);
  const etag = request.etag?.value;
  if (etag && !item) throw etagError(grpc.status.FAILED_PRECONDITION, "there is no such value");
  if (etag && etag !== item.etag) throw etagError(grpc.status.FAILED_PRECONDITION, "the etag is another one");
  return item;
}

function set(space, request) {
  const item = check(space, request);
  if (!request.etag?.value && item && request.options?.concurrency === 1)
    throw etagError(grpc.status.FAILED_PRECONDITION, "it is there already");
  const seconds = Number(request.metadata.ttlInSeconds ?? 0);
  space.values.set(request.key, {
    value: request.value,
    contentType: request.content_type,
    etag: String(++etags),
    expires: seconds > 0 ? Date.now() + seconds * 1000 : 0,
  });
  const kept = space.values.get(request.key);
  keep(space, { key: request.key, item: { ...kept, value: kept.value.toString("base64") } });
}

function remove(space, request) {
  check(space, request);
  space.values.delete(request.key);
  keep(space, { key: request.key });
}

function get(space, key) {
  const item = live(space, key);
  if (!item) return {};
  const metadata = item.expires ? { ttlExpireTime: new Date(item.expires).toISOString().replace(/\.\d+/, "") } : {};
  return { data: item.value, etag: { value: item.etag }, content_type: item.contentType, metadata };
}

function all(items, work) {
  let first;
  for (const item of items) {
    try {
      work(item);
    } catch (error) {
      first ??= error;
    }
  }
  if (first) throw first;
}

function transact(call, { operations }) {
  const space = spaceOf(call);
  const before = new Map(space.values);
  try {
    for (const { set: write, delete: gone } of operations) write ? set(space, write) : remove(space, gone);
  } catch (error) {
    space.values = before;
    throw error;
  }
}

function query(call, { query: asked }) {
  const equal = asked.filter.EQ ? JSON.parse(Buffer.from(asked.filter.EQ.value)) : {};
  const items = [];
  for (const [key, { value, etag, contentType }] of spaceOf(call).values) {
    if (contentType !== "application/json") continue;
    const found = JSON.parse(value);
    if (Object.entries(equal).every(([name, wanted]) => found?.[name] === wanted))
      items.push({ key, data: value, etag: { value: etag }, content_type: contentType });
  }
  return { items, token: "" };
}

const services = [
  [v1.StateStore, {
    Init: initialise,
    Ping: ping,
    Features: features("ETAG", "TRANSACTIONAL", "TTL", "QUERY_API", "SOMETHING_NEW"),
    Get: method((call, { key }) => get(spaceOf(call), key)),
    Set: method((call, request) => set(spaceOf(call), request)),
    Delete: method((call, request) => remove(spaceOf(call), request)),
    BulkGet: method((call, { items }) => ({
      items: items.map(({ key }) => ({ key, ...get(spaceOf(call), key) })).reverse(),
    })),
    BulkSet: method((call, { items }) => all(items, (item) => set(spaceOf(call), item))),
    BulkDelete: method((call, { items }) => all(items, (item) => remove(spaceOf(call), item))),
  }],
  [v1.TransactionalStateStore, { Transact: method(transact) }],
  [v1.TransactionalStoreMultiMaxSize, { MultiMaxSize: method(() => ({ max_size: 1000 })) }],
  [v1.QueriableStateStore, { Query: method(query) }],
];

// Messages -----------------------------------------------------------------------------------------------------------

let messages = 0;

class Group {
  constructor(log) {
    this.waiting = [...log];
    this.streams = new Set();
  }

  push() {
    while (this.waiting.length) {
      const [stream] = [...this.streams].filter((one) => one.unacked.size < 100)
        .sort((one, other) => one.unacked.size - other.unacked.size);
      if (!stream) return;
      const message = this.waiting.shift();
      stream.unacked.set(message.id, message);
      stream.call.write(message);
    }
  }
}

function topicOf(space, name) {
  if (!space.topics.has(name)) space.topics.set(name, { log: [], groups: new Map() });
  return space.topics.get(name);
}

function publish(space, topic, data, contentType, metadata) {
  const found = topicOf(space, topic);
  const message = { data, topic_name: topic, metadata, content_type: contentType, id: String(++messages) };
  found.log.push(message);
  keep(space, { message: { ...message, data: data.toString("base64") } });
  for (const group of found.groups.values()) {
    group.waiting.push(message);
    group.push();
  }
}

// One stream of messages of a group: `acked` reads an acknowledgement; `open` finds the group by the first request, or is the
// group itself where no request comes first.
function pull(call, open, acked) {
  let group;
  const stream = { call, unacked: new Map() };
  const join = (found) => {
    group = found;
    group.streams.add(stream);
    call.sendMetadata(new grpc.Metadata());
    group.push();
  };
  const leave = () => {
    if (!group?.streams.delete(stream)) return;
    group.waiting.unshift(...stream.unacked.values());
    group.push();
  };
  call.on("data", (request) => {
    if (!group) return join(open(request));
    const { id, refused } = acked(request);
    const message = stream.unacked.get(id);
    if (!stream.unacked.delete(id)) return;
    if (refused) {
      setTimeout(() => {
        group.waiting.push(message);
        group.push();
      }, 40);
    }
    group.push();
  });
  call.on("end", () => {
    leave();
    call.end();
  });
  call.on("cancelled", leave);
  call.on("error", leave);
  if (open instanceof Group) join(open);
}

const pullMessages = (call) =>
  pull(call, ({ topic }) => {
    const consumer = propertiesOf(call).consumerID ?? "";
    const found = topicOf(spaceOf(call), topic.name);
    if (!found.groups.has(consumer)) found.groups.set(consumer, new Group(found.log));
    return found.groups.get(consumer);
  }, (request) => ({ id: request.ack_message_id, refused: request.ack_error }));

services.push([v1.PubSub, {
  Init: initialise,
  Ping: ping,
  Features: features("BULK_PUBSUB"),
  Publish: method((call, { topic, data, content_type, metadata }) =>
    publish(spaceOf(call), topic, data, content_type, metadata)),
  BulkPublish: method((call, { topic, entries }) => {
    for (const entry of entries) publish(spaceOf(call), topic, entry.event, entry.content_type, entry.metadata);
    return { failed_entries: [] };
  }),
  PullMessages: pullMessages,
  Pause: method(() => {}),
  Resume: method(() => {}),
}]);

// Secrets ------------------------------------------------------------------------------------------------------------

const secretsOf = (call) => JSON.parse(propertiesOf(call).secrets ?? "{}");

services.push([v1.SecretStore, {
  Init: initialise,
  Ping: ping,
  Features: features("MULTIPLE_KEY_VALUES_PER_SECRET"),
  Get: method((call, { key }) => {
    const found = secretsOf(call)[key];
    if (!found) throw { code: grpc.status.NOT_FOUND, details: "no such secret" };
    return { data: found };
  }),
  BulkGet: method((call) => ({
    data: Object.fromEntries(Object.entries(secretsOf(call)).map(([name, secrets]) => [name, { secrets }])),
  })),
}]);

// Bindings -----------------------------------------------------------------------------------------------------------

// What `emit` was called with comes as an event to each instance that reads, from its first `Read` on, until it is accepted;
// `answers` tells what apps answered.
function sourceOf(call) {
  const space = spaceOf(call);
  space.readers ??= new Map();
  space.answers ??= [];
  return space;
}

function read(call) {
  const instance = call.metadata.get("x-component-instance")[0];
  const { readers, answers } = sourceOf(call);
  if (!readers.has(instance)) readers.set(instance, new Group([]));
  pull(call, readers.get(instance), (request) => {
    answers.push(`${instance} ${request.response_error?.message ?? request.response_data}`);
    return { id: request.message_id, refused: request.response_error };
  });
}

function invoke(call, { operation, data, metadata }) {
  const { readers, answers } = sourceOf(call);
  if (operation === "create") throw { code: grpc.status.RESOURCE_EXHAUSTED, details: "it is full" };
  if (operation === "answers") return { data: Buffer.from(JSON.stringify(answers)) };
  if (operation === "emit") {
    for (const group of readers.values()) {
      const id = String(++messages);
      group.waiting.push({ id, message_id: id, data, metadata: { ...metadata, number: id } });
      group.push();
    }
    return {};
  }
  return { data: Buffer.concat([Buffer.from(`${operation} `), data]), metadata: { ...metadata, by: "javascript" } };
}

services.push([v1.OutputBinding, {
  Init: initialise,
  Ping: ping,
  ListOperations: method(() => ({ operations: ["create", "echo", "emit", "answers"] })),
  Invoke: method(invoke),
}]);
services.push([v1.InputBinding, { Init: initialise, Ping: ping, Read: read }]);

// Reflection and start -------------------------------------------------------------------------------------------------

const names = Object.keys(definition).filter((name) => name.startsWith("dapr.") && !definition[name].format);
services.push([own.reflection.v1alpha.ServerReflection, {
  ServerReflectionInfo: (call) => {
    call.on("data", (request) =>
      call.write({
        original_request: request,
        list_services_response: { service: names.map((name) => ({ name })) },
      }));
    call.on("end", () => call.end());
  },
}]);

const server = new grpc.Server({
  "grpc.max_receive_message_length": 64 * 1024 * 1024,
  "grpc.max_send_message_length": 64 * 1024 * 1024,
});
for (const [service, methods] of services) server.addService(service.service, methods);
fs.rmSync(socket, { force: true });
server.bindAsync(`unix:${socket}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log("ready");
});
