"""The scripts that Redis runs: each is one step to everybody else.

Lua's numbers are doubles: milliseconds times 2^22 are exact in them, but what tostring() makes of
them is not, and no generation is.
"""

from __future__ import annotations

# A table's counter with writers inside ends with the last lease (LEASE). Whoever comes by must not
# prolong that: it may know nothing of strict tables, and a writer that was killed would never be
# outside again.

# KEYS: counters. ARGV: EPOCH_MS, COUNTER_TTL.
SEED = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[1]
local fresh = string.format('%.0f', ms * 4194304)
local values = {}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and #value < 20 and string.match(value, '^%d+$') then
    if tonumber(string.sub(value, -7)) % 128 == 0 then redis.call('EXPIRE', key, ARGV[2]) end
  else
    value = fresh
    redis.call('SET', key, value, 'EX', ARGV[2])
  end
  values[i] = value
end
return values
"""

# KEYS: counters to bump, then counters to read after that. ARGV: BUMP, COUNTER_TTL, how many to
# bump. A counter that cannot be increased (the server is full, the value is not an integer) is
# deleted, which is as good and always allowed. Where there is none to bump something is written all
# the same, since a replica may not have what its primary has: it has to refuse.
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
    elseif tonumber(string.sub(redis.call('GET', key), -7)) % 128 == 0 then
      redis.call('EXPIRE', key, ARGV[2])
    end
  end
end
if found[1] == 0 and last > 0 then redis.call('DEL', KEYS[1]) end
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

# KEYS: a strict table's counter, the sorted set of its open writers (by deadline, in milliseconds).
# ARGV: step, writer, lease in milliseconds, EPOCH_MS, COUNTER_TTL, BUMP. A writer past its deadline
# is removed first, which bumps. The counter ends with the last lease, so that nobody has to come.
LEASE = """
local step, writer = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moved = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now) > 0
if step == 'open' then
  redis.call('ZADD', KEYS[2], now + ARGV[3], writer)
elseif step == 'close' then
  redis.call('ZREM', KEYS[2], writer)
end
moved = moved or step == 'close' or step == 'bump'
local open = math.min(redis.call('ZCARD', KEYS[2]), 127)
local function counter()
  local value = redis.pcall('GET', KEYS[1])
  local valid = type(value) == 'string' and #value < 20 and string.match(value, '^%d+$')
  return valid and value
end
local existed = counter()
local counts = existed
if existed then
  local open_before = tonumber(string.sub(existed, -7)) % 128
  local delta = open - open_before + (moved and tonumber(ARGV[6]) or 0)
  local done = delta == 0 or redis.pcall('INCRBY', KEYS[1], delta)
  counts = not (type(done) == 'table' and done.err)
end
if not counts then
  redis.call('DEL', KEYS[1])
  if step == 'open' or step == 'seed' then
    redis.call('SET', KEYS[1], string.format('%.0f', (now - ARGV[4]) * 4194304))
    redis.call('INCRBY', KEYS[1], open)
  end
end
if open > 0 then
  local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIREAT', KEYS[1], last)
  redis.call('PEXPIREAT', KEYS[2], last)
else
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
return { existed and 1 or 0, counter() or '' }
"""
