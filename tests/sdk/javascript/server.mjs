// An app that is called: `server.mjs APP_PORT HOST PORT TOKEN PROTOCOL`, the SDK's DaprServer over http or grpc; PORT is
// the instance's port of the same protocol.
//
// Each message that one of its subscriptions is given is one line of standard output, {"at": NAME, "data": ...}. A
// message whose data has {"answer": "RETRY"} or {"answer": "DROP"} is answered so the first time. SIGTERM ends it.
import dapr from "@dapr/dapr";
import express from "express";
import { logger } from "./logger.mjs";

const [appPort, host, port, token, protocol] = process.argv.slice(2);
const grpc = protocol === "grpc";
const failed = `failed-${protocol}`; // the dead-letter topic of this app alone
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// The SDK listens on every address and has no option for one: its own application, held to loopback.
const serverHttp = express();
const listen = serverHttp.listen.bind(serverHttp);
serverHttp.listen = (chosen) => listen(chosen, "127.0.0.1");

const server = new dapr.DaprServer({
  serverHost: "127.0.0.1",
  serverPort: appPort,
  ...(grpc ? {} : { serverHttp }),
  communicationProtocol: grpc ? dapr.CommunicationProtocolEnum.GRPC : dapr.CommunicationProtocolEnum.HTTP,
  clientOptions: { daprHost: host, daprPort: port, daprApiToken: token },
  logger,
});

const answered = new Set();
const record = (at) => async (data) => {
  if (Buffer.isBuffer(data)) data = JSON.parse(data.toString()); // a raw payload over gRPC
  print({ at, data });
  if (!data?.answer || answered.has(data.id)) return dapr.DaprPubSubStatusEnum.SUCCESS;
  answered.add(data.id);
  return data.answer;
};

const { binding, pubsub, invoker, client } = server;
let ticks = 0;
await binding.receive("tick", async (data) => {
  print({ at: "tick", data: data ?? null });
  if (++ticks === 1) throw new Error("the first event is refused, so that it comes again");
});
await pubsub.subscribe("pubsub", "plain", record("plain"));
await pubsub.subscribe("pubsub", "named", record("named"), "/by-name");
await pubsub.subscribe("pubsub", "raw", record("raw"), "", { rawPayload: true });
await pubsub.subscribeBulk("pubsub", "many", record("many"), { maxMessagesCount: 10, maxAwaitDurationMs: 50 });
await pubsub.subscribeWithOptions("pubsub", "failing", { callback: record("failing"), deadLetterTopic: failed });
await pubsub.subscribe("pubsub", failed, record("failed"));
await pubsub.subscribeWithOptions("pubsub", "routed", {
  route: { default: "/others", rules: [{ match: `event.type == "widget"`, path: "/widgets" }] },
});
pubsub.subscribeToRoute("pubsub", "routed", "/others", record("routed others"));
pubsub.subscribeToRoute("pubsub", "routed", "/widgets", record("routed widgets"));

await invoker.listen("greet", async ({ query, headers }) => ({ path: query, caller: headers?.["dapr-caller-app-id"] }));
await invoker.listen("sum", async ({ body }) => ({ sum: JSON.parse(body).reduce((a, b) => a + b, 0) }), {
  method: dapr.HttpMethod.POST,
});
// What it is told is kept under its own identity, by the client inside the server.
await invoker.listen(
  "keep",
  async ({ body }) => {
    const { key, value } = JSON.parse(body);
    try {
      await client.state.save("statestore", [{ key, value }]);
      return { kept: await client.state.get("statestore", key) };
    } catch (error) {
      return { error: error.message }; // thrown out of here, it would end the program: the SDK does not catch it
    }
  },
  { method: dapr.HttpMethod.POST },
);

process.on("SIGTERM", async () => {
  if (!grpc) await server.stop(); // over gRPC it waits until whoever calls the app has closed its connection
  await client.stop();
  process.exit(0);
});
await server.start();
print({ at: "started" });
