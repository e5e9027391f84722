-- Whose turn it is within a lane: fair queueing by what jobs take of the budget. A job's order is as much more than the
-- last that its tenant was given in this lane of this budget, or than the last that was claimed from it where that is
-- further, as it takes slots: who comes anew starts level with those who are being served, not behind all that they
-- have submitted. One tenant alone is served first come, first served.
local MOST_TENANTS = 10000
local turns = {} -- of each lane that this call looked at

-- A tenant whose last job has gone starts level again anyhow. Where thousands have a backlog, all are forgotten: the
-- hash must not grow with every name that a stranger thinks of.
local function forget_tenants(key, claimed)
  local orders, left = redis.call('HGETALL', key), 0
  for i = 1, #orders, 2 do
    if (tonumber(orders[i + 1]) or 0) <= claimed then
      redis.call('HDEL', key, orders[i])
    else
      left = left + 1
    end
  end
  if left > MOST_TENANTS / 2 then redis.call('DEL', key) end
end

-- The time that a job takes of the budget, in that of a request that costs nothing else; 1 where limits are unknown.
local function slots_of(turn, cost)
  local slots = 1
  for _, d in ipairs({ 'input', 'output' }) do
    if turn.requests and turn[d] then slots = math.max(slots, cost[d] * turn.requests / turn[d]) end
  end
  return math.floor(slots + 0.5)
end

local function next_order(class, lane, tenant, cost)
  local key = TENANTS .. class .. ':' .. lane
  local turn = turns[key]
  if not turn then
    local known = redis.call(
      'HMGET', BUDGET .. class, 'lane' .. lane .. '_order', 'requests_rate', 'input_rate', 'output_rate'
    )
    for i = 1, 4 do known[i] = tonumber(known[i]) end
    turn = { claimed = known[1] or 0, requests = known[2], input = known[3], output = known[4], given = {} }
    if redis.call('HLEN', key) > MOST_TENANTS then forget_tenants(key, turn.claimed) end
    turns[key] = turn
  end
  local given = turn.given[tenant] or tonumber(redis.call('HGET', key, tenant) or 0) or 0
  turn.given[tenant] = math.max(turn.claimed, given) + slots_of(turn, cost)
  return turn.given[tenant]
end

-- Once at the end: a thousand jobs of one tenant are one write.
local function save_turns()
  for key, turn in pairs(turns) do
    for tenant, order in pairs(turn.given) do redis.call('HSET', key, tenant, string.format('%.0f', order)) end
  end
end
