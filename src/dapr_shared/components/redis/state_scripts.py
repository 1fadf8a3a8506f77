"""The Lua scripts of `state.redis`: what must happen at once at the server.

Last step of the request road. A value is a hash with the fields `data` (bytes), `version` (a whole number that each
write makes one more) and, after a first-write request, `first-write` (0): daprd's layout (reference components §2).
Here the conditions are those of the contract, and a value and its expiry are written together.
"""

from __future__ import annotations

from dapr_shared.components.redis.client import Script

MISMATCH = -1
"""What the scripts answer where an etag or a first write does not allow the change. They change nothing then."""

_COMMON = """
local function version_of(key)
  local found = redis.pcall('HGET', key, 'version')
  if type(found) == 'table' then return false, true end
  return found, false
end
local function allowed(version, etag, first)
  if etag ~= '' then return version == etag end
  return first ~= '1' or not version
end
local function put(key, value, ttl, first)
  local _, foreign = version_of(key)
  if foreign then redis.call('DEL', key) end
  redis.call('HSET', key, 'data', value)
  if first == '1' then redis.call('HSET', key, 'first-write', 0) end
  local number = redis.call('HINCRBY', key, 'version', 1)
  if ttl ~= '0' then redis.call('EXPIRE', key, ttl) else redis.call('PERSIST', key) end
  return number
end
"""

SET = Script(
    _COMMON
    + """
local version = version_of(KEYS[1])
if not allowed(version, ARGV[2], ARGV[4]) then return -1 end
return put(KEYS[1], ARGV[1], ARGV[3], ARGV[4])
"""
)
"""KEYS: the key. ARGV: value, etag or empty, seconds to live or 0, 1 for a first write. The new version."""

DELETE = Script(
    _COMMON
    + """
if ARGV[1] ~= '' and version_of(KEYS[1]) ~= ARGV[1] then return -1 end
return redis.call('DEL', KEYS[1])
"""
)
"""KEYS: the key. ARGV: etag or empty. How many values were there."""

TRANSACT = Script(
    _COMMON
    + """
local versions = {}
for i = 1, #KEYS do
  local key, at = KEYS[i], (i - 1) * 5
  local version = versions[key]
  if version == nil then version = version_of(key) end
  local etag = ARGV[at + 3]
  if ARGV[at + 1] == 's' then
    if not allowed(version, etag, ARGV[at + 5]) then return -i end
    local number = tonumber(version) or 0
    versions[key] = string.format('%.0f', number + 1)
  else
    if etag ~= '' and version ~= etag then return -i end
    versions[key] = false
  end
end
for i = 1, #KEYS do
  local key, at = KEYS[i], (i - 1) * 5
  if ARGV[at + 1] == 's' then
    put(key, ARGV[at + 2], ARGV[at + 4], ARGV[at + 5])
  else
    redis.call('DEL', key)
  end
end
return #KEYS
"""
)
"""KEYS: the key of each operation. ARGV, five each: s or d, value, etag, seconds, first write. Minus the number of the
first operation that is not allowed; nothing is changed then."""

GET = Script(
    """
local found = redis.pcall('HMGET', KEYS[1], 'data', 'version')
if found['err'] then
  local plain = redis.pcall('GET', KEYS[1])
  if type(plain) ~= 'string' then return found end
  found = {plain, ''}
end
local expires = redis.pcall('PEXPIRETIME', KEYS[1])
if type(expires) == 'table' then
  expires = redis.call('PTTL', KEYS[1])
  if expires >= 0 then
    local now = redis.call('TIME')
    expires = now[1] * 1000 + math.floor(now[2] / 1000) + expires
  end
end
found[3] = expires
return found
"""
)
"""KEYS: the key. Its data, version, and when it expires in milliseconds of Unix time (-1: never, -2: there is none). A key
that is no hash is read as a text with an empty version, as daprd reads values from before it had etags."""
