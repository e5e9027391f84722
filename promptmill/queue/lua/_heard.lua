-- When workers were last heard from. Each renews every third of a lease, also one that holds none. Where nobody did for
-- longer, leases have run out, or are about to, whose holders may well live: Redis was away, or all of them stood still.
-- They get half a lease to renew before anybody takes over what they run or hold the answer to (I6).
--   at     ms, of the newest renewal; none before the first one, or where the silence since was noted
--   until  ms: no lease is taken over before
-- A silence is more than the third of a lease that passes between two renewals, and less than the two thirds that are
-- left of every lease when Redis goes away.
local SILENCE = 1 / 2
local SPARED = 1 / 2 -- whoever lives tries again every third at least

-- Until when leases stand that ran out. Whoever comes first after a silence notes it; another one can only follow a
-- renewal, so that the jobs of the dead are not put off for ever where nobody renews.
local function spared_until(now, lease_ms, is_renewal)
  local heard = redis.call('HMGET', HEARD, 'at', 'until')
  local at, until_ms = tonumber(heard[1]), tonumber(heard[2]) or 0
  local was_silent = at and now - at > SILENCE * lease_ms
  if was_silent then until_ms = math.ceil(now + SPARED * lease_ms) end
  if is_renewal then
    redis.call('HSET', HEARD, 'at', math.floor(now), 'until', until_ms)
  elseif was_silent then
    redis.call('HSET', HEARD, 'until', until_ms)
    redis.call('HDEL', HEARD, 'at')
  end
  return until_ms
end
