-- What was spent, and which lanes rest because of it. The hash promptmill:spend holds
--   <period>:<lane>:<model class>   number of the period ('hour' or 'day', counted from the epoch), nano-USD of it
--   told:<cap>                      number of the period in which somebody was told that this cap is reached
-- What is counted is everybody's; a cap binds the workers whose settings have it. The sum is known when answers have
-- come, so what is in flight when a cap is reached goes beyond it, and nothing else does.
local PERIODS = { hour = 3600000, day = 86400000 }

local function period_of(per, now)
  return math.floor(now / PERIODS[per])
end

-- Nothing where the entry is of an earlier period, or is not ours.
local function spent_in(entry, period)
  local of, nano = string.match(entry or '', '^(%d+) (%d+)$')
  return tonumber(of) == period and tonumber(nano) or 0
end

local function count_spend(record, nano, now)
  nano = tonumber(nano)
  if nano <= 0 then return end
  for per in pairs(PERIODS) do
    local field, period = per .. ':' .. record.lane .. ':' .. record.budget, period_of(per, now)
    local sum = spent_in(redis.call('HGET', SPEND, field), period) + nano
    redis.call('HSET', SPEND, field, string.format('%.0f %.0f', period, sum))
  end
end

local function is_for(cap, lane, class)
  return (cap.lane == 0 or cap.lane == lane) and (cap.class == '' or cap.class == class)
end

-- Of the caps in this JSON (an array of {per, lane or 0, model class or '', nano-USD, 'park' or 'warn'}) those that are
-- reached, and what to tell about those of which nobody was told in their period: {place in the array, nano-USD}.
local function reached_caps(json, now)
  local reached, told = {}, {}
  if json == '' then return reached, told end
  local flat, spend = redis.call('HGETALL', SPEND), {}
  for i = 1, #flat, 2 do spend[flat[i]] = flat[i + 1] end
  for place, values in ipairs(cjson.decode(json)) do
    local cap = { per = values[1], lane = values[2], class = values[3], nano = values[4], parks = values[5] == 'park' }
    local period, sum = period_of(cap.per, now), 0
    for field, entry in pairs(spend) do
      local per, lane, class = string.match(field, '^(%a+):(%d):(.*)$')
      if per == cap.per and is_for(cap, tonumber(lane), class) then sum = sum + spent_in(entry, period) end
    end
    if sum >= cap.nano then
      reached[#reached + 1] = cap
      local name = 'told:' .. table.concat(values, ' ')
      if spend[name] ~= tostring(period) then
        redis.call('HSET', SPEND, name, tostring(period))
        told[#told + 1] = { place, string.format('%.0f', sum) }
      end
    end
  end
  return reached, told
end

local function is_parked(reached, lane, class)
  for _, cap in ipairs(reached) do
    if cap.parks and is_for(cap, lane, class) then return true end
  end
  return false
end
