-- Grain: one row per channel that anything was tried by in the last 28 days (UTC), today included.
-- Whether messages get out: sent and failed of these days, when the last of each was, failed_24h of the last 24 hours, and
-- the last reason. unreachable: messages for people whom the channel does not know; it works all the same. failing: nothing
-- was sent since the last failure, which is of the last 24 hours (what is not sent is tried every hour).
WITH attempted AS (
  SELECT DISTINCT delivery_id, channel, state, attempt, reason, tried_at
  FROM tally.deliveries
  WHERE tried_at >= TIMESTAMP(DATE_SUB(CURRENT_DATE(), INTERVAL 27 DAY))
),

summed AS (
  SELECT
    channel,
    COUNTIF(state = 'sent') AS sent,
    COUNTIF(state = 'failed') AS failed,
    COUNTIF(state = 'unreachable') AS unreachable,
    COUNTIF(state = 'failed' AND tried_at > TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 24 HOUR)) AS failed_24h,
    MAX(IF(state = 'sent', tried_at, NULL)) AS last_sent_at,
    MAX(IF(state = 'failed', tried_at, NULL)) AS last_failed_at
  FROM attempted
  GROUP BY channel
),

last_reason AS (
  SELECT channel, reason
  FROM attempted
  WHERE state = 'failed'
  QUALIFY ROW_NUMBER() OVER (PARTITION BY channel ORDER BY tried_at DESC, delivery_id, attempt DESC) = 1
)

SELECT
  summed.channel,
  summed.sent,
  summed.failed,
  summed.unreachable,
  summed.failed_24h,
  summed.last_sent_at,
  summed.last_failed_at,
  last_reason.reason AS last_reason,
  summed.failed_24h > 0 AND (summed.last_sent_at IS NULL OR summed.last_failed_at > summed.last_sent_at) AS failing
FROM summed
LEFT JOIN last_reason ON summed.channel = last_reason.channel
