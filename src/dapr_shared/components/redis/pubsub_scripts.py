"""The Lua scripts of `pubsub.redis`: what must happen at once at the server.

First step of the delivery road. KEYS is always the stream; ARGV begins with the group and our consumer.
"""

from __future__ import annotations

from dapr_shared.components.redis.client import Script

CLAIM = Script(
    """
local key, group, me = KEYS[1], ARGV[1], ARGV[2]
local found = redis.call('XPENDING', key, group, 'IDLE', ARGV[3], ARGV[5], '+', ARGV[4])
if #found == 0 then return {false, {}} end
local ids, counts = {}, {}
for _, one in ipairs(found) do
  ids[#ids + 1] = one[1]
  counts[one[1]] = one[4]
end
local messages = {}
for _, message in ipairs(redis.call('XCLAIM', key, group, me, ARGV[3], unpack(ids))) do
  if message then
    messages[#messages + 1] = {message[1], message[2], counts[message[1]] + 1}
    counts[message[1]] = nil
  end
end
for id in pairs(counts) do redis.call('XACK', key, group, id) end
return {ids[#ids], messages}
"""
)
"""ARGV: milliseconds without a sign of life, how many at most, first id. The last id that was looked at (or nothing),
and what is ours now: id, fields, number of this delivery. What was trimmed meanwhile is taken off the group's list."""

KEEP = Script(
    """
local key, group, me = KEYS[1], ARGV[1], ARGV[2]
local lost = {}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local found = redis.call('XPENDING', key, group, id, id, 1)
  if found[1] and found[1][2] == me then
    if ARGV[i + 1] == '' then
      redis.call('XCLAIM', key, group, me, 0, id, 'JUSTID')
    else
      redis.call('XCLAIM', key, group, me, 0, id, 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
    end
  else
    lost[#lost + 1] = id
  end
end
return lost
"""
)
"""ARGV: pairs of an id and the number of its deliveries so far (empty: unchanged). A sign of life for each; the ids that
are not ours any more."""

GIVE_BACK = Script(
    """
local key, group, me = KEYS[1], ARGV[1], ARGV[2]
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local found = redis.call('XPENDING', key, group, id, id, 1)
  if found[1] and found[1][2] == me then
    redis.call('XCLAIM', key, group, group, 0, id, 'IDLE', ARGV[3], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
  end
end
"""
)
"""ARGV: the idle time that makes a message free for all, then pairs of an id and the number of its deliveries so far.
They are then those of the consumer that is called like the group, as in daprd, which nobody is."""

FORGET = Script(
    """
local key, group, me, longest = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local prefix = group .. '/'
for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', key, group)) do
  local fields = {}
  for i = 1, #one, 2 do fields[one[i]] = one[i + 1] end
  local name = fields['name']
  local ended = name == me and longest == 0
  local dead = name ~= me and string.sub(name, 1, #prefix) == prefix and fields['idle'] > longest and longest > 0
  if (ended or dead) and fields['pending'] == 0 then redis.call('XGROUP', 'DELCONSUMER', key, group, name) end
end
"""
)
"""ARGV: milliseconds. Removes consumers of instances like ours that were idle for longer and have no message; 0: ours."""

LAST_ID = Script(
    """
local fields = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #fields, 2 do
  if fields[i] == 'last-generated-id' then return fields[i + 1] end
end
"""
)
"""The id of the newest message that there ever was."""

WAITING = Script(
    """
for _, one in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local fields = {}
  for i = 1, #one, 2 do fields[one[i]] = one[i + 1] end
  if fields['name'] == ARGV[1] then
    local lag = fields['lag']
    if not lag then lag = #redis.call('XRANGE', KEYS[1], '(' .. fields['last-delivered-id'], '+', 'COUNT', ARGV[3]) end
    return fields['pending'] + lag
  end
end
return 0
"""
)
"""ARGV: the most to count where the server does not know. How many messages wait for the group or are with it."""
