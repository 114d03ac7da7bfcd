"""What an outbox has Redis do in one step, as Lua scripts."""

# KEYS: lease, outbox, files, end, attempts, head, the set of undelivered ends, the name of the job or the
# batch, the job's ledger. ARGV: the lease's token, seconds that an end is kept, the head, then for each entry
# its id, its reports, the file that is done and what it came to, and how it ends; what it has not is empty.
# A write whose answer was lost is repeated, with the same ids: then it is there already.
PUT = """
local function count(outcome)
    if redis.call('EXISTS', KEYS[9]) == 0 then return end  -- the job was dropped
    local kind, code, bytes = string.match(outcome, '^(%S+) (%S+) (%d+)$')
    redis.call('HINCRBY', KEYS[9], 'done_files', 1)
    redis.call('HINCRBY', KEYS[9], 'done_bytes', bytes)
    if kind == 'hashed' then
        redis.call('HINCRBY', KEYS[9], 'hashed_files', 1)
        redis.call('HINCRBY', KEYS[9], 'hashed_bytes', bytes)
    else
        redis.call('HINCRBY', KEYS[9], kind .. ':' .. code, 1)
    end
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'held' end
local ended = redis.call('GET', KEYS[4])
if ended and ended ~= ARGV[#ARGV] then return 'ended' end
for i = 4, #ARGV, 5 do
    local added = redis.pcall('XADD', KEYS[2], ARGV[i], 'reports', ARGV[i + 1])
    if added['err'] and not string.find(added['err'], 'equal or smaller') then return added end
    if ARGV[i + 2] ~= '' then
        if redis.call('HSETNX', KEYS[3], ARGV[i + 2], ARGV[i + 3]) == 1 then count(ARGV[i + 3]) end
        redis.call('DEL', KEYS[5])
    end
    if ARGV[i + 4] ~= '' then
        redis.call('SET', KEYS[4], ARGV[i + 4], 'EX', ARGV[2])
        redis.call('SET', KEYS[6], ARGV[3])
        redis.call('SADD', KEYS[7], KEYS[8])
    end
end
return 'ok'
"""
# KEYS: outbox, the job's refusals. ARGV: the most that are kept, then for each entry its id and its refusals.
ACCEPT = """
for i = 2, #ARGV, 2 do
    if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 and ARGV[i + 1] ~= '' then
        for _, refusal in ipairs(cjson.decode(ARGV[i + 1])) do
            if redis.call('HINCRBY', KEYS[2], 'count', 1) <= tonumber(ARGV[1]) then
                redis.call('HSET', KEYS[2], refusal[1], refusal[2])
            end
        end
    end
end
"""
# KEYS: the set, the job, its ledger, its end, its outbox, its lease, what goes with its end.
# ARGV: the lease's token, seconds that the ledger is kept.
_OVER = """
local function over(state)
    local now = redis.call('TIME')
    redis.call('HSETNX', KEYS[3], 'over', state)
    redis.call('HSETNX', KEYS[3], 'over_at', now[1] + now[2] / 1000000)
    redis.call('EXPIRE', KEYS[3], ARGV[2])
    redis.call('EXPIRE', KEYS[2] .. ':task', ARGV[2])  -- what the intake answers
    redis.call('SREM', KEYS[1], KEYS[2])
    redis.call('DEL', unpack(KEYS, 7))
end
"""
# KEYS[9] are the refusals, after which the platform is told FAILED.
CLEAR = (
    _OVER
    + """
local ended = redis.call('GET', KEYS[4])
if not ended or redis.call('XLEN', KEYS[5]) > 0 then return 0 end
over(redis.call('EXISTS', KEYS[9]) == 1 and 'FAILED' or string.match(ended, '^%S+'))
return 1
"""
)
DISCARD = (
    _OVER
    + """
if redis.call('GET', KEYS[6]) ~= ARGV[1] then return 0 end
over('LEFT')
return 1
"""
)
