-- needs: keys, record, budget
-- Take an ended job out of Redis, leave its result for whoever waits, and announce it. Needs the lease.
-- ARGV  1 id   2 token   3 result ('' for none)   4 how long to keep it (ms)   5 run or ''   6 status
--       7 input tokens used   8 output tokens used ('' where nobody knows)   9 cost (nano-USD)
-- Returns 'OK' or 'LEASE_LOST'.
local id, keep_ms, run = ARGV[1], tonumber(ARGV[4]), ARGV[5]
local record = leased_record(id, ARGV[2])
if not record then return 'LEASE_LOST' end
reconcile(record, ARGV[7], ARGV[8])
redis.call('ZREM', QUEUE, id)
redis.call('HDEL', JOBS, id)
redis.call('DEL', PAYLOAD .. id)
if ARGV[3] ~= '' and keep_ms > 0 then redis.call('SET', RESULT .. id, ARGV[3], 'PX', keep_ms) end
if run ~= '' then
  redis.call('HINCRBY', RUN .. run, ARGV[6], 1)
  redis.call('HINCRBY', RUN .. run, 'input_tokens', ARGV[7] == '' and 0 or ARGV[7])
  redis.call('HINCRBY', RUN .. run, 'output_tokens', ARGV[8] == '' and 0 or ARGV[8])
  redis.call('HINCRBY', RUN .. run, 'cost_nano_usd', ARGV[9])
  redis.call('EXPIRE', RUN .. run, 2592000)
  redis.call('PUBLISH', RUN_CHANNEL .. run, id)
end
redis.call('PUBLISH', DONE_CHANNEL .. id, ARGV[6])
return 'OK'
