-- needs: keys, record, learned, seen, budget, alarm
-- Stop jobs. One that is queued is handed out to be ended; one that runs is stopped by its worker.
-- ARGV  1 now (ms, or ''); then the ids
-- Returns for each id, in order: 'CANCELLED', 'STOPPING' (it runs) or 'UNKNOWN' (not in the queue, perhaps ended).
local now = clock(ARGV[1])
local answers, queued = {}, false
run_when_full()

-- arq's own `Job.abort` moves a job to the head of the queue, and there a leased one would never come due again should
-- its worker die. A live one renews its lease long before this.
local function keep_lease_end(id)
  local score = redis.call('ZSCORE', QUEUE, id)
  if not score or tonumber(score) <= 1 then redis.call('ZADD', QUEUE, math.ceil(now + 60000), id) end
end

for i = 2, #ARGV do
  local id = ARGV[i]
  local record = load_record(id)
  if not record and redis.call('ZSCORE', QUEUE, id) then record = foreign_record() end
  local answer = 'UNKNOWN'
  if record and record.ends == 'cancelled' then
    answer = record.state == 'l' and 'STOPPING' or 'CANCELLED'
  elseif record and record.state == 'l' then
    record.ends = 'cancelled'
    save_record(id, record)
    keep_lease_end(id)
    redis.call('PUBLISH', CANCEL_CHANNEL, id)
    answer = 'STOPPING'
  elseif record then
    if record.state == 'r' then leave_lane(id, record) end
    record.ends = 'cancelled'
    make_ready(id, record)
    queued = true
    answer = 'CANCELLED'
  end
  answers[#answers + 1] = answer
end
if queued then ensure_alarm(now, now) end
return answers
