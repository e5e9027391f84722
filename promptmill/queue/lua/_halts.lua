-- What is held back until somebody lets it go on. The hash promptmill:halts holds
--   lane:<by>:<lane>        since when (ms), until when (ms; 0: until it is lifted), and why: the lane claims nothing
--   fallback:<by>:<model>   likewise: jobs that asked for another model do not go on to this one
--   version                 counts the changes
-- `by` is who wants it, such as `owner` or `alarm 12`: what two of them hold back goes on when both have let it go.

-- Fields and values; those whose time is over go.
local function current_halts(now)
  local kept, gone, flat = {}, {}, redis.call('HGETALL', HALTS)
  for i = 1, #flat, 2 do
    local until_ms = tonumber(string.match(flat[i + 1], '^%d+ (%d+)') or 0)
    if until_ms > 0 and until_ms <= now then
      gone[#gone + 1] = flat[i]
    else
      kept[flat[i]] = flat[i + 1]
    end
  end
  if #gone > 0 then
    redis.call('HDEL', HALTS, unpack(gone))
    kept.version = redis.call('HINCRBY', HALTS, 'version', 1)
  end
  return kept
end

local function paused_lanes(halts)
  local lanes = {}
  for field in pairs(halts) do
    local lane = string.match(field, '^lane:[^:]*:([123])$')
    if lane then lanes[tonumber(lane)] = true end
  end
  return lanes
end
