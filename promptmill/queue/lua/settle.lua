-- needs: keys, record, learned, seen, budget, breaker, spend, alarm
-- Take ended jobs out of Redis, leave their results for whoever waits, and announce them. Needs the leases.
-- ARGV  1 now (ms, or ''); then eleven for each job:
--       id, token, result ('' for none), how long to keep it (ms), run or '', status,
--       input tokens used, output tokens used ('' where nobody knows), cost (nano-USD),
--       what of the cost was not counted when the job went back before,
--       what the reply to its request showed: 'answered', 'taken' or '' (see _breaker.lua)
-- Returns for each job, in order: 'OK', 'GOES_ON' (likewise, and by its reply the open breaker of its budget closed) or
-- 'LEASE_LOST'.
local now, answers, goes_on = clock(ARGV[1]), {}, false
run_when_full()
for base = 1, #ARGV - 1, 11 do
  local id, token, result, keep_ms = ARGV[base + 1], ARGV[base + 2], ARGV[base + 3], tonumber(ARGV[base + 4])
  local run, status, input, output = ARGV[base + 5], ARGV[base + 6], ARGV[base + 7], ARGV[base + 8]
  local record = leased_record(id, token)
  if record then
    reconcile(record, input, output)
    count_spend(record, ARGV[base + 10], now)
    if status == 'succeeded' then learn(record, input, output) end
    local reply = ARGV[base + 11]
    local closes = note_reply(record, reply, now)
    goes_on = goes_on or closes or reply == 'taken'
    redis.call('ZREM', QUEUE, id)
    redis.call('HDEL', JOBS, id)
    redis.call('DEL', PAYLOAD .. id)
    if result ~= '' and keep_ms > 0 then redis.call('SET', RESULT .. id, result, 'PX', keep_ms) end
    if run ~= '' then
      redis.call('HINCRBY', RUN .. run, status, 1)
      redis.call('HINCRBY', RUN .. run, 'input_tokens', input == '' and 0 or input)
      redis.call('HINCRBY', RUN .. run, 'output_tokens', output == '' and 0 or output)
      redis.call('HINCRBY', RUN .. run, 'cost_nano_usd', ARGV[base + 9])
      touch_run(run)
      redis.call('PUBLISH', RUN_CHANNEL .. run, id)
    end
    redis.call('PUBLISH', DONE_CHANNEL .. id, status)
    answers[#answers + 1] = closes and 'GOES_ON' or 'OK'
  else
    answers[#answers + 1] = 'LEASE_LOST'
  end
end
if goes_on then ensure_alarm(now, now) end
return answers
