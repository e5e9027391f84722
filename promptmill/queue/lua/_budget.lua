-- A budget: weighted GCRA in three dimensions. For each dimension d the hash promptmill:budget:<class> holds
--   <d>_rate   units a minute that may be spent (headroom already taken off)
--   <d>_burst  units that may go at once on a full bucket
--   <d>_tat    theoretical arrival time, ms: when the bucket will be full again
-- and, for all of them, blocked_until (ms) with the reason for it; for each lane n
--   lane<n>_tat    until when (ms) it has had its share (not of lane 1, which goes first anyhow)
--   lane<n>_order  the furthest order that was claimed from it (see _turns.lua)
-- and, after the provider refused a request, how it comes back to its rate:
--   slowed_at    when (ms) it was last slowed down
--   ramp_from, ramp_share, ramp_growth   from then (ms) on it goes at this share of its rate, plus so much a minute
-- and, for its start after a rest
--   charged_at   when (ms) it was last charged
--   warm_up      how long (ms) it then takes to its whole rate
--   steep_at     when (ms) the provider last found that use rose too fast
-- Arithmetic of the dimensions: see promptmill/pacing.py, the same in Python, which a test compares step by step.
local DIMENSIONS = { 'requests', 'input', 'output' }

-- What each lower lane is owed of a budget's time, however much comes in above it.
local SHARES = { [2] = 0.05, [3] = 0.02 }

local START_SHARE, REST_BEFORE_MS = 0.25, 60000
local GROWTH = { rate_limited = 1, ramp_limited = 0.1 } -- of its rate, a minute, after the provider refused a request
local MEMORY_MS = 86400000 -- of a rise that was too steep for the provider
local AHEAD_MS = 10000     -- so far what is urgent may run ahead of the pace

local function read_budget(class)
  local budget = { key = BUDGET .. class }
  local flat = redis.call('HGETALL', budget.key)
  for i = 1, #flat, 2 do budget[flat[i]] = tonumber(flat[i + 1]) end
  return budget
end

-- Read once in a call of a script, which may settle a hundred jobs of one class: what changes one changes it both here
-- and in Redis, or forgets it here.
local loaded = {} -- by key

-- nil where it has no limits yet, or not all of them: whoever claims is then asked to configure it.
local function load_budget(class)
  local budget = loaded[BUDGET .. class]
  if budget then return budget end
  budget = read_budget(class)
  for _, d in ipairs(DIMENSIONS) do
    for _, name in ipairs({ '_rate', '_burst', '_tat', '_setting' }) do
      if not budget[d .. name] then return nil end
    end
    budget[d .. '_spent'] = budget[d .. '_spent'] or 0
  end
  loaded[budget.key] = budget
  return budget
end

-- The share of its rate at which a budget goes now: less than 1 after a refusal.
local function share_at(budget, now)
  local grown = (budget.ramp_growth or 0) * math.max(0, now - (budget.ramp_from or 0)) / 60000
  return math.min(1, (budget.ramp_share or 1) + grown)
end

-- When a request of this cost may be sent. min(cost, burst) lets one larger than the burst go on a full bucket;
-- the debt that it leaves keeps later ones back.
-- What is urgent passes a debt of tokens as far as the provider's bucket has them to spare: a long prompt keeps nobody
-- waiting at a screen. Requests stay evenly spaced all the same.
local function admissible_at(budget, cost, now, urgent)
  local at = math.max(budget.blocked_until or 0, budget.probe_at or 0) -- see _breaker.lua
  urgent = urgent and share_at(budget, now) == 1
  for _, d in ipairs(DIMENSIONS) do
    local per_unit = 60000 / budget[d .. '_rate']
    local burst = burst_at(budget, d, now)
    local tat = math.max(budget[d .. '_tat'], now)
    local due = tat + (math.min(cost[d], burst) - burst) * per_unit
    if urgent and due > now and d ~= 'requests' then
      due = math.min(due, math.max(due - AHEAD_MS, spare_at(budget, d, cost[d], now)))
    end
    at = math.max(at, due)
  end
  return at
end

-- How fast, of its rate a minute, a budget may come to its whole rate; nil: at once.
local function start_growth(budget, now)
  local warm_up = budget.warm_up or 0
  if warm_up == 0 then return nil end
  local growth = (1 - START_SHARE) * 60000 / warm_up
  if budget.steep_at and now - budget.steep_at < MEMORY_MS then growth = math.min(growth, GROWTH.ramp_limited) end
  return growth
end

-- Use that jumps to the whole rate at once looks like an accident to the provider.
local function begin_ramp(budget, now)
  local growth = start_growth(budget, now)
  if not growth or now - (budget.charged_at or 0) < REST_BEFORE_MS or share_at(budget, now) < 1 then return end
  budget.ramp_from, budget.ramp_share, budget.ramp_growth = now, START_SHARE, growth
end

-- At a share of the rate everything takes so much longer to come back, but never longer than what the share withholds
-- in all until it has grown: a long prompt is not put off by its length. What may go after a rest stays the same time,
-- so that a slot which was announced opens then, however the share grows meanwhile.
local function charge(budget, cost, now)
  begin_ramp(budget, now)
  local share, withheld = share_at(budget, now), 0
  if share < 1 then withheld = (1 - share) ^ 2 * 60000 / (2 * budget.ramp_growth) end
  for _, d in ipairs(DIMENSIONS) do
    local rate, kept, behind = pace_at(budget, d, now)
    local takes = cost[d] * 60000 / rate
    local slowed = math.min(takes / (share * kept), takes + withheld + behind)
    budget[d .. '_tat'] = math.max(budget[d .. '_tat'], now) + slowed
    budget[d .. '_spent'] = budget[d .. '_spent'] + cost[d]
  end
  budget.charged_at = now
end

-- A lane that nothing was ever counted for is owed nothing yet: it has not waited.
local function is_owed(budget, lane, now)
  local tat = budget['lane' .. lane .. '_tat']
  return tat ~= nil and tat <= now
end

-- A job takes as much of a lane's time as its scarcest dimension needs to come back. What a lane got because nobody
-- else wanted it is no debt: a night of full speed would leave it without its share for weeks. Nor does it save up more
-- than one job while it rests or while the slots of others are under way.
local function charge_lane(budget, record, cost, now)
  local took = 0
  for _, d in ipairs(DIMENSIONS) do took = math.max(took, cost[d] * 60000 / budget[d .. '_rate']) end
  for lower, share in pairs(SHARES) do
    local name = 'lane' .. lower .. '_tat'
    if lower == record.lane or not budget[name] then
      local tat = budget[name] or now
      budget[name] = math.max(tat, math.min(math.max(tat, now - took), now) + took / share)
    end
  end
end

local function note_order(budget, record)
  local order = 'lane' .. record.lane .. '_order'
  budget[order] = math.max(budget[order] or 0, record.order)
end

local STATE = {
  'requests_tat', 'input_tat', 'output_tat', 'lane2_tat', 'lane3_tat', 'lane1_order', 'lane2_order', 'lane3_order',
  'requests_spent', 'input_spent', 'output_spent', 'charged_at', 'ramp_from', 'ramp_share', 'ramp_growth',
}

local function save_budget(budget)
  local flat = {}
  for _, name in ipairs(STATE) do
    if budget[name] then
      flat[#flat + 1] = name
      flat[#flat + 1] = string.format('%.6f', budget[name])
    end
  end
  redis.call('HSET', budget.key, unpack(flat))
end

-- What was really used replaces what was reserved. '' means that nobody knows: the reservation then stands, as does
-- the request itself. A claim that was not charged has nothing to correct.
-- A refund cannot overfill the bucket: a TAT in the past counts as now, and what was charged while it was slowed down
-- comes back at the full rate, never for more than was paid.
local function reconcile(record, input, output)
  if record.charged == 0 or (input == '' and output == '') then return end
  local budget = load_budget(record.budget)
  if not budget then return end
  for d, actual in pairs({ input = input, output = output }) do
    if actual ~= '' then
      local difference = tonumber(actual) - record['reserved_' .. d]
      budget[d .. '_tat'] = budget[d .. '_tat'] + difference * 60000 / budget[d .. '_rate']
      budget[d .. '_spent'] = budget[d .. '_spent'] + difference
    end
  end
  save_budget(budget)
end
