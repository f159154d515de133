-- Copies one source's document from the registry into Redis, unless Redis holds the same version or a newer one.
--
-- KEYS  1 sources      hash: source -> document (JSON)
--       2 credentials  hash: fingerprint -> JSON {source: reserve} of the sources that use it
-- ARGV  1 source  2 document  3 its version  4 fingerprint  5 reserve, "" if the source has no key
-- Reply 1 if the document was copied, 0 if Redis had this version or a newer one. Atomic, repeatable.

local SOURCES, CREDENTIALS = KEYS[1], KEYS[2]
local source, document, version, fingerprint, reserve =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]

local function share(of, value)
  local text = redis.call('HGET', CREDENTIALS, of)
  local sharers = text and cjson.decode(text) or {}
  sharers[source] = value
  if next(sharers) then redis.call('HSET', CREDENTIALS, of, cjson.encode(sharers))
  else redis.call('HDEL', CREDENTIALS, of) end
end

local known = redis.call('HGET', SOURCES, source)
local before = known and cjson.decode(known)
if before then
  if before.version > version then return 0 end
  if before.fingerprint ~= fingerprint then share(before.fingerprint, nil) end
end
share(fingerprint, tonumber(reserve))  -- tonumber("") is nil, which takes the source out
if before and before.version == version then return 0 end  -- only the entry in CREDENTIALS was missing
redis.call('HSET', SOURCES, source, document)
return 1
