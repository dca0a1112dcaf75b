-- Grain: one row per about, period, threshold and channel that a message was delivered by.
-- What was said, when first and last, and to how many audiences (a person, the lead, the operators). attempts counts each
-- attempt once, those that failed before it included.
WITH attempted AS (
  SELECT DISTINCT delivery_id, about, period, threshold, channel, state, attempt, tried_at
  FROM tally.deliveries
)

SELECT
  about,
  period,
  threshold,
  channel,
  COUNT(DISTINCT IF(state = 'sent', delivery_id, NULL)) AS audiences,
  COUNT(*) AS attempts,
  MIN(IF(state = 'sent', tried_at, NULL)) AS first_at,
  MAX(IF(state = 'sent', tried_at, NULL)) AS last_at
FROM attempted
GROUP BY about, period, threshold, channel
HAVING COUNTIF(state = 'sent') > 0
