-- A job's record: a JSON array, trailing zeros left out, since a million of them have to fit in memory.
--   state     'r' ready, 'w' waiting, 'l' leased
--   lane      1 interactive, 2 standard, 3 overnight
--   budget    model class that the next request draws on
--   requests, input, output   what the next request is expected to cost where nothing was learned of its kind
--   order     within its lane, see _turns.lua; a job that comes back keeps its place
--   claims    how often it was claimed: the number of its newest request
--   attempts  how many attempts it has used up
--   lost      how many workers died with it
--   route     0: the model asked for, n: its n-th fallback
--   deadline  ms, or 0
--   ends      0, or how it is to be ended without a request: 'cancelled', 'expired'
--   token     of the lease, or 0
--   charged   when (ms) its budget was charged for the request that the lease is for, or 0
--   kind      of prompt, by which estimates are learned, or 0
--   longest   max_tokens: no answer has more
--   reserved_input, reserved_output   what was charged for that request, or 0
--   fallbacks how many other models it may ask
--   failed_at when (ms) a request of it for this budget last came to nothing, or 0
--   blamed    1 where that was the job's own fault: others were answered meanwhile
--   refused_at   when (ms) the account was last refused a request of it for this budget, or 0
--   seen      of one that failed before: when (ms) the newest request had been sent that was answered as it was leased
--   halted    at which version of the halts (see _halts.lua) no other model was left for it, or 0
local FIELDS = {
  'state', 'lane', 'budget', 'requests', 'input', 'output', 'order',
  'claims', 'attempts', 'lost', 'route', 'deadline', 'ends', 'token', 'charged',
  'kind', 'longest', 'reserved_input', 'reserved_output', 'fallbacks', 'failed_at', 'blamed', 'refused_at', 'seen',
  'halted',
}

local COUNTS = {
  'requests', 'input', 'output', 'order', 'claims', 'attempts', 'lost', 'route', 'deadline', 'charged', 'longest',
  'reserved_input', 'reserved_output', 'fallbacks', 'failed_at', 'blamed', 'refused_at', 'seen', 'halted',
}

local function is_sound(record)
  for _, name in ipairs(COUNTS) do
    local value = record[name]
    if type(value) ~= 'number' or not (value >= 0 and value < 2 ^ 53) then return false end
  end
  return (record.state == 'r' or record.state == 'w' or record.state == 'l')
    and (record.lane == 1 or record.lane == 2 or record.lane == 3)
    and type(record.budget) == 'string'
    and (record.ends == 0 or record.ends == 'cancelled' or record.ends == 'expired')
    and (record.token == 0 or type(record.token) == 'string')
    and (record.kind == 0 or type(record.kind) == 'string')
end

-- nil where there is no record or somebody else overwrote it: the job is then adopted from its payload.
local function load_record(id)
  local raw = redis.call('HGET', JOBS, id)
  if not raw then return nil end
  local readable, values = pcall(cjson.decode, raw)
  if not readable or type(values) ~= 'table' then return nil end
  local record = {}
  for i, name in ipairs(FIELDS) do record[name] = values[i] or 0 end
  return is_sound(record) and record or nil
end

-- Of a job that an arq client put into the queue: no budget until a worker has read and adopted it.
local function foreign_record()
  return {
    state = 'w', lane = 2, budget = '', requests = 0, input = 0, output = 0,
    order = 0, claims = 0, attempts = 0, lost = 0, route = 0,
    deadline = 0, ends = 0, token = 0, charged = 0, kind = 0, longest = 0, reserved_input = 0, reserved_output = 0,
    fallbacks = 0, failed_at = 0, blamed = 0, refused_at = 0, seen = 0, halted = 0,
  }
end

local function save_record(id, record)
  local last = #FIELDS
  while record[FIELDS[last]] == 0 do last = last - 1 end
  local values = {}
  for i = 1, last do values[i] = record[FIELDS[i]] end
  redis.call('HSET', JOBS, id, cjson.encode(values))
end

local function end_lease(record)
  record.token, record.charged, record.reserved_input, record.reserved_output, record.seen = 0, 0, 0, 0, 0
end

local function lane_key(record)
  return LANE .. record.budget .. ':' .. record.lane
end

local function leave_lane(id, record)
  redis.call('ZREM', record.ends ~= 0 and DUE or lane_key(record), id)
end

-- Into its lane, or to those that only have to be ended. A deadline brings it back before the claim in time.
local function make_ready(id, record)
  record.state = 'r'
  end_lease(record)
  if record.ends ~= 0 then
    redis.call('ZADD', DUE, record.order, id)
    redis.call('ZADD', QUEUE, 1, id)
  else
    redis.call('ZADD', lane_key(record), record.order, id)
    redis.call('ZADD', QUEUE, record.deadline > 0 and record.deadline or 1, id)
  end
  save_record(id, record)
end

-- Out of every lane until a time, or until its deadline if that is sooner; that time.
local function make_waiting(id, record, until_ms)
  record.state = 'w'
  end_lease(record)
  if record.deadline > 0 then until_ms = math.min(until_ms, record.deadline) end
  redis.call('ZADD', QUEUE, math.ceil(until_ms), id)
  save_record(id, record)
  return math.ceil(until_ms)
end

-- A job whose place is known but whose record is gone: let the next claim adopt it from its payload. Returns false for
-- one that is in the queue no more and has no payload either: it was deleted by hand.
local function make_foreign(id, now)
  local found = redis.call('ZSCORE', QUEUE, id) or redis.call('EXISTS', PAYLOAD .. id) == 1
  if not found then return false end
  redis.call('HDEL', JOBS, id)
  redis.call('ZADD', QUEUE, math.floor(now), id)
  return true
end

-- Kept for 30 days after the last change.
local function touch_run(run)
  redis.call('EXPIRE', RUN .. run, 2592000)
end

local function count_submitted(run, jobs)
  if run == '' then return end
  redis.call('HINCRBY', RUN .. run, 'submitted', jobs)
  touch_run(run)
end

-- A job of a run that is sent again has not ended any more: a run has as many ends as jobs, each paid for once. Returns
-- false where the run was forgotten since.
local function uncount_end(run, status, nano_usd)
  local key = RUN .. run
  if run == '' or (tonumber(redis.call('HGET', key, status)) or 0) <= 0 then return false end
  redis.call('HINCRBY', key, status, -1)
  redis.call('HINCRBY', key, 'cost_nano_usd', 0 - nano_usd) -- not -nano_usd: Redis 6.2 takes no '-0'
  touch_run(run)
  return true
end

-- The record, if the caller's lease still stands; nil tells it to write nothing (I2).
local function leased_record(id, token)
  local record = load_record(id)
  if not record or record.state ~= 'l' or record.token ~= token then return nil end
  return record
end
