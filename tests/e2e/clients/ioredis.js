// ioredis with its default settings: node ioredis.js HOST PORT. Whatever goes wrong throws.
const assert = require("node:assert");
const { Redis } = require("ioredis");

async function main() {
  const options = { host: process.argv[2], port: Number(process.argv[3]), maxRetriesPerRequest: 1 };
  const client = new Redis(options);
  assert.strictEqual(await client.set("s", "hello"), "OK");
  assert.strictEqual(await client.get("s"), "hello");
  assert.strictEqual(await client.get("none"), null);
  assert.strictEqual(await client.hset("h", { f: "1", g: "two" }), 2);
  assert.deepStrictEqual({ ...(await client.hgetall("h")) }, { f: "1", g: "two" });
  assert.deepStrictEqual(await client.mget("s", "none"), ["hello", null]);
  assert.strictEqual(await client.zadd("z", 1.5, "m"), 1);
  assert.strictEqual(Number(await client.zscore("z", "m")), 1.5);

  const many = await Promise.all(Array.from({ length: 1000 }, (_, number) => client.incr("n").then(() => number)));
  assert.strictEqual(many.length, 1000);
  assert.strictEqual(await client.get("n"), "1000");

  const pipeline = client.pipeline();
  for (let number = 0; number < 200; number++) pipeline.set(`p${number}`, number).get(`p${number}`);
  const replies = await pipeline.exec();
  assert.strictEqual(replies[399][1], "199");
  const transaction = await client.multi().set("t", 1).incr("t").exec();
  assert.deepStrictEqual(transaction.map((reply) => reply[1]), ["OK", 2]);
  await assert.rejects(client.lpush("s", 1), /WRONGTYPE/);

  const other = new Redis(options);
  const blocked = other.blpop("queue", 10);
  await client.rpush("queue", "job");
  assert.deepStrictEqual(await blocked, ["queue", "job"]);
  const message = new Promise((resolve) => other.on("message", (channel, text) => resolve([channel, text])));
  await other.subscribe("news");
  await client.publish("news", "first");
  assert.deepStrictEqual(await message, ["news", "first"]);
  await other.unsubscribe("news");
  assert.strictEqual(await other.get("s"), "hello");

  await other.quit();
  await client.quit();
  console.log("fine");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
