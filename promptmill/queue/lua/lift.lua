-- needs: keys, record, learned, seen, budget, alarm
-- Let what was held back go on: see _halts.lua.
-- ARGV  1 now (ms, or '')   2 field of the hash
-- Returns 1 if it was held back, else 0.
local now = clock(ARGV[1])
run_when_full()
local lifted = redis.call('HDEL', HALTS, ARGV[2])
if lifted == 1 then
  redis.call('HINCRBY', HALTS, 'version', 1)
  ensure_alarm(now, now)
end
return lifted
