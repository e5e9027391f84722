-- What the provider says of its own buckets in the headers of its answers. Of the newest one, by when its request was
-- charged, the hash promptmill:budget:<class> holds that time (ms) as seen_at, and for each dimension d
--   <d>_setting  units a minute as the owner set them, which what is said replaces unless it is `pinned`
--   <d>_limit    units a minute as the provider says
--   <d>_left     units that its bucket held after that request
--   <d>_mark     what <d>_spent was then: all units that were ever charged, corrected by what was really used
--   <d>_depth    the most that its bucket was seen to hold
--   <d>_others   share of the limit that others of the same account take; absent where nobody knows
--   <d>_since, <d>_since_left, <d>_since_mark   the answer from which that share is estimated next
-- Its arithmetic is in promptmill/pacing.py too.
local LEAST_DEPTH = { requests = 4, input = 4000, output = 4000 } -- shallower ones drown in the rounding of headers
local LEAST_FACTOR = 0.05
local AMPLE_MS = 5000  -- a bucket so deep forgives a pace that is off by a little: no headroom is needed
local SPARE = 0.01     -- of the limit: the headroom that is given up then, and no more of an owner's
local LATE_MS = 500    -- a worker that wakes up so much too late makes up for it where the provider's bucket is deep
-- Where it holds no more than two requests they are kept so much further apart: on their way one may come nearer to the
-- other. At most a share of their distance.
local SHALLOW, JITTER_MS, JITTER = 1.5, 50, 0.05 -- left after a request

local function limit_of(budget, d)
  return budget[d .. '_limit'] or budget[d .. '_setting']
end

-- A pace under a limit that is `by` times as high: its burst keeps its length in time.
local function scaled(d, rate, burst, by)
  return rate * by, d == 'requests' and 1 + (burst - 1) * by or math.max(1, burst * by)
end

-- What the provider's bucket holds now, reckoned from the newest answer: what came in since, less what we charged
-- since. nil where nobody knows: while a bucket could have been filled twice others may have done anything.
local function level_at(budget, d, now)
  local depth, left = budget[d .. '_depth'], budget[d .. '_left']
  if not depth or not left or depth < LEAST_DEPTH[d] then return nil end
  local per_ms = limit_of(budget, d) / 60000
  local age = now - budget.seen_at
  if age * per_ms > 2 * depth then return nil end
  return math.min(depth, left + age * per_ms - (budget[d .. '_spent'] - budget[d .. '_mark']))
end

local function is_ample(budget, d)
  return budget[d .. '_depth'] * 60000 / limit_of(budget, d) >= AMPLE_MS
end

-- When the provider's bucket is sure to be half full still, with a reserve for what others take, after so many units.
local function spare_at(budget, d, units, now)
  local level = level_at(budget, d, now)
  if not level or not is_ample(budget, d) then return math.huge end
  local half, per_ms = budget[d .. '_depth'] / 2, limit_of(budget, d) / 60000
  if (now - budget.seen_at) * per_ms > half then return math.huge end
  return now + math.max(0, half + units - level) / per_ms
end

local function is_shallow(budget, d)
  return d == 'requests' and (budget.requests_depth or math.huge) < SHALLOW
end

-- How many units may go at once.
local function burst_at(budget, d, now)
  local burst = budget[d .. '_burst']
  if d ~= 'requests' then return burst end
  if is_shallow(budget, d) then return 1 end
  local level = level_at(budget, d, now)
  if not level or level < budget[d .. '_depth'] / 2 or not is_ample(budget, d) then return burst end
  return math.max(burst, 1 + budget[d .. '_rate'] * LATE_MS / 60000)
end

-- How fast a dimension goes. Below half of its depth something else is drinking from the bucket: that gets its part,
-- and there is always a reserve for what it asks next. Where the bucket is deep this holds the pace, and headroom need
-- not.
-- Returns the rate, the share of it that is kept to, and how far (ms) the bucket is below its half.
local function pace_at(budget, d, now)
  local level, rate = level_at(budget, d, now), budget[d .. '_rate']
  if is_shallow(budget, d) then rate = rate / (1 + math.min(JITTER_MS * rate / 60000, JITTER)) end
  if not level then return rate, 1, 0 end
  local half, limit = budget[d .. '_depth'] / 2, limit_of(budget, d)
  if is_ample(budget, d) then
    rate = math.max(rate, math.min(budget.pinned == 1 and budget[d .. '_setting'] or limit, rate / (1 - SPARE)))
  end
  return rate, math.max(LEAST_FACTOR, math.min(1, level / half)), math.max(0, half - level) * 60000 / limit
end
