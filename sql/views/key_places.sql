-- Grain: one row per day (UTC), key_id, network and tool.
-- From which networks (as keyed hashes, null where none was told) and with which tools a key was used, and when first and
-- last that day. A copy of an event changes none of that, but counts among calls. Always read for few days or few keys.
SELECT
  DATE(occurred_at) AS day,
  key_id,
  network,
  tool,
  MAX(person) AS person,
  MIN(occurred_at) AS first_at,
  MAX(occurred_at) AS last_at,
  COUNT(*) AS calls
FROM tally.events
WHERE key_id IS NOT NULL
GROUP BY DATE(occurred_at), key_id, network, tool
