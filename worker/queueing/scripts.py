"""What the transport has Redis do in one step, as Lua scripts.

A message that is taken is noted in two keys of kombu's: `unacked`, a hash of tags to entries, and its
index, a sorted set of tags by the time when they were taken.
"""

from worker.queueing.dead_letters import KEEP

_NOW = """
local function now()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
"""

# KEYS: unacked, its index, letters, their last number, the lists in the order in which they are served.
# ARGV: longest message in bytes, most to refuse, then for each list its queue and 1, or 0 if its messages
# are not acknowledged, as the answers to remote control.
# Gives the list's place, the message and its tag, or 0 if there is none; and the letters that were kept.
#
# A message's entry in `unacked` is what kombu's restoring reads: the raw message, an exchange, a routing
# key. With no exchange the key is the queue that it was taken from, whatever bindings there are.
TAKE = (
    KEEP
    + _NOW
    + """
local function fault(raw)
  if #raw > tonumber(ARGV[1]) then return 'It is longer than ' .. ARGV[1] .. ' bytes.' end
  local is_json, message = pcall(cjson.decode, raw)
  if not is_json then return 'It is no JSON.' end
  local properties = type(message) == 'table' and message.properties
  local tag = type(properties) == 'table' and properties.delivery_tag
  if type(tag) ~= 'string' or tag == '' then return 'It has no delivery_tag.' end
  return nil, tag
end
local letters = {}
for place = 5, #KEYS do
  local queue = ARGV[(place - 5) * 2 + 3]
  local is_noted = ARGV[(place - 5) * 2 + 4] == '1'
  local raw = redis.call('RPOP', KEYS[place])
  while raw do
    if not is_noted then return {place - 4, raw, '', letters} end
    local reason, tag = fault(raw)
    if not reason then
      redis.call('HSET', KEYS[1], tag, '[' .. raw .. ',"",' .. cjson.encode(queue) .. ']')
      redis.call('ZADD', KEYS[2], now(), tag)
      return {place - 4, raw, tag, letters}
    end
    local letter = cjson.encode({reason = reason, message = raw})
    table.insert(letters, {keep(KEYS[3], KEYS[4], letter), reason})
    raw = #letters < tonumber(ARGV[2]) and redis.call('RPOP', KEYS[place])
  end
end
return {0, '', '', letters}
"""
)

# KEYS as above without lists; ARGV: tag, letter. The raw message joins the letter here, byte for byte.
REFUSE = (
    KEEP
    + """
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return false end
local tail = string.match(entry, ',"","[^"]*"%]$')
local message = cjson.encode(string.sub(entry, 2, #entry - #tail))
local kept = keep(KEYS[3], KEYS[4], '{"message":' .. message .. ',' .. string.sub(ARGV[2], 2))
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return kept
"""
)

# KEYS: unacked, its index, the list that the message was taken from. ARGV: tag, raw message, LPUSH or RPUSH.
# It is put back also if its note is gone: the broker may have lost its data, and a copy does no harm.
# Deleting comes first, so that a full Redis does not refuse the rest.
PUT_BACK = """
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call(ARGV[3], KEYS[3], ARGV[2])
"""

# KEYS: the index. ARGV: visibility timeout in seconds, most to give. What it gives is noted as taken now, so
# that no other worker restores it too.
CLAIM_OVERDUE = (
    _NOW
    + """
local overdue = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now() - ARGV[1], 'LIMIT', 0, ARGV[2])
for _, tag in ipairs(overdue) do redis.call('ZADD', KEYS[1], now(), tag) end
return overdue
"""
)
