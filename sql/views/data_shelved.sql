-- Grain: one row per day (UTC) and reason.
-- Messages that ingest could not read and put aside, whole. The reason names a field and what is wrong with it, never its
-- content. messages counts a message once per day and reason, deliveries each time it came.
SELECT
  DATE(shelved_at) AS day,
  reason,
  COUNT(DISTINCT message_id) + COUNTIF(message_id IS NULL) AS messages,
  COUNT(*) AS deliveries,
  MIN(shelved_at) AS first_at,
  MAX(shelved_at) AS last_at
FROM tally.shelved
GROUP BY day, reason
