-- needs: keys, record, learned, seen, budget, breaker, spend, halts, alarm, heard
-- Lease jobs to a worker: those that may be sent now, in lane order, and no others. A job for which there is no
-- budget, or whose lane is paused, stays in the queue.
-- ARGV  1 now (ms, or '')   2 worker   3 lease (ms)   4 most jobs to lease   5 prefix of their tokens
--       6 caps on spending, as JSON (see _spend.lua), or ''
-- Returns {wait, {class, ...}, {claim, ...}, {cap, ...}, {field, value, ...}}
--   wait   ms until this worker should claim again unless it is woken; -1: when one of its jobs has ended
--   class  model classes with jobs but without limits: configure them and claim again
--   claim  {id, disposition, token, claims, attempts, lost, route, lane, budget, input and output reserved,
--          1 if it is a probe of an open breaker, payload or false,
--          when (ms) it was charged, all requests, input and output charged so far}
--          (the last four only where it was charged)
--          disposition: 'run'; 'reroute': to be sent to its next model; 'cancelled' or 'expired': only to be ended;
--          'foreign': to be adopted or buried
--   cap    {place in the JSON, nano-USD spent}: reached, and nobody was told so before in its hour or day
--   field, value   of the halts: see _halts.lua
local now, worker, lease_ms, most, prefix = clock(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local claims, unconfigured = {}, {}
run_when_full()
local reached, told = reached_caps(ARGV[6], now)
local halts = current_halts(now)
local paused, version = paused_lanes(halts), tonumber(halts.version) or 0

local function lease(id, record, disposition, cost, budget)
  record.state, record.claims = 'l', record.claims + 1
  record.token = prefix .. '.' .. (#claims + 1)
  record.charged = cost and math.floor(now) or 0
  record.reserved_input, record.reserved_output = cost and cost.input or 0, cost and cost.output or 0
  redis.call('ZADD', QUEUE, math.ceil(now + lease_ms), id)
  save_record(id, record)
  local claim = {
    id, disposition, record.token, record.claims, record.attempts, record.lost, record.route,
    record.lane, record.budget, record.reserved_input, record.reserved_output,
    budget and is_open(budget) and 1 or 0, redis.call('GET', PAYLOAD .. id),
  }
  if budget then
    claim[#claim + 1] = string.format('%.3f', now)
    for _, d in ipairs(DIMENSIONS) do claim[#claim + 1] = budget[d .. '_spent'] end
  end
  claims[#claims + 1] = claim
end

-- 1. Whatever comes due: waits that are over, leases of the dead, deadlines, and what arq clients put in.
local bound = most + 100 -- one call stays short however much comes due at once
local due = redis.call('ZRANGEBYSCORE', QUEUE, '(1', now, 'LIMIT', 0, bound)
local more_due, again = #due == bound, false
local spared = spared_until(now, lease_ms, false)
for _, id in ipairs(due) do
  local record = load_record(id) or foreign_record()
  local is_spared = record.state == 'l' and spared > now
  if record.state == 'l' and not is_spared then record.lost = record.lost + 1 end
  if is_spared then
    redis.call('ZADD', QUEUE, spared, id)
  elseif record.budget == '' and record.ends == 0 then
    if #claims < most then lease(id, record, 'foreign') else more_due = true end
  else
    if record.state == 'r' then leave_lane(id, record) end
    if record.ends == 0 and record.deadline > 0 and record.deadline <= now then record.ends = 'expired' end
    make_ready(id, record)
  end
end

-- 2. Those that only have to be ended: they cost nothing.
if #claims < most then
  for _, id in ipairs(redis.call('ZRANGE', DUE, 0, most - #claims - 1)) do
    redis.call('ZREM', DUE, id)
    local record = load_record(id)
    if not record then
      again = make_foreign(id, now) or again
    elseif record.state == 'r' and record.ends ~= 0 then
      lease(id, record, record.ends)
    end
  end
end

-- 3. By budget and lane. Budgets take turns, so that one with much to spend does not fill every slot. While more is due
-- than was looked at, nobody is sent: among it may be the deadline of the very job that would be.
local mended, seen = 0, false
local function next_of(class, lane, budget)
  local key = LANE .. class .. ':' .. lane
  local function next_id()
    local rank, jobs = 0, budget and is_open(budget) and redis.call('ZCARD', key) or 0
    if jobs > 0 then rank = probe_rank(budget, lane, jobs) end
    return redis.call('ZRANGE', key, rank, rank)[1]
  end
  local id = next_id()
  while id and mended < bound do
    local record = load_record(id)
    if record and record.state == 'r' and record.ends == 0 and lane_key(record) == key then
      seen = true
      return id, record
    end
    redis.call('ZREM', key, id) -- somebody deleted or overwrote keys by hand
    mended = mended + 1
    if not record then again = make_foreign(id, now) or again end
    id = next_id()
  end
end

local function rests(lane, class)
  return paused[lane] or is_parked(reached, lane, class)
end

-- Lanes that are owed a share of the budget go before those above them. What is owed is as urgent as lane 1. Where a
-- cap is reached, or the lane is paused, nobody goes.
local function head(class, budget)
  for lane = 2, 3 do
    if budget and not is_open(budget) and is_owed(budget, lane, now) and not rests(lane, class) then
      local id, record = next_of(class, lane, budget)
      if id then return id, record, true end
    end
  end
  -- Probes take the lanes in turn: one that holds nothing but what fails must not be the only one that is tried.
  local probed = budget and is_open(budget) and budget.probed_lane or 0
  for n = 1, 3 do
    local lane = (probed + n - 1) % 3 + 1
    if rests(lane, class) then
      seen = true -- its jobs are where they belong
    else
      local id, record = next_of(class, lane, budget)
      if id then return id, record, lane == 1 end
    end
  end
end

-- A job for which no other model was left is not handed out for one again until something was held back or lifted.
local function may_reroute(record)
  local was_tried = record.halted > 0 and record.halted == version
  return record.state == 'r' and record.ends == 0 and record.fallbacks > record.route and not was_tried
end

-- A class that has been out for long: its jobs that may ask another model do not wait for it. Lanes are looked through
-- from their heads every LOOK_EVERY_MS, a bounded part in each call, and between two rounds only what is behind: who comes
-- in before what was looked at, or moved up past it, is found in the next round. Whoever may go as a probe now stays:
-- where all may ask another model, nobody would ever find out that this one is back.
local LOOK_EVERY_MS = 30000
local function reroute(class, budget)
  if now - (budget.looked_at or 0) >= LOOK_EVERY_MS then
    redis.call('HDEL', budget.key, 'looked1', 'looked2', 'looked3')
    for lane = 1, 3 do budget['looked' .. lane] = nil end
    put(budget, 'looked_at', now)
  end
  local first, next_up, urgent = head(class, budget)
  local probe = first and admissible_at(budget, expected_cost(next_up), now, urgent) <= now and first
  for lane = 1, 3 do
    local name, key = 'looked' .. lane, LANE .. class .. ':' .. lane
    local looked = budget[name] or 0
    local ids = redis.call('ZRANGE', key, looked, looked + bound - 1)
    for _, id in ipairs(ids) do
      if #claims >= most then break end
      local record = id ~= probe and load_record(id)
      if record and may_reroute(record) then
        leave_lane(id, record)
        lease(id, record, 'reroute')
      else
        looked = looked + 1
      end
    end
    if #ids > 0 then put(budget, name, looked) end
    if #ids == bound or #claims >= most then again = true end
  end
end

local turns, slot = {}, nil
for _, class in ipairs(more_due and {} or redis.call('SMEMBERS', BUDGETS)) do
  local budget = load_budget(class)
  if budget then
    if is_open(budget) and budget.reroute_at and now >= budget.reroute_at then reroute(class, budget) end
    turns[#turns + 1] = { class = class, budget = budget }
  elseif head(class) then
    unconfigured[#unconfigured + 1] = class
  end
end
while #turns > 0 do
  local going = {}
  for _, turn in ipairs(turns) do
    local id, record, urgent = head(turn.class, turn.budget)
    if id then
      local cost = expected_cost(record)
      local at = admissible_at(turn.budget, cost, now, urgent)
      if at > now then
        slot = math.min(slot or at, at)
      elseif #claims >= most then
        slot = now
      else
        charge(turn.budget, cost, now)
        charge_lane(turn.budget, record, cost, now)
        -- Who comes anew starts level with those who are served: a probe from the middle of its lane is not served.
        if not is_open(turn.budget) then note_order(turn.budget, record) end
        turn.charged = true
        leave_lane(id, record)
        record.seen = seen_by(turn.budget, record)
        lease(id, record, 'run', cost, turn.budget)
        if is_open(turn.budget) then let_probe(turn.budget, record.lane, now) end
        going[#going + 1] = turn
      end
    end
    if turn.charged and going[#going] ~= turn then save_budget(turn.budget) end
  end
  turns = going
end

-- Nothing is ready, and yet the queue says that something is: its lane was deleted or evicted. It comes due, and goes
-- back where it belongs.
if not (seen or more_due) and redis.call('EXISTS', DUE) == 0 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', QUEUE, '-inf', 1, 'LIMIT', 0, bound)) do
    local record = load_record(id)
    if not record or record.state == 'r' then
      redis.call('ZADD', QUEUE, math.floor(now), id)
      if record and record.ends == 0 then redis.call('SADD', BUDGETS, record.budget) end
      again = true
    end
  end
end

-- 4. When to come back: the next slot of a budget, or the next timed event of the queue.
local at = now + REST_MS
if slot then at = math.min(at, slot) end
local event = redis.call('ZRANGEBYSCORE', QUEUE, '(' .. string.format('%.3f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if event[2] then at = math.min(at, tonumber(event[2])) end
if more_due or again or mended == bound or redis.call('EXISTS', DUE) == 1 then at = now end
local wait = -1
if #claims < most then
  wait = set_alarm(worker, at, now) - now
else
  redis.call('ZREM', IDLE, worker)
  ensure_alarm(at, now)
end
local flat = {}
for field, value in pairs(halts) do
  flat[#flat + 1] = field
  flat[#flat + 1] = tostring(value)
end
return { string.format('%.3f', math.ceil(wait * 1000) / 1000), unconfigured, claims, told, flat } -- never too early
