"""redis-py with its default settings: python3 redis_py.py HOST PORT. Whatever goes wrong raises."""

import sys
import threading

import redis

client = redis.Redis(host=sys.argv[1], port=int(sys.argv[2]), socket_timeout=20)
print("redis-py", redis.__version__)


def check(got, expected):
    if got != expected:
        raise AssertionError(f"{got!r} is not {expected!r}")


# Strings, numbers, expiry.
check(client.ping(), True)
check(client.set("s", b"\x00binary\r\n\xff"), True)
check(client.get("s"), b"\x00binary\r\n\xff")
check(client.get("none"), None)
check(client.incr("n", 5), 5)
check(client.set("t", "x", ex=1000), True)
check(990 < client.ttl("t") <= 1000, True)
check(client.mset({"a": 1, "b": 2}), True)
check(client.mget("a", "b", "c"), [b"1", b"2", None])
check(client.delete("a", "b", "c"), 2)
check(client.echo("hello"), b"hello")

# Structures: maps, sets, doubles, nulls are where RESP2 and RESP3 differ.
check(client.hset("h", mapping={"f": 1, "g": "two"}), 2)
check(client.hgetall("h"), {b"f": b"1", b"g": b"two"})
check(client.sadd("set", "x", "y"), 2)
check(client.smembers("set"), {b"x", b"y"})
check(client.zadd("z", {"m": 1.5, "n": 2}), 2)
check(client.zscore("z", "m"), 1.5)
check([(name, score) for name, score in client.zrange("z", 0, -1, withscores=True)], [(b"m", 1.5), (b"n", 2.0)])
check(client.zincrby("z", 0.5, "m"), 2.0)
check(client.rpush("l", *range(5)), 5)
check(client.lrange("l", 0, -1), [b"0", b"1", b"2", b"3", b"4"])
check(client.geoadd("g", (13.361389, 38.115556, "Palermo")), 1)
check(round(client.geopos("g", "Palermo")[0][0], 3), 13.361)
entry = client.xadd("x", {"f": "v"})
check(client.xrange("x"), [(entry, {b"f": b"v"})])
check(client.type("h"), b"hash")
check(sorted(client.scan_iter(match="s*")), [b"s", b"set"])
check(dict(client.hscan_iter("h")), {b"f": b"1", b"g": b"two"})

# Errors are answers, and the connection lives on.
try:
    client.lpush("s", 1)
    raise AssertionError("LPUSH on a string was accepted")
except redis.ResponseError as error:
    check("WRONGTYPE" in str(error), True)
try:
    client.execute_command("NOSUCH")
    raise AssertionError("NOSUCH was accepted")
except redis.ResponseError as error:
    check("NOSUCH" in str(error), True)

# Pipelines, with and without a transaction.
with client.pipeline(transaction=False) as pipeline:
    for number in range(500):
        pipeline.set(f"p{number}", number)
    for number in range(500):
        pipeline.get(f"p{number}")
    check(pipeline.execute()[500:], [str(number).encode() for number in range(500)])
with client.pipeline(transaction=True) as pipeline:
    pipeline.set("tx", 1).incr("tx").get("tx")
    check(pipeline.execute(), [True, 2, b"2"])

# WATCH: a write of somebody else makes the transaction fail.
with client.pipeline() as pipeline:
    pipeline.watch("tx")
    client.set("tx", 10)
    pipeline.multi()
    pipeline.set("tx", 11)
    try:
        pipeline.execute()
        raise AssertionError("the transaction was not stopped")
    except redis.WatchError:
        pass
check(client.get("tx"), b"10")

# Blocking: nothing there, then something from another connection.
check(client.blpop("queue", timeout=0.1), None)
threading.Timer(0.2, lambda: client.rpush("queue", "job")).start()
check(list(client.blpop("queue", timeout=10)), [b"queue", b"job"])

# Publish and subscribe.
pubsub = client.pubsub()
pubsub.subscribe("news")
pubsub.psubscribe("new*")
for _ in range(2):
    check(pubsub.get_message(timeout=10)["type"].endswith("subscribe"), True)
client.publish("news", "first")
check(sorted(pubsub.get_message(timeout=10)["type"] for _ in range(2)), ["message", "pmessage"])
pubsub.unsubscribe()
pubsub.punsubscribe()
for _ in range(2):
    check(pubsub.get_message(timeout=10)["type"].endswith("unsubscribe"), True)
pubsub.close()

# Scripts.
double = client.register_script("return redis.call('incrby', KEYS[1], ARGV[1]) * 2")
check(double(keys=["script"], args=[21]), 42)
check(double(keys=["script"], args=[0]), 42)

# What clients ask at connect time and operators from a console.
check(client.client_setname("tester"), True)
check(isinstance(client.client_id(), int), True)
check("redis_version" in client.info(), True)
check(client.dbsize() > 10, True)
check(isinstance(client.config_get("maxmemory"), dict), True)
check(isinstance(client.command_count(), int), True)
check(len(client.time()), 2)
check(client.flushall(), True)
check(client.dbsize(), 0)
print("fine")
