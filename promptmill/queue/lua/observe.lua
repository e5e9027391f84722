-- needs: keys, seen, budget
-- Take in what an answer's headers say of the provider's buckets. The newest request wins; older ones change nothing.
-- ARGV  1 now (ms, or '')   2 model class   3 when (ms) its request was charged
--       4 requests   5 input   6 output: all that had been spent by then; then two for each dimension in that order:
--       units a minute, units left ('' where the answer does not say)
-- Returns {dimension, what was thought, what the provider says} for each limit that is news.
local WINDOW_MS = 10000      -- over which use by others is measured: shorter ones drown in rounding
local WEIGHT = 0.2           -- of the newest measurement: answers are charged here at once, there as they are generated
local NOBODY = 0.02          -- a full bucket hides so much of it at most
local HALF_LIFE_MS = 3600000 -- of a depth that is not seen again
local ROUNDED = { requests = 0, input = 500, output = 500 } -- token remainders are to the nearest thousand
local now, sent_at, news = clock(ARGV[1]), tonumber(ARGV[3]), {}
local spent = { requests = tonumber(ARGV[4]), input = tonumber(ARGV[5]), output = tonumber(ARGV[6]) }
run_when_full()
local budget = load_budget(ARGV[2])
-- Redis forgot the budget meanwhile, or its clock was set back: nothing that is remembered fits the answer.
local strange = not budget or sent_at > now or spent.requests > (budget.requests_spent or 0)
if strange or sent_at <= (budget.seen_at or 0) then return news end

local changes, unknown = { 'seen_at', string.format('%.3f', sent_at) }, {}
local function set(name, value)
  budget[name] = value
  changes[#changes + 1] = name
  changes[#changes + 1] = value
end

local function forget(name)
  budget[name] = nil
  unknown[#unknown + 1] = name
end

local function relimit(d, limit)
  local before = limit_of(budget, d)
  set(d .. '_limit', limit)
  if limit == before then return end
  news[#news + 1] = { d, tostring(before), tostring(limit) }
  if budget.pinned ~= 1 then
    local rate, burst = scaled(d, budget[d .. '_rate'], budget[d .. '_burst'], limit / before)
    set(d .. '_rate', rate)
    set(d .. '_burst', burst)
  end
  if budget[d .. '_depth'] then set(d .. '_depth', budget[d .. '_depth'] * limit / before) end
  forget(d .. '_since')
end

-- What came in and neither was charged by us nor is left went to others, or ran over: so it tells only where the bucket
-- could not have become full by what came in.
local function estimate_others(d, left)
  local since, limit = budget[d .. '_since'], limit_of(budget, d)
  if since and sent_at - since < WINDOW_MS then return end
  if since then
    local first, came = budget[d .. '_since_left'], limit * (sent_at - since) / 60000
    local ours = spent[d] - budget[d .. '_since_mark']
    local share = (came - ours - (left - first)) / came
    local bounded = first > 0 and left > 0 and first + came - ours <= budget[d .. '_depth']
    if bounded or math.abs(share) <= NOBODY then
      local mean = budget[d .. '_others'] or share
      set(d .. '_others', string.format('%.6f', math.max(0, math.min(1, mean + WEIGHT * (share - mean)))))
    else
      forget(d .. '_others')
    end
  end
  set(d .. '_since', sent_at)
  set(d .. '_since_left', left)
  set(d .. '_since_mark', spent[d])
end

for n, d in ipairs(DIMENSIONS) do
  local limit, left = tonumber(ARGV[5 + 2 * n]), tonumber(ARGV[6 + 2 * n])
  if limit then relimit(d, limit) end
  if left then
    left = math.min(math.max(0, left - ROUNDED[d]), limit_of(budget, d)) -- nobody's bucket is deeper than a minute
    local depth = budget[d .. '_depth'] or left
    local kept = 0.5 ^ ((sent_at - (budget.seen_at or sent_at)) / HALF_LIFE_MS)
    set(d .. '_depth', math.max(left, left + (depth - left) * kept))
    set(d .. '_left', left)
    set(d .. '_mark', spent[d])
    estimate_others(d, left)
  else
    forget(d .. '_left')
  end
end
if #unknown > 0 then redis.call('HDEL', budget.key, unpack(unknown)) end
redis.call('HSET', budget.key, unpack(changes))
return news
