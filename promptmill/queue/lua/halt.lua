-- needs: keys
-- Hold something back, for the whole fleet: see _halts.lua. Once more for the same is no other halt, only until another
-- time and for another reason.
-- ARGV  1 now (ms, or '')   2 field of the hash   3 for how long (ms; 0: until it is lifted)   4 why
-- Returns 'OK'.
local now, field, for_ms = clock(ARGV[1]), ARGV[2], tonumber(ARGV[3])
run_when_full()
local since = string.match(redis.call('HGET', HALTS, field) or '', '^(%d+) ') or string.format('%.0f', now)
local until_ms = for_ms > 0 and string.format('%.0f', math.ceil(now + for_ms)) or '0'
redis.call('HSET', HALTS, field, since .. ' ' .. until_ms .. ' ' .. ARGV[4])
redis.call('HINCRBY', HALTS, 'version', 1)
return 'OK'
