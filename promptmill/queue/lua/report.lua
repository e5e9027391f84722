-- needs: keys, record, seen, budget, breaker
-- Tell the fleet that a request came to nothing, before its job is given back. Needs the lease.
-- ARGV  1 now (ms, or '')   2 id   3 token   4 outcome
--       5 what it tells: 'trips' (the provider may be out), 'unreached' (likewise, or this worker is cut off), 'parks'
--         (the account is refused), 'may_park' (the account, or this job alone), '' (nothing)
--       6 whether the failure may use up an attempt (0 or 1)
--       7 how long an open breaker waits between probes (ms)   8 when it ends at the latest (ms), or 0
--       9 what the provider asked everybody to wait (ms)
--       10 after how long jobs ask another model (ms), or '' where no other could help
--       11 how long a budget may be out before its failures use up attempts again (ms)
--       12 share of the rate that retries may take
-- Returns {'OK', whether the job is to blame, whether the breaker is open, whether that is news, ms until the retry,
-- whether the worker is cut off by itself}, or {'LEASE_LOST'}. It opens when enough requests in a row came to nothing,
-- for longer than answers take; or at once where the account is refused.
local now, outcome, effect = clock(ARGV[1]), ARGV[4], ARGV[5]
run_when_full()
local record = leased_record(ARGV[2], ARGV[3])
if not record then return { 'LEASE_LOST' } end
local budget = read_budget(record.budget)

local function answer(standing)
  local function bit(flag) return flag and 1 or 0 end
  return {
    'OK', bit(standing.blamed), bit(is_open(budget)), bit(standing.is_news),
    string.format('%.3f', standing.wait or 0), bit(standing.cut_off),
  }
end

-- What is the worker's own trouble is none of the job's, nor of anybody else's: another worker takes it.
if effect == 'unreached' and is_cut_off(budget, record, now) then return answer({ cut_off = true }) end

local failed_at = math.max(record.charged, math.floor(now))
local blamed, opens = true, false
if effect == 'trips' or effect == 'unreached' or effect == 'may_park' then
  blamed = is_to_blame(record)
  note_failure(budget, record, now)
  opens = is_probe(budget, record) or (not is_open(budget) and is_out(budget, now))
  if is_open(budget) or opens then blamed = false end
  if is_failing(budget, now) and now - budget.failing_since > tonumber(ARGV[11]) then blamed = true end
  if blamed and ARGV[6] == '1' then record.blamed = 1 end
elseif effect == 'parks' then
  blamed, opens = false, is_probe(budget, record) or record.charged > (budget.answered or 0)
end
record[effect == 'parks' and 'refused_at' or 'failed_at'] = failed_at
save_record(ARGV[2], record)

local is_news, wait = false, 0
if opens then
  local open_effect = (effect == 'parks' or effect == 'may_park') and 'parks' or 'trips'
  is_news = open_breaker(budget, now, outcome, open_effect, tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]))
  if ARGV[10] == '' then
    redis.call('HDEL', budget.key, 'reroute_at')
  else
    put(budget, 'reroute_at', budget.open_since + tonumber(ARGV[10]))
  end
elseif not is_open(budget) and effect ~= 'parks' then -- whoever was refused before the last answer is not one that fails
  wait = retry_wait(budget, record, now, tonumber(ARGV[12]))
end
return answer({ blamed = blamed, is_news = is_news, wait = wait })
