-- Keeps the open pages of one source's run, and when each source must be looked at next. One call does one step.
--
-- KEYS  1 due       sorted set: source -> ms of the next look          (all sources)
--       2 schedule  sorted set: source -> ms when its next run is due  (all sources)
--       3 queues    hash: "<queue>:offered", "<queue>:seen" -> number; tick_at -> ms of the last tick;
--                   woke_at -> ms of the last tick that followed a long silence  (all sources)
--       4 clocks    hash: source -> ms that the clock of its answers is ahead of Redis's
--       5 last      hash: source -> summary of its last sealed run (opaque, except for its `run`)
--       6 open      hash: source -> id of its open run; if the run's own keys are gone, this shows that it was lost
--       7 run       hash: run, queue, region, hold, verdict, lanes, counters and times of the open run
--                   why, why_at: why pages came back since the last success, and since when
--                   unsure:<feed>: open pages whose answers tell how many more follow
--                   ahead:<feed>: expected pages that are not open yet
--                   apart: pages that wait alone, for a budget of their own
--                   open, held: the number of pages, and of held ones, to compare with the other keys
--                   <feed> is the first part of a page's id
--       8 pages     hash: page -> entry, JSON of these fields:
--                   d payload, g group, s sequence, h held, n offer number, t token, a attempts,
--                   f ms of the last failure, r requests, u unsure, b counted in apart
--                   o number of offers, except those whose worker can't have stored an answer
--                   i ms of its claim; if it isn't claimed, ms of its first offer since it was given back
--       9 ready     sorted set: waiting page -> sequence
--      10 later     sorted set: waiting page -> not-before ms
--      11 offered   sorted set: page with a message in its queue -> ms of the offer (or of the last check)
--      12 claimed   sorted set: page in a worker's hands -> ms when its lease ends
--      13 groups    hash: group -> open pages; "held:<group>" -> its held page
--      14.. the Celery lists of the queues named in ARGV[2], in that order
-- ARGV  1 operation, 2 JSON {source, queues, ...arguments of the operation}, 3 now in ms (tests) or ""
-- Reply JSON. Times are ms of Redis's clock. Every operation is atomic; each says whether it may be
-- repeated. A worker can change a claimed page only with the token in its entry.

local DUE, SCHEDULE, QUEUES, CLOCKS, LAST, OPEN =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local RUN, PAGES, READY, LATER, OFFERED, CLAIMED, GROUPS =
  KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local RUN_KEYS = {RUN, PAGES, READY, LATER, OFFERED, CLAIMED, GROUPS}
local CHECK_AGAIN = 10000    -- after this, a doubtful offer or a source that wasn't tended is looked at again
local REPEAT = 30000         -- a seal, probe or plan message is repeated after this
local CROWD = 100            -- a queue with this many messages gets no more; the work stays in `due`
local SEAL_GRACE = 5000      -- the caller that closes the last page publishes the seal; after this the tick does
local AWAY = 600000          -- without a tick for this long, the fleet was not running
local WAIT_MOST = 120000     -- the longest wait before a run asks again, whatever a header or clock says
local CLOCK_SLACK = 2000     -- PagerDuty's Date has whole seconds, and an answer takes a while to be stored

local arg = cjson.decode(ARGV[2])
local source = arg.source
-- In ms: the age at which an unclaimed offer may be lost; the first and the longest wait between
-- probes; how long a run may go without any success before it is sealed as it stands; how long a
-- sealer may go without renewing
local OFFER_LIFE, PROBE_FIRST, PROBE_MOST, GIVE_UP, SEAL_LEASE = unpack(arg.times)
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function get(field) return redis.call('HGET', RUN, field) or nil end
local function number(field) return tonumber(redis.call('HGET', RUN, field) or 0) end
local function set(...) redis.call('HSET', RUN, ...) end

local function entry_of(page)
  local text = redis.call('HGET', PAGES, page)
  return text and cjson.decode(text) or nil
end
local function keep(page, entry) redis.call('HSET', PAGES, page, cjson.encode(entry)) end

local function first_score(key)
  return tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end

local function messages(queue)
  for position, name in ipairs(arg.queues) do
    if name == queue then return redis.call('LLEN', KEYS[13 + position]) end
  end
end
local function crowded(queue) return messages(queue) >= CROWD end

-- Until when the whole run waits. A time that is further ahead than WAIT_MOST is cut: the clock was set back.
local function wait_until()
  if number('wait_until') > now + WAIT_MOST then set('wait_until', now + WAIT_MOST) end
  return number('wait_until')
end

-- Whether all keys of the run are there. If Redis evicts keys, it does so one by one. The rest of the run
-- could then look like a run whose pages were all read.
local function whole()
  local open, placed = number('open'), number('held')
  for _, key in ipairs({READY, LATER, OFFERED, CLAIMED}) do placed = placed + redis.call('ZCARD', key) end
  return redis.call('EXISTS', RUN) == 1 and redis.call('HLEN', PAGES) == open and placed == open
    and (open == 0 or redis.call('EXISTS', GROUPS) == 1)
end

local function open_pages() return redis.call('HLEN', PAGES) end
local function free_lanes()
  return number('lanes') - redis.call('ZCARD', OFFERED) - redis.call('ZCARD', CLAIMED)
end

-- When a run without any success is given up. Time spent paused, or while the fleet was down, does not
-- count as silence.
local function give_up_at()
  local hold = get('hold')
  if hold and hold ~= 'key' then return now + GIVE_UP end
  local woke_at = tonumber(redis.call('HGET', QUEUES, 'woke_at') or 0)
  return math.max(number('success_at'), woke_at) + GIVE_UP
end

-- Set in `due` when this source needs its next look. If it doesn't need one, remove it from `due`.
local function look()
  local next_look
  local function at(ms) if ms and (not next_look or ms < next_look) then next_look = ms end end
  if redis.call('EXISTS', RUN) == 0 then
    at(tonumber(redis.call('ZSCORE', SCHEDULE, source) or nil))
  else
    at(first_score(CLAIMED))
    if open_pages() > 0 then at(give_up_at()) end
    if open_pages() == 0 then
      at(number('seal_at'))
    elseif get('hold') == 'key' then
      at(number('probe_at'))
    elseif not get('hold') then
      local offered, later, wait = first_score(OFFERED), first_score(LATER), wait_until()
      at(offered and offered + OFFER_LIFE)
      at(later and math.max(later, wait))
      if free_lanes() > 0 and redis.call('ZCARD', READY) > 0 then at(math.max(now, wait)) end
    end
  end
  if next_look then redis.call('ZADD', DUE, next_look, source) else redis.call('ZREM', DUE, source) end
end

-- Whether the source answered since the page's last failure or, if it never failed, since it was claimed.
local function answered(entry) return number('success_at') > (entry.f or entry.i or now) end

-- Count an attempt against a page, but only if its source answered: an outage does not use up attempts.
local function count_failure(entry)
  if answered(entry) then entry.a = (entry.a or 0) + 1 end
  entry.f = now
end

-- Don't count the last offer: nothing was stored, so the next worker need not look for a stored answer.
local function came_to_nothing(entry) entry.o = entry.o - 1 end

-- Count a page in `apart` if it waits for a budget of its own while the rest of the run goes on.
local function set_apart(entry, apart)
  if apart ~= (entry.b or false) then redis.call('HINCRBY', RUN, 'apart', apart and 1 or -1) end
  entry.b = apart or nil
end

local function waits(page, entry, until_ms, apart)
  local later = until_ms ~= nil and until_ms > now
  set_apart(entry, later and apart == true)
  keep(page, entry)
  if later then redis.call('ZADD', LATER, until_ms, page)
  else redis.call('ZADD', READY, entry.s, page) end
end

local function feed_of(page) return page:match('^[^/]+') end
local function count_unsure(page, entry, change)
  if entry.u then redis.call('HINCRBY', RUN, 'unsure:' .. feed_of(page), change) end
end

-- Note why the source waits, and since when. The next success clears it.
local function blame(why, since)
  if get('why') ~= why then set('why', why, 'why_at', since or now) end
end

-- Count a page that was opened (1) or closed (-1).
local function count_open(entry, change)
  redis.call('HINCRBY', RUN, 'open', change)
  if entry.h then redis.call('HINCRBY', RUN, 'held', change) end
end

local function add(page)  -- a page to open: id, payload, group, held, delay_seconds, unsure
  if redis.call('HEXISTS', PAGES, page.id) == 1 then return end
  local entry = {d = page.payload, g = page.group, s = redis.call('HINCRBY', RUN, 'sequence', 1),
    h = page.held or nil, u = page.unsure or nil}
  count_unsure(page.id, entry, 1)
  count_open(entry, 1)
  redis.call('HINCRBY', GROUPS, page.group, 1)
  if entry.h then
    redis.call('HSET', GROUPS, 'held:' .. page.group, page.id)
    keep(page.id, entry)
  else
    waits(page.id, entry, now + page.delay_seconds * 1000)
  end
end

-- Free the held page of a group when it is the last open page of the group.
local function free_held(group)
  local held = redis.call('HGET', GROUPS, 'held:' .. group)
  if held and tonumber(redis.call('HGET', GROUPS, group) or 0) == 1 then
    redis.call('HDEL', GROUPS, 'held:' .. group)
    local entry = entry_of(held)
    entry.h = nil
    redis.call('HINCRBY', RUN, 'held', -1)
    waits(held, entry)
  end
end

-- Fill the free lanes; returns the offers to publish: {{page, number}, ...}
local function fill()
  local offers = {}
  if get('hold') or get('verdict') or wait_until() > now then return offers end
  for _, page in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', now)) do
    redis.call('ZREM', LATER, page)
    waits(page, entry_of(page))
  end
  local queue, free = get('queue'), free_lanes()
  while free > 0 do
    local page = redis.call('ZPOPMIN', READY)[1]
    if not page then break end
    local entry = entry_of(page)
    entry.n = redis.call('HINCRBY', QUEUES, queue .. ':offered', 1)
    entry.o, entry.i = (entry.o or 0) + 1, entry.i or now
    keep(page, entry)
    redis.call('ZADD', OFFERED, now, page)
    offers[#offers + 1] = {page, entry.n}
    free = free - 1
  end
  return offers
end

local function drop_pages()
  redis.call('DEL', PAGES, READY, LATER, OFFERED, CLAIMED, GROUPS)
end

local function drop_group(group)
  for _, page in ipairs(redis.call('HKEYS', PAGES)) do
    if page:sub(1, #group + 1) == group .. '/' then
      local entry = entry_of(page)
      count_unsure(page, entry, -1)
      count_open(entry, -1)
      set_apart(entry, false)
      redis.call('HDEL', PAGES, page)
      for _, key in ipairs({READY, LATER, OFFERED, CLAIMED}) do redis.call('ZREM', key, page) end
    end
  end
  redis.call('HDEL', GROUPS, group, 'held:' .. group)
end

local function conclude(verdict)  -- read no more pages, and seal those that were read
  drop_pages()
  set('verdict', verdict, 'seal_at', now, 'open', 0, 'held', 0)
  redis.call('HDEL', RUN, 'hold', 'apart')
end

local function is_run() return get('run') == arg.run end

-- The entry of arg.page if it is in the caller's hands, else nil.
local function claimed_by_caller()
  if not is_run() then return nil end
  local entry = entry_of(arg.page)
  if entry and entry.t and entry.t == arg.token then return entry end
end

local function succeeded()
  -- A request that was sent earlier may succeed while the run waits for budget. The wait then counts from now.
  if get('why') == 'budget' and number('wait_until') > now then set('why_at', now)
  else redis.call('HDEL', RUN, 'why', 'why_at') end
  set('success_at', now, 'lanes', math.min(number('lanes') + 1, number('lanes_max')))
  if arg.date then
    local ahead = arg.date - now
    local known = tonumber(redis.call('HGET', CLOCKS, source) or nil)
    -- A Date is cut to seconds and arrives late, so it can look too old, but never too new. So the newest one is
    -- right, unless a clock was set back.
    if not known or ahead > known or known - ahead > CLOCK_SLACK then
      redis.call('HSET', CLOCKS, source, ahead)
    end
  end
end

local function count_requests(sent)
  if sent and sent > 0 then
    redis.call('HINCRBY', RUN, 'requests:' .. arg.resource, sent)
  end
end

local function reply(status, offers)
  local ready_to_seal = redis.call('EXISTS', RUN) == 1 and open_pages() == 0
  if ready_to_seal then
    redis.call('HSETNX', RUN, 'empty_at', now)
    if number('seal_at') <= now then set('seal_at', now + SEAL_GRACE) end
  end
  look()
  local answer = {status = status, seal = ready_to_seal and not crowded('seal'), queue = get('queue')}
  if offers and #offers > 0 then answer.offers = offers end
  return cjson.encode(answer)
end

local operations = {}

-- Take up to `most` sources that are due (0: the fleet is paused). A source that isn't tended is due
-- again soon. Repeatable.
function operations.take()
  local sources = redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, arg.most)
  for _, name in ipairs(sources) do redis.call('ZADD', DUE, now + CHECK_AGAIN, name) end
  local before = tonumber(redis.call('HGET', QUEUES, 'tick_at') or 0)
  if arg.most == 0 or now - before > AWAY then redis.call('HSET', QUEUES, 'woke_at', now) end
  redis.call('HSET', QUEUES, 'tick_at', now)
  return cjson.encode({status = 'taken', sources = #sources > 0 and sources or nil})
end

-- Redis's time, when `take` was called last, and how far the clock of the source's answers is ahead
-- (absent: not known yet). It is kept per source, because the answers to one account must not date another's runs.
function operations.time()
  local ahead = tonumber(redis.call('HGET', CLOCKS, source) or nil)
  local tick_at = tonumber(redis.call('HGET', QUEUES, 'tick_at') or nil)
  return cjson.encode({status = 'time', now = now, ahead = ahead, tick_at = tick_at})
end

-- The open run's fields; its number of pages in each state; when its oldest offered page was offered, and its
-- oldest claimed page claimed; when the next run is due; when the source is looked at next. Reads only the
-- entries of pages in flight.
function operations.progress()
  local function oldest(key)
    local since
    for _, page in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      local entry = entry_of(page)
      local at = entry and entry.i  -- a part of the run may have been evicted
      if at and (not since or at < since) then since = at end
    end
    return since
  end
  return cjson.encode({status = 'progress', now = now, run = redis.call('HGETALL', RUN),
    pages = open_pages(), ready = redis.call('ZCARD', READY), later = redis.call('ZCARD', LATER),
    offered = redis.call('ZCARD', OFFERED), claimed = redis.call('ZCARD', CLAIMED),
    offered_at = oldest(OFFERED), claimed_at = oldest(CLAIMED),
    due_at = tonumber(redis.call('ZSCORE', SCHEDULE, source) or nil),
    look_at = tonumber(redis.call('ZSCORE', DUE, source) or nil)})
end

-- Open a run with its first pages, or join the run that is open. `reopened`: its pages may be stored
-- already. Repeatable.
function operations.open()
  local run = get('run')
  redis.call('HSET', OPEN, source, run or arg.run)
  if run then
    if run == arg.run and arg.reopened then set('reopened', 1) end
    look()
    return cjson.encode({status = 'joined', run = run})
  end
  redis.call('DEL', unpack(RUN_KEYS))  -- some may be left of a run that Redis evicted in part
  set('run', arg.run, 'queue', arg.queue, 'region', arg.region, 'lanes', arg.lanes,
      'lanes_max', arg.lanes_max, 'opened_at', now, 'success_at', now, 'seal_at', now)
  if arg.reopened then set('reopened', 1) end
  if arg.hold then set('hold', arg.hold) end
  for _, page in ipairs(arg.pages) do add(page) end
  return reply('opened', fill())
end

-- Take an offered page. Raises the queue's `seen` even if the message is dropped. Repeatable.
function operations.claim()
  local seen = arg.queue .. ':seen'
  if arg.number > tonumber(redis.call('HGET', QUEUES, seen) or 0) then
    redis.call('HSET', QUEUES, seen, arg.number)
  end
  if not is_run() or not redis.call('ZSCORE', OFFERED, arg.page) then
    return cjson.encode({status = 'dropped'})
  end
  local entry = entry_of(arg.page)
  redis.call('ZREM', OFFERED, arg.page)
  if get('hold') then
    entry.i = nil
    came_to_nothing(entry)
    waits(arg.page, entry)
    return reply('dropped')
  end
  entry.t, entry.i = arg.token, now
  keep(arg.page, entry)
  redis.call('ZADD', CLAIMED, now + arg.lease, arg.page)
  look()
  return cjson.encode({status = 'claimed', payload = entry.d, attempts = entry.a or 0,
    requests = entry.r or 0, at_ms = now, stored = (entry.o > 1 or get('reopened')) and true or false})
end

-- Keep a claimed page for another lease. Repeatable.
function operations.renew()
  if not claimed_by_caller() then return cjson.encode({status = 'stale'}) end
  redis.call('ZADD', CLAIMED, now + arg.lease, arg.page)
  return reply('renewed')
end

-- Give a claimed page back. `stored`: an answer may be stored.
--   failed     counts an attempt if the source is alive; the page waits for `delay`
--   alone      only this page waits for `delay`, for a budget of its own
--   otherwise  the whole run waits for `delay`, because all its pages need the same budget
-- The page stays in the caller's hands in two cases. "exhausted": it failed `most` times. "lonely": nobody
-- knows whether the source is alive, so the caller sends a probe and calls again with `probed`. A first
-- failure is not lonely unless it was `slow`.
function operations.give_back()
  local entry = claimed_by_caller()
  if not entry then return cjson.encode({status = 'stale'}) end
  if arg.failed and not arg.probed and not answered(entry) and (entry.f or arg.slow) then
    redis.call('ZADD', CLAIMED, now + arg.lease, arg.page)
    return reply('lonely')
  end
  count_requests(arg.sent)
  entry.r = (entry.r or 0) + (arg.sent or 0)
  if arg.failed then
    set('lanes', 1)
    count_failure(entry)
    if arg.most and (entry.a or 0) >= arg.most then
      keep(arg.page, entry)
      return reply('exhausted')
    end
  end
  blame(arg.why, entry.i)
  entry.t, entry.i = nil, nil
  if not arg.stored then came_to_nothing(entry) end
  redis.call('ZREM', CLAIMED, arg.page)
  local until_ms = now + math.min(arg.delay, WAIT_MOST)
  if arg.failed or arg.alone then
    waits(arg.page, entry, until_ms, arg.alone and arg.why == 'budget')
  else
    set('wait_until', math.max(wait_until(), until_ms))
    waits(arg.page, entry)
  end
  return reply('back', fill())
end

-- Close a claimed page and open its followers. Without `settle`, the last open page of its group is
-- not closed: the caller is told `last`, decides the result of the group, and calls again.
-- `supersede` drops the rest of the group. `ahead`: expected pages of the feed besides the open ones.
function operations.close()
  local entry = claimed_by_caller()
  if not entry then return cjson.encode({status = 'stale'}) end
  local group, same = entry.g, false
  for _, page in ipairs(arg.followers) do same = same or page.group == group end
  if not arg.settle and not same and tonumber(redis.call('HGET', GROUPS, group)) == 1 then
    return cjson.encode({status = 'last'})
  end
  redis.call('HDEL', PAGES, arg.page)
  redis.call('ZREM', CLAIMED, arg.page)
  count_unsure(arg.page, entry, -1)
  count_open(entry, -1)
  if arg.ahead then set('ahead:' .. feed_of(arg.page), arg.ahead) end
  if redis.call('HINCRBY', GROUPS, group, -1) == 0 then redis.call('HDEL', GROUPS, group) end
  if arg.supersede then drop_group(group) end
  for _, page in ipairs(arg.followers) do add(page) end
  free_held(group)
  redis.call('HINCRBY', RUN, 'closed', 1)
  count_requests(arg.sent)
  if arg.failed then redis.call('HINCRBY', RUN, 'failed', 1)
  elseif (arg.sent or 0) > 0 then succeeded() end  -- an answer from storage says nothing about PagerDuty
  return reply('closed', fill())
end

-- Record that the key was refused (401). A run that has read nothing ends; any other is suspended and
-- probed, also a reopened one, which may have read something before. The page uses up an attempt: it is
-- requested again only after a probe succeeded, and an account that refuses only this page must not keep the
-- run open forever. Repeatable.
function operations.refuse()
  local entry = claimed_by_caller()
  if not entry then return cjson.encode({status = 'stale'}) end
  count_requests(arg.sent)
  blame('key')
  entry.t, entry.i = nil, nil
  entry.a = (entry.a or 0) + 1
  came_to_nothing(entry)
  redis.call('ZREM', CLAIMED, arg.page)
  waits(arg.page, entry)
  if number('closed') == 0 and not get('reopened') then
    conclude('refused')
  elseif not get('hold') then
    set('hold', 'key', 'probe_at', now + PROBE_FIRST, 'probe_wait', PROBE_FIRST)
  end
  return reply('refused')
end

-- Record the result of a probe. Repeatable.
function operations.probed()
  if not is_run() then return cjson.encode({status = 'stale'}) end
  count_requests(arg.sent)
  if arg.ok then
    set('success_at', now)
    if get('hold') == 'key' then redis.call('HDEL', RUN, 'hold', 'probe_at', 'probe_wait') end
  elseif get('hold') == 'key' then
    local wait = math.min(number('probe_wait') * 2, PROBE_MOST)
    set('probe_wait', wait, 'probe_at', now + wait)
  end
  return reply('probed', fill())
end

-- Stop a source's requests (`hold`), or let them continue (`resume`). Repeatable.
function operations.hold()
  if redis.call('EXISTS', RUN) == 0 then return reply('idle') end
  set('hold', arg.hold)
  return reply('held')
end
function operations.resume()
  if redis.call('EXISTS', RUN) == 0 then return reply('idle') end
  redis.call('HDEL', RUN, 'hold', 'probe_at', 'probe_wait', 'why', 'why_at')
  set('success_at', now)
  return reply('resumed', fill())
end

-- End the open run without its remaining pages. Repeatable.
function operations.cancel()
  if not is_run() then return cjson.encode({status = 'stale'}) end
  if not get('verdict') then conclude('cancelled') end
  return reply('cancelled')
end

-- Set when the next run is due; without `at`: never. Repeatable.
function operations.schedule()
  if arg.at then redis.call('ZADD', SCHEDULE, arg.at, source)
  else redis.call('ZREM', SCHEDULE, source) end
  return reply('scheduled')
end

-- Do the work that is due for a source: take back lost offers and ended leases, fill lanes, and name
-- the task to publish (`task`: plan, seal or probe). Repeatable.
function operations.tend()
  if redis.call('EXISTS', RUN) == 0 then
    local at = tonumber(redis.call('ZSCORE', SCHEDULE, source) or nil)
    if not at or at > now then return reply('idle') end
    local crowd = crowded('plan')
    redis.call('ZADD', DUE, now + (crowd and CHECK_AGAIN or REPEAT), source)
    return cjson.encode({status = 'due', task = not crowd and 'plan' or nil})
  end
  if open_pages() > 0 and give_up_at() <= now then conclude('silent') end
  for _, page in ipairs(redis.call('ZRANGEBYSCORE', CLAIMED, '-inf', now)) do
    redis.call('ZREM', CLAIMED, page)
    local entry = entry_of(page)
    count_failure(entry)
    entry.t, entry.i = nil, nil
    waits(page, entry)
  end
  for _, page in ipairs(redis.call('ZRANGEBYSCORE', OFFERED, '-inf', now - OFFER_LIFE)) do
    local entry, queue = entry_of(page), get('queue')
    local seen = tonumber(redis.call('HGET', QUEUES, queue .. ':seen') or 0)
    if seen > entry.n or messages(queue) == 0 then
      redis.call('ZREM', OFFERED, page)
      came_to_nothing(entry)
      waits(page, entry)
    else
      redis.call('ZADD', OFFERED, now - OFFER_LIFE + CHECK_AGAIN, page)
    end
  end
  local task
  local function send(what, queue, at)
    if not crowded(queue) then task = what end
    set(at, now + (task and REPEAT or CHECK_AGAIN))
  end
  if open_pages() == 0 and number('seal_at') <= now then send('seal', 'seal', 'seal_at')
  elseif get('hold') == 'key' and number('probe_at') <= now then send('probe', 'plan', 'probe_at') end
  local answer = cjson.decode(reply('open', fill()))
  answer.task, answer.run, answer.seal = task, get('run'), nil
  return cjson.encode(answer)
end

-- Become the sealer of a run without open pages, or renew the lease with the same token. Repeatable.
function operations.seal()
  if not is_run() or open_pages() > 0 then return cjson.encode({status = 'stale'}) end
  if get('seal_token') ~= arg.token and number('seal_lease') > now then
    return cjson.encode({status = 'taken'})
  end
  if get('seal_token') ~= arg.token then redis.call('HINCRBY', RUN, 'seals', 1) end
  set('seal_token', arg.token, 'seal_lease', now + SEAL_LEASE, 'seal_at', now + SEAL_LEASE)
  return reply('sealing')
end

-- Whether a newer run is known to have ended, which means that this call came too late.
local function is_older()
  local known = redis.call('HGET', LAST, source)
  local read, last = pcall(cjson.decode, known or '')
  return read and type(last) == 'table' and last.run ~= nil and last.run > arg.run
end

-- Forget a run whose manifest is stored, and schedule the next. Repeatable.
function operations.finish()
  if redis.call('HGET', OPEN, source) == arg.run then redis.call('HDEL', OPEN, source) end
  if is_run() then redis.call('DEL', unpack(RUN_KEYS)) end
  if is_older() then return reply('finished') end
  if arg.summary then redis.call('HSET', LAST, source, arg.summary) end
  if arg.at then redis.call('ZADD', SCHEDULE, arg.at, source)
  else redis.call('ZREM', SCHEDULE, source) end
  return reply('finished')
end

-- If a run lost some of its keys, remove the rest. Its source is then due at once, and the run is opened again
-- from storage.
local READS = {take = true, time = true, progress = true}
if not READS[ARGV[1]] and redis.call('HEXISTS', OPEN, source) == 1 and not whole() then
  redis.call('DEL', unpack(RUN_KEYS))
  redis.call('HDEL', OPEN, source)
  redis.call('ZADD', SCHEDULE, now, source)
  look()
end

return operations[ARGV[1]]()
