// An app that only calls: `client.mjs HOST PORT PROTOCOL TOKEN`, where PROTOCOL is http or grpc.
//
// One configuration subscription is kept by `watch.start` and `watch.stop`; `watch.seen` is what it was told.
//
// Each line of standard input is one call of the SDK's DaprClient, {"call": "state.get", "words": [...]}; each line of
// standard output is what came of it, {"value": ...} or {"error": "..."}. It ends at the end of its input.
import { createInterface } from "node:readline";
import dapr from "@dapr/dapr";
import { logger } from "./logger.mjs";

const [host, port, protocol, token] = process.argv.slice(2);
const client = new dapr.DaprClient({
  daprHost: host,
  daprPort: port,
  communicationProtocol:
    protocol === "grpc" ? dapr.CommunicationProtocolEnum.GRPC : dapr.CommunicationProtocolEnum.HTTP,
  daprApiToken: token,
  logger,
});

const seen = [];
let subscription;
const watch = {
  start: async (store, keys) => {
    subscription = await client.configuration.subscribeWithKeys(store, keys, async ({ items }) => seen.push(items));
  },
  stop: () => subscription.stop(),
  seen: () => seen,
};

// Some methods throw and some return {error: ...}: both are an error here, and an Error is its message.
const readable = (_key, value) => (value instanceof Error ? value.message : value);
const failure = (error) => ({ error: error instanceof Error ? error.message : JSON.stringify(error, readable) });

for await (const line of createInterface({ input: process.stdin })) {
  const { call, words = [] } = JSON.parse(line);
  const [block, method] = call.split(".");
  let answer;
  try {
    const value = await (block === "watch" ? watch : client[block])[method](...words);
    answer = value?.error ? failure(value.error) : { value: value ?? null };
  } catch (error) {
    answer = failure(error?.error ?? error);
  }
  process.stdout.write(`${JSON.stringify(answer, readable)}\n`);
}
await client.stop();
process.exit(0);
