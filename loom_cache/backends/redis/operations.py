"""What is said to Redis, and what its answers mean. Pure: nothing here has a connection."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from redis.exceptions import ResponseError

from loom_cache import counters
from loom_cache.backends import Enrolled, Moved, Pair, Roll, Snapshot, enrolled
from loom_cache.exceptions import StoreUnavailable

T = TypeVar("T")
Argument = str | bytes | int
Command = tuple[Argument, ...]

# KEYS: counters. ARGV: EPOCH_MS, COUNTER_TTL. Lua's numbers are doubles: milliseconds times 2^22
# are exact in them, but what tostring() makes of them is not.
SEED = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[1]
local fresh = string.format('%.0f', ms * 4194304)
local values = {}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and #value < 20 and string.match(value, '^%d+$') then
    redis.call('EXPIRE', key, ARGV[2])
  else
    value = fresh
    redis.call('SET', key, value, 'EX', ARGV[2])
  end
  values[i] = value
end
return values
"""

# KEYS: counters to bump, then counters to read after that. ARGV: BUMP, COUNTER_TTL, how many to
# bump. A counter that cannot be increased (the server is full,
# the value is not an integer) is deleted, which is as good and always allowed.
BUMP = """
local found, last = { 0 }, tonumber(ARGV[3])
for i, key in ipairs(KEYS) do
  if i > last then
    local value = redis.pcall('GET', key)
    found[#found + 1] = type(value) == 'string' and value or ''
  elseif redis.call('EXISTS', key) == 1 then
    found[1] = found[1] + 1
    local value = redis.pcall('INCRBY', key, ARGV[1])
    if type(value) == 'table' and value.err then
      redis.call('DEL', key)
    else
      redis.call('EXPIRE', key, ARGV[2])
    end
  end
end
return found
"""

# KEYS: the counter of a list's life, the list, the counter of its changes. ARGV: EPOCH_MS,
# COUNTER_TTL, BUMP, the most names, and names to add. The list is the value of the first counter,
# then a name a line.
ENROLL = """
local function counter(key)
  local value = redis.pcall('GET', key)
  local valid = type(value) == 'string' and #value < 20 and string.match(value, '^%d+$')
  return valid and value
end
local function moved(key)
  if counter(key) then
    redis.call('INCRBY', key, ARGV[3])
  else
    local now = redis.call('TIME')
    local ms = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[1]
    redis.call('SET', key, string.format('%.0f', ms * 4194304))
  end
  redis.call('EXPIRE', key, ARGV[2])
  return redis.call('GET', key)
end
local life, version = counter(KEYS[1]), counter(KEYS[3])
local listed = redis.pcall('GET', KEYS[2])
local names, known = {}, {}
local current = life and type(listed) == 'string' and string.match(listed, '^%d+') == life
if current then
  for line in string.gmatch(listed, '\\n([^\\n]+)') do
    names[#names + 1] = line
    known[line] = true
  end
end
local before = #names
for i = 5, #ARGV do
  if not known[ARGV[i]] and #names < tonumber(ARGV[4]) then
    names[#names + 1] = ARGV[i]
    known[ARGV[i]] = true
  end
end
if not current then life = moved(KEYS[1]) end
if not current or not version or #names > before then version = moved(KEYS[3]) end
listed = life .. '\\n' .. table.concat(names, '\\n')
redis.call('SET', KEYS[2], listed, 'EX', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[2])
return { listed, version }
"""


class Refused(StoreUnavailable):
    """The server answered, with an error."""


class Reply(NamedTuple):
    """What one connection answered: a value or a ResponseError for each command."""

    incarnation: str
    values: list[Any]


class Operation(NamedTuple, Generic[T]):
    """Commands that go out together, and what their answers mean."""

    commands: Sequence[Command]
    read: Callable[[Reply], T]


def fetch(keys: Sequence[str]) -> Operation[Snapshot[bytes | None]]:
    return Operation([("MGET", *keys)], lambda reply: Snapshot(reply.incarnation, first(reply)))


def store(pairs: Sequence[Pair]) -> Operation[list[Any]]:
    return Operation([_keep(*pair) for pair in pairs], values)


def _keep(key: str, value: bytes, ttl: float) -> Command:
    return put(key, value, ttl) if ttl > 0 else ("UNLINK", key)


def put(key: str, value: Any, ttl: float | None) -> Command:
    """The command that keeps `value` for `ttl` seconds; without a `ttl` until it is deleted."""
    data = value if isinstance(value, bytes | int) else str(value)
    return ("SET", key, data) if not ttl else ("SET", key, data, "PX", milliseconds(ttl))


def seed(keys: Sequence[str]) -> Operation[Snapshot[int]]:
    return Operation(
        [("EVAL", SEED, len(keys), *keys, counters.EPOCH_MS, counters.COUNTER_TTL)],
        lambda reply: Snapshot(reply.incarnation, [int(value) for value in first(reply)]),
    )


def bump(keys: Sequence[str]) -> Operation[int]:
    found = bump_and_read(keys, ())
    return Operation(found.commands, lambda reply: found.read(reply).existed)


def bump_and_read(keys: Sequence[str], reads: Sequence[str]) -> Operation[Moved]:
    options = (counters.BUMP, counters.COUNTER_TTL, len(keys))

    def read(reply: Reply) -> Moved:
        existed, *found = first(reply)
        return Moved(existed, [counters.parse(value) for value in found])

    command: Command = ("EVAL", BUMP, len(keys) + len(reads), *keys, *reads, *options)
    return Operation([command], read)


def enroll(roll: Roll, names: Sequence[str], most: int) -> Operation[Enrolled]:
    def read(reply: Reply) -> Enrolled:
        listed, version = first(reply)
        return enrolled(listed, counters.parse(version))

    options = (counters.EPOCH_MS, counters.COUNTER_TTL, counters.BUMP, most)
    return Operation([("EVAL", ENROLL, 3, *roll, *options, *names)], read)


def remove(keys: Sequence[str]) -> Operation[int]:
    return Operation([("UNLINK", *keys)], first)


def scan(cursor: bytes, prefix: str) -> Operation[tuple[bytes, list[bytes]]]:
    return Operation([("SCAN", cursor, "MATCH", _pattern(prefix), "COUNT", 1000)], first)


def add_to(key: str, delta: int) -> Operation[int]:
    def read(reply: Reply) -> int:
        answer = reply.values[0]
        if isinstance(answer, ResponseError) and ("integer" in str(answer) or _is_other(answer)):
            raise TypeError(f"The value at {key!r} is not an integer.")
        return int(first(reply))

    return Operation([("INCRBY", key, delta)], read)


def holds(key: str) -> Operation[bool]:
    return Operation([("EXISTS", key)], _whether)


def expire(key: str, ttl: float | None) -> Operation[bool]:
    command: Command = ("PEXPIRE", key, milliseconds(ttl)) if ttl else ("PERSIST", key)
    return Operation([command], _whether)


def add(key: str, value: Any, ttl: float | None) -> Operation[bool]:
    return Operation([(*put(key, value, ttl), "NX")], _whether)


def first(reply: Reply) -> Any:
    return values(reply)[0]


def _whether(reply: Reply) -> bool:
    return bool(first(reply))


def values(reply: Reply) -> list[Any]:
    """The answers. Refused if one of them is an error."""
    for value in reply.values:
        if isinstance(value, ResponseError):
            raise Refused(f"The Redis server refused a command: {value}") from value
    return reply.values


def milliseconds(ttl: float) -> int:
    return max(1, int(ttl * 1000))


def pack(commands: Sequence[Command]) -> bytes:
    """The commands in Redis' serialization protocol."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            data = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


WHO: Sequence[Command] = [("INFO", "server")]
"""Asked once per connection: which life of the server is this?"""


def who_else(key: str) -> Sequence[Command]:
    """Where INFO is forbidden: a random name that whoever comes first leaves at `key`."""
    return [("SET", key, secrets.token_hex(20), "NX"), ("GET", key)]


def run_id(answer: Any) -> str | None:
    """The name of this life of the server, from the answer to WHO."""
    if not isinstance(answer, bytes | str):
        return None
    text = answer.decode() if isinstance(answer, bytes) else answer
    lines = (line.partition(":") for line in text.splitlines())
    return next((value for name, _, value in lines if name == "run_id" and value), None)


def left_name(answers: Sequence[Any]) -> str:
    """The name found by `who_else`; where that is refused too a new one: nothing is then a hit."""
    name = answers[-1]
    return name.decode() if isinstance(name, bytes) else secrets.token_hex(20)


def _is_other(error: ResponseError) -> bool:
    """Whether the key holds a list, a set or something of the kind."""
    return "WRONGTYPE" in str(error)


def _pattern(prefix: str) -> str:
    """A glob that matches the keys beginning with `prefix`, whatever is in it."""
    return "".join("\\" + letter if letter in "\\*?[]^" else letter for letter in prefix) + "*"
