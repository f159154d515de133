-- One budget shared by every process that uses a credential: which request may be sent, and when.
--
-- KEYS   1 hash: the budget's state   2 list: requests admitted in the last window
-- ARGV   1 verb   2 now in ms, "" for this server's clock   3 window in ms   4 limit assumed
--        reserve   5 reserve share   6 patience in ms
--        confirm   5 slot
--        observe   5 ticket   6 status, 0 without an answer
--                  7 limit   8 remaining   9 reset in ms, each -1 if the answer didn't say   10 jitter in ms
--        state     5 reserve share
-- REPLY  reserve   {1 granted | 0, wait in ms, slot, ticket, reason}; debits only if granted
--        confirm   {1 send | 0 void, wait in ms}
--        observe   nothing
--        state     {limit, ceiling, used, foreign, pause left in ms, waits, longest wait in ms}
--
-- THE LAW. A request gets a slot, the first moment that satisfies all of these:
--
--   order    slot >= now, slot >= the newest slot given
--   pause    slot >= pause
--   paced    slot >= tat - (burst - 1) * T;   then tat = max(tat, slot) + T
--            T = window / ceiling, burst = limit / 8 but at most ceiling. tat is cut to newest
--            slot + burst * T, so that a debt made at a low ceiling is not carried into a higher one
--   window   fewer than ceiling slots lie in (slot - window, slot]. An entry of the log stands for
--            1/240 of a window: (newest slot, count). It leaves as a whole, with its newest slot
--
--   ceiling = min(limit * (1 - reserve), limit * 0.98 - foreign - sqrt(foreign)), at least 1
--
-- foreign is the number of requests that other programs send; its square root allows for chance. So
-- foreign requests are taken from the reserve first. If the slot is within the caller's patience, it is
-- debited and numbered (ticket 1, 2, 3 ...). If it is further away, nothing changes, and the reply says
-- when to ask again: at the slot, or earlier if our knowledge of foreign requests expires before it.
--
-- WHAT ANSWERS TEACH. used = limit - remaining counts the server's present window, which turns at
-- now + reset. Tickets put answers in the order of their requests: a late answer never overrides a
-- newer one, and an answer from a window known to be over is ignored. With a window's first answer as
-- base:
--
--   so far  = used - base used - (ticket - base ticket)        foreign requests since the base
--   rate    = min(so far * window / max(time since the base, window / 4), so far + remaining)
--   before  = min(rate of the window before, limit * 7 / 8)
--   foreign = max(so far, used - our requests in the last window, before)
--
-- All of these end with the server's window, except rate, which is expected for one more window. Three
-- bounds apply to it. It is at most what the limit left room for. It leaves us an eighth of the limit,
-- so that we can see whether the others are still there. And once a quarter of a window has passed
-- since the base, it is at most the new rate. The second term of foreign is for servers that count
-- over a sliding window.
--
-- A PAUSE holds everybody until its end. An answer can only extend it, to at most 120 s from now:
--   429 with reset       reset + jitter
--   429 without          1, 2, 4 ... 60 s + jitter. It doubles if a request that was sent after the last
--                        refusal is refused too. It is 1 s again after such a request succeeds
--   remaining <= tickets given since the request's own + theirs + 2 * sqrt(theirs)
--                        until the turn + jitter; theirs = foreign requests expected until the turn
--
-- A SEED. Too little is known if no answer came for a whole window. The same is true if the server's
-- window turned, there were foreign requests in the last one, and no answer came from the new one. Then
-- one request goes first, and the others wait for its answer, for at most 3 s.
--
-- TIME. All times are this server's. A stored time that is impossibly far ahead is cut. If the clock is
-- set back, the remembered slots move with it.

local STATE, LOG = KEYS[1], KEYS[2]
local VERB = ARGV[1]
local WINDOW, ASSUMED = tonumber(ARGV[3]), tonumber(ARGV[4])
local USE = 0.98         -- of the limit; the rest is for requests under way when the server's window turns
local BURSTS = 8         -- a burst is the limit divided by this
local GRAIN = WINDOW / 240
local PAUSE_MS = 120000
local BACKOFF_MS = 60000
local SEED_MS = 3000
local AHEAD_MS = 10000   -- slots are given at most this far ahead
local VOID_MS = 2000     -- a permit that isn't used this long after its slot is void
-- Resets are whole seconds and answers take a while, so turns this close together count as the same.
local TURN_MS = math.min(2000, WINDOW / 4)
local IDLE_MS = 3600000
local COUNTS = 1000      -- a log entry is newest slot * COUNTS + count

local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function entry(text)
  local value = tonumber(text)
  local count = value % COUNTS
  return (value - count) / COUNTS, count
end

local function packed(slot, count)
  return string.format('%.0f', slot * COUNTS + count)
end

-- Move the log so that its newest slot is now.
local function step_back(newest)
  local entries = redis.call('LRANGE', LOG, 0, -1)
  redis.call('DEL', LOG)
  for _, text in ipairs(entries) do
    local slot, count = entry(text)
    redis.call('RPUSH', LOG, packed(slot - (newest - now), count))
  end
  redis.call('PEXPIRE', LOG, WINDOW)
end

local function load()
  local state = setmetatable({}, { __index = function() return 0 end })
  local flat = redis.call('HGETALL', STATE)
  for i = 1, #flat, 2 do state[flat[i]] = tonumber(flat[i + 1]) end
  if state.limit == 0 then state.limit = ASSUMED end
  for name, most in pairs({
    pause = now + PAUSE_MS, seed = now + AHEAD_MS + SEED_MS, turn = now + WINDOW, news = now,
  }) do
    if state[name] > most then
      state[name] = most
      redis.call('HSET', STATE, name, string.format('%.3f', most))
    end
  end
  return state
end

local function save(state, ...)
  local flat = {}
  for _, name in ipairs({ ... }) do
    flat[#flat + 1] = name
    flat[#flat + 1] = string.format('%.3f', state[name])
  end
  redis.call('HSET', STATE, unpack(flat))
  redis.call('PEXPIRE', STATE, IDLE_MS)
end

-- How many foreign requests are expected, according to the window before.
local function expected(state, limit)
  return now < state.turn + WINDOW and math.min(state.rate, limit - limit / BURSTS) or 0
end

-- How many foreign requests still count.
local function foreign(state)
  if now < state.turn then return math.max(state.foreign, state.before) end
  return expected(state, state.limit)
end

local function ceiling(state, reserve)
  local others = foreign(state)
  local room = state.limit * USE - others - math.sqrt(others)
  local share = math.min(state.limit * (1 - reserve), room)
  return math.max(1, math.floor(share + 0.001)) -- 960 * (1 - 0.9) is a little less than 96
end

-- Return the newest admitted slot and its count, or nothing.
local function newest(state)
  local tail = redis.call('LINDEX', LOG, -1)
  if not tail then
    state.gone, state.tat = state.n, 0
    return nil, 0
  end
  local slot, count = entry(tail)
  if slot <= now + AHEAD_MS then return slot, count end
  step_back(slot)
  return now, count
end

-- Return the slot that the window law allows, how many entries have left by then, and how many slots stay.
local function windowed(state, slot, most)
  local inside, left = state.n - state.gone, 0
  while inside > 0 do
    local text = redis.call('LINDEX', LOG, left)
    if not text then return slot, left, 0 end
    local leaves, count = entry(text)
    leaves = leaves + WINDOW
    if leaves > slot then
      if inside < most then break end
      slot = leaves
    end
    inside, left = inside - count, left + 1
  end
  return slot, left, inside
end

local function admit(state, slot, tail, count)
  state.n = state.n + 1
  if tail and math.floor(tail / GRAIN) == math.floor(slot / GRAIN) and count < COUNTS - 1 then
    redis.call('LSET', LOG, -1, packed(slot, count + 1))
  else
    redis.call('RPUSH', LOG, packed(slot, 1))
  end
  redis.call('PEXPIRE', LOG, math.ceil(slot - now + WINDOW))
end

local function extend_pause(state, until_ms)
  state.pause = math.max(state.pause, math.min(until_ms, now + PAUSE_MS))
end

-- Learn the limit and the foreign requests from one answer's headers.
local function learn(state, ticket, limit, remaining, reset, jitter)
  local used, turn = limit - remaining, now + math.min(reset, WINDOW)
  if now >= state.turn or turn > state.turn + TURN_MS or limit ~= state.limit then
    state.before = expected(state, limit)
    state.turn, state.base_at, state.base_used, state.base_ticket = turn, now, used, ticket
  elseif turn < state.turn - TURN_MS then
    return
  end
  local so_far = math.max(0, used - state.base_used - (ticket - state.base_ticket))
  local since = math.max(now - state.base_at, WINDOW / 4)
  state.seen, state.limit = ticket, limit
  state.foreign = math.max(so_far, used - (state.n - state.gone))
  state.rate = math.min(so_far * WINDOW / since, so_far + remaining)
  if since > WINDOW / 4 then state.before = math.min(state.before, state.rate) end

  local theirs = math.max(state.before, state.rate) * (turn - now) / WINDOW
  local on_the_way = state.n - ticket
  if remaining - on_the_way <= theirs + 2 * math.sqrt(theirs) then
    extend_pause(state, turn + jitter)
  end
end

local function refuse(state, ticket, reset, jitter)
  if ticket > state.struck then
    state.strikes, state.struck = state.strikes + 1, state.n
  end
  local backoff = math.min(BACKOFF_MS, 1000 * 2 ^ (state.strikes - 1))
  extend_pause(state, now + (reset > 0 and reset or backoff) + jitter)
  state.longest = math.max(state.longest, math.ceil(state.pause - now)) -- the refused request waits too
end

local verbs = {}

function verbs.reserve(reserve, patience)
  local state = load()
  local unseeded = now - state.news >= WINDOW or (now >= state.turn and state.foreign > 0)
  if unseeded and state.seed > now then
    return { 0, math.ceil(state.seed - now), 0, 0, 'seed' }
  end

  local most = ceiling(state, reserve)
  local T, burst = WINDOW / most, math.max(1, math.min(most, math.floor(state.limit / BURSTS)))
  local tail, count = newest(state)
  local slot, reason = now, ''
  local function at_least(moment, law)
    moment = math.floor(moment)
    if moment > slot then slot, reason = moment, law end
  end
  at_least(state.pause, 'pause')
  if tail then
    state.tat = math.min(state.tat, tail + burst * T)
    at_least(math.max(tail, state.tat - (burst - 1) * T), 'paced')
  end
  local room, left, inside = windowed(state, slot, most)
  at_least(room, 'window')

  local wait = slot - now
  if wait > math.min(patience, AHEAD_MS) then
    -- Foreign requests are counted from zero when the server's window turns, and expected for one window only.
    if foreign(state) > 0 then
      local ends = now < state.turn and state.turn or state.turn + WINDOW
      wait = math.min(wait, math.max(ends, state.pause) - now)
    end
    if wait > state.longest then
      state.longest = wait
      save(state, 'longest')
    end
    return { 0, math.ceil(wait), 0, 0, reason }
  end

  if left > 0 then
    redis.call('LTRIM', LOG, left, -1)
    state.gone = state.n - inside
    if inside == 0 then tail = nil end
  end
  admit(state, slot, tail, count)
  state.tat = math.max(state.tat, slot) + T
  state.seed = unseeded and slot + SEED_MS or 0
  if wait > 0 then
    state.waits, state.longest = state.waits + 1, math.max(state.longest, wait)
  end
  save(state, 'n', 'gone', 'tat', 'seed', 'waits', 'longest')
  return { 1, wait, slot, state.n, unseeded and 'seed' or reason }
end

function verbs.confirm(slot)
  local state = load()
  local wait = math.max(0, math.ceil(state.pause - now))
  local void = wait > 0 or math.abs(now - slot) > VOID_MS
  return { void and 0 or 1, wait }
end

function verbs.observe(ticket, status, limit, remaining, reset, jitter)
  local state = load()
  local ours = ticket <= state.n -- a higher ticket was given out before an earlier state was lost
  if ours then
    state.seed = 0
    if status > 0 then state.news = now end
  end
  if status == 429 then
    refuse(state, ticket, reset, jitter)
  elseif status >= 200 and status < 300 and ticket > state.struck and ours then
    state.strikes = 0
  end
  if limit > 0 and remaining >= 0 and ours and ticket > state.seen then
    learn(state, ticket, limit, remaining, reset < 0 and WINDOW or reset, jitter)
  elseif status > 0 and now >= state.turn then
    state.foreign = 0 -- the server's window turned, and this answer says nothing about the new one
  end
  save(state, 'news', 'seed', 'strikes', 'struck', 'pause', 'longest', 'limit', 'turn', 'seen',
    'base_at', 'base_used', 'base_ticket', 'rate', 'before', 'foreign')
end

function verbs.state(reserve)
  local state = load()
  local used, index = state.n - state.gone, 0
  while used > 0 do
    local text = redis.call('LINDEX', LOG, index)
    if not text then used = 0 break end
    local slot, count = entry(text)
    if slot + WINDOW > now then break end
    used, index = used - count, index + 1
  end
  return { state.limit, ceiling(state, reserve), used, foreign(state),
    math.max(0, math.ceil(state.pause - now)), state.waits, state.longest }
end

local numbers = {}
for i = 5, #ARGV do numbers[#numbers + 1] = tonumber(ARGV[i]) end
return verbs[VERB](unpack(numbers))
