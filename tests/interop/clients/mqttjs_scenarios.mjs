// Scenarios for MQTT.js against a broker on the loopback interface:
//
//     node mqttjs_scenarios.mjs SCENARIO PORT
//
// Ends with status 0 if the broker did as it should, with a stack trace if not.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";

const installed = new URL("../../../target/interop/package.json", import.meta.url);
const mqtt = createRequire(installed)("mqtt");
const [scenario, port] = process.argv.slice(2);
const PATIENCE_MS = 20_000;
const QUIET_MS = 300;

setTimeout(() => {
  console.error("the scenario takes too long");
  process.exit(1);
}, PATIENCE_MS).unref();

async function connect(clientId, options = {}) {
  const url = `mqtt://127.0.0.1:${port}`;
  const client = mqtt.connect(url, { clientId, reconnectPeriod: 0, ...options });
  client.inbox = [];
  client.on("message", (topic, payload, packet) => client.inbox.push(packet));
  await once(client, "connect");
  return client;
}

async function next(client) {
  while (client.inbox.length === 0) await once(client, "message");
  return client.inbox.shift();
}

async function expect(client, ...messages) {
  for (const expected of messages) {
    const { topic, payload, qos } = await next(client);
    assert.deepEqual([topic, payload.toString(), qos], expected);
  }
}

async function expectNothing(client) {
  await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
  assert.deepEqual(client.inbox, []);
}

const connectV5 = (clientId, options = {}) =>
  connect(clientId, { protocolVersion: 5, ...options });

const numbers = (count) => Array.from({ length: count }, (_, number) => String(number));

const scenarios = {
  async order_at_every_qos() {
    for (const qos of [0, 1, 2]) {
      const subscriber = await connect(`s${qos}`);
      await subscriber.subscribeAsync("order", { qos });
      const publisher = await connect(`p${qos}`);
      await Promise.all(numbers(600).map((n) => publisher.publishAsync("order", n, { qos })));
      await expect(subscriber, ...numbers(600).map((n) => ["order", n, qos]));
      await expectNothing(subscriber);
    }
  },

  async large_payload() {
    const payload = Buffer.alloc(1_000_000, "0123456789abcdefg");
    const subscriber = await connect("s");
    await subscriber.subscribeAsync("big", { qos: 2 });
    const publisher = await connect("p");
    for (const qos of [0, 1, 2]) {
      await publisher.publishAsync("big", payload, { qos });
      const message = await next(subscriber);
      assert.equal(message.qos, qos);
      assert.ok(payload.equals(message.payload));
    }
  },

  async retained() {
    const publisher = await connect("p");
    await publisher.publishAsync("r", "old", { qos: 1, retain: true });
    await publisher.publishAsync("r", "new", { qos: 1, retain: true });
    const subscriber = await connect("s");
    await subscriber.subscribeAsync("r", { qos: 1 });
    const message = await next(subscriber);
    assert.deepEqual([message.payload.toString(), message.retain], ["new", true]);
    await publisher.publishAsync("r", "", { qos: 1, retain: true });
    await expect(subscriber, ["r", "", 1]);
    const late = await connect("late");
    await late.subscribeAsync("r", { qos: 1 });
    await expectNothing(late);
  },

  async will() {
    const watcher = await connect("w");
    await watcher.subscribeAsync("gone", { qos: 1 });
    const bye = { topic: "gone", payload: Buffer.from("bye"), qos: 1, retain: false };
    const leaver = await connect("leaver", { will: bye });
    await leaver.endAsync();
    await expectNothing(watcher);
    const victim = await connect("victim", { will: bye });
    victim.stream.destroy();
    await expect(watcher, ["gone", "bye", 1]);
  },

  async offline_queue() {
    const subscriber = await connect("s", { clean: false });
    await subscriber.subscribeAsync("q/#", { qos: 2 });
    await subscriber.endAsync();
    const publisher = await connect("p");
    for (const number of numbers(50)) await publisher.publishAsync("q/x", number, { qos: 2 });
    const again = await connect("s", { clean: false });
    await expect(again, ...numbers(50).map((number) => ["q/x", number, 2]));
    await expectNothing(again);
    await again.endAsync();
  },

  async v5_properties() {
    const subscriber = await connectV5("s");
    await subscriber.subscribeAsync("t/+", { qos: 2, properties: { subscriptionIdentifier: 7 } });
    const publisher = await connectV5("p");
    for (const qos of [0, 1, 2]) {
      const properties = {
        payloadFormatIndicator: true,
        messageExpiryInterval: 100,
        contentType: "text/plain",
        responseTopic: "answers",
        correlationData: Buffer.from([0, 255]),
        userProperties: { a: ["1", "2"], b: "3" },
      };
      await publisher.publishAsync("t/x", "hello", { qos, properties });
      const message = await next(subscriber);
      assert.deepEqual([message.payload.toString(), message.qos], ["hello", qos]);
      const { subscriptionIdentifier, userProperties, ...rest } = message.properties;
      assert.deepEqual([subscriptionIdentifier].flat(), [7]);
      assert.deepEqual({ ...userProperties }, properties.userProperties);
      const { userProperties: _, ...sent } = properties;
      assert.deepEqual(rest, sent);
    }
  },

  async v5_request_response() {
    const server = await connectV5("server");
    await server.subscribeAsync("work", { qos: 1 });
    server.on("message", (topic, payload, { properties }) => {
      const { responseTopic, correlationData } = properties;
      server.publish(responseTopic, `${payload}!`, { qos: 1, properties: { correlationData } });
    });
    const asker = await connectV5("asker");
    await asker.subscribeAsync("answers/asker", { qos: 1 });
    for (const number of numbers(10)) {
      const correlationData = Buffer.from(number);
      const properties = { responseTopic: "answers/asker", correlationData };
      await asker.publishAsync("work", number, { qos: 1, properties });
      const response = await next(asker);
      assert.equal(response.payload.toString(), `${number}!`);
      assert.deepEqual(response.properties.correlationData, correlationData);
    }
  },

  async v5_topic_alias() {
    const properties = { topicAliasMaximum: 10 };
    const subscriber = await connectV5("s", { properties });
    await subscriber.subscribeAsync("alias/#", { qos: 1 });
    const topics = [];
    subscriber.on("message", (topic) => topics.push(topic));
    const publisher = await connectV5("p", { autoUseTopicAlias: true, autoAssignTopicAlias: true });
    const sent = numbers(30).map((n) => `alias/${n % 3}`);
    for (const topic of sent) await publisher.publishAsync(topic, "x", { qos: 1 });
    while (topics.length < sent.length) await once(subscriber, "message");
    assert.deepEqual(topics, sent);
  },

  async many_clients() {
    const clients = await Promise.all(numbers(60).map((number) => connect(`c${number}`)));
    await Promise.all(clients.map((client, n) => client.subscribeAsync(`m/${n}`, { qos: 1 })));
    await Promise.all(
      clients.map((client, n) => client.publishAsync(`m/${(n + 1) % 60}`, `from ${n}`, { qos: 1 })),
    );
    for (const [n, client] of clients.entries()) {
      await expect(client, [`m/${n}`, `from ${(n + 59) % 60}`, 1]);
    }
  },
};

await scenarios[scenario]();
process.exit(0);
