"""pymemcache with its default settings: python3 pymemcache_py.py HOST PORT. Whatever goes wrong raises."""

import sys

from pymemcache.client.base import Client

client = Client((sys.argv[1], int(sys.argv[2])), timeout=20, connect_timeout=20)


def check(got, expected):
    if got != expected:
        raise AssertionError(f"{got!r} is not {expected!r}")


check(client.set("k", b"v\r\nEND\r\n", noreply=False), True)
check(client.get("k"), b"v\r\nEND\r\n")
check(client.get("none"), None)
# The default says noreply: what follows must still see it.
for number in range(200):
    client.set(f"k{number}", str(number))
check(client.get_many([f"k{number}" for number in range(200)]), {f"k{number}": str(number).encode() for number in range(200)})
check(client.add("k", "w", noreply=False), False)
check(client.replace("k", "w", noreply=False), True)
check(client.append("k", "x", noreply=False), True)
check(client.prepend("k", "y", noreply=False), True)
value, cas = client.gets("k")
check(value, b"ywx")
check(client.cas("k", "z", cas, noreply=False), True)
check(client.cas("k", "z", cas, noreply=False), False)
client.set("n", "10", noreply=False)
check(client.incr("n", 5, noreply=False), 15)
check(client.decr("n", 20, noreply=False), 0)
check(client.touch("k", 1000, noreply=False), True)
check(client.delete("k", noreply=False), True)
check(client.delete("k", noreply=False), False)
check(client.version().startswith(b"1."), True)
check(b"curr_items" in client.stats(), True)
check(client.flush_all(noreply=False), True)
check(client.get("n"), None)
client.quit()
print("fine")
