-- needs: keys, record, learned, seen, budget, turns, alarm
-- Put jobs into the queue: payload, record, place and cost at once, each once by its id.
-- ARGV  1 now (ms, or '' for Redis' clock); then three for each job: id, payload, and a JSON array of
--       lane (1..3), budget, requests, input, output, not before (ms or 0), deadline (ms or 0), run or '',
--       requests that were sent for it before (it was a dead letter), tenant, kind or '', max_tokens, fallbacks,
--       the status with which it had ended or '', what it had cost by then (nano-USD)
--       (one argument instead of fifteen: a client packs each argument by itself, and that is what takes its time)
-- Returns for each job, in order: 1 queued, 0 there already, 2 ended already (its result is still kept).
local now = clock(ARGV[1])
local count = (#ARGV - 1) / 3
local answers, runs, soonest, classes = {}, {}, nil, {}

for n = 1, count do
  local id, payload = ARGV[3 * n - 1], ARGV[3 * n]
  if redis.call('ZSCORE', QUEUE, id) then
    answers[n] = 0
  elseif redis.call('EXISTS', RESULT .. id) == 1 then
    answers[n] = 2
  else
    answers[n] = 1
    local lane, budget, requests, input, output, not_before, deadline, run, before, tenant, kind, longest,
      fallbacks, ended, cost = unpack(cjson.decode(ARGV[3 * n + 1]))
    redis.call('SET', PAYLOAD .. id, payload)
    local record = {
      lane = lane, budget = budget, requests = requests, input = input, output = output,
      claims = before, attempts = 0, lost = 0, route = 0, deadline = deadline, ends = 0,
      kind = kind ~= '' and kind or 0, longest = kind ~= '' and longest or 0,
      fallbacks = fallbacks or 0, failed_at = 0, blamed = 0, refused_at = 0, seen = 0, halted = 0,
    }
    record.order = next_order(budget, lane, tenant, record)
    local at = now
    if not_before > now then
      at = make_waiting(id, record, not_before)
    else
      make_ready(id, record)
      if soonest ~= now then at = claimable_at(record, now) end
    end
    soonest = math.min(soonest or at, at)
    classes[budget] = true
    if ended == '' or not uncount_end(run, ended, cost) then runs[run] = (runs[run] or 0) + 1 end
  end
end

save_turns()
for class in pairs(classes) do redis.call('SADD', BUDGETS, class) end
for run, added in pairs(runs) do count_submitted(run, added) end
if soonest then ensure_alarm(soonest, now) end
return answers
