-- Grain: one row per minute (UTC), key_id and session_id.
-- How many requests a session of an agent began in a minute, by the events themselves; copies of an event count once.
-- busy_ms is how long these requests took, all together: 60,000 is one after the other without a pause. Only ever read for
-- the last minutes, by day and minute.
WITH once AS (
  SELECT
    DATE(occurred_at) AS day,
    TIMESTAMP_TRUNC(occurred_at, MINUTE) AS minute,
    key_id,
    session_id,
    event_id,
    MAX(person) AS person,
    MAX(team) AS team,
    MAX(tool) AS tool,
    MAX(model) AS model,
    MAX(status) AS status,
    MAX(latency_ms) AS latency_ms
  FROM tally.events
  WHERE key_id IS NOT NULL AND session_id IS NOT NULL AND NOT superseded
  GROUP BY DATE(occurred_at), TIMESTAMP_TRUNC(occurred_at, MINUTE), key_id, session_id, event_id
)

SELECT
  day,
  minute,
  key_id,
  session_id,
  MAX(person) AS person,
  MAX(team) AS team,
  MAX(tool) AS tool,
  MAX(model) AS model,
  COUNT(*) AS requests,
  COUNTIF(status IN ('error', 'refused')) AS failed,
  IFNULL(SUM(latency_ms), 0) AS busy_ms
FROM once
GROUP BY day, minute, key_id, session_id
