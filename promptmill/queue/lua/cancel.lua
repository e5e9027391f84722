-- needs: keys, record, budget, alarm
-- Stop jobs. One that is queued is handed out to be ended; one that runs is stopped by its worker.
-- ARGV  1 now (ms, or ''); then the ids
-- Returns for each id, in order: 'CANCELLED', 'STOPPING' (it runs) or 'UNKNOWN' (not in the queue, perhaps ended).
local now = clock(ARGV[1])
local answers, queued = {}, false
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
