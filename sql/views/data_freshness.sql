-- Grain: one row.
-- How fresh and how sure the numbers are. duplicates: stored copies beyond the first. counted_share: of the requests
-- that used tokens, those whose tokens we counted ourselves. fallback_share: of the cost at list prices, that of models
-- the price book does not know. unpriced_requests: those with tokens and no price at all. shelved: messages that ingest
-- could not read.
WITH totals AS (
  SELECT
    MAX(occurred_at) AS newest_event_at,
    COUNT(*) AS requests,
    COUNTIF(usage_source = 'counted') AS counted,
    COUNTIF(usage_source <> 'none') AS used,
    SUM(IF(price_source = 'fallback', CAST(list_cost_usd AS FLOAT64), 0.0)) AS fallback_cost,
    SUM(CAST(list_cost_usd AS FLOAT64)) AS list_cost,
    COUNTIF(price_source = 'missing') AS unpriced
  FROM tally.requests
),

stored AS (
  SELECT COUNT(*) AS copies, MAX(received_at) AS newest_received_at FROM tally.events
),

unread AS (
  SELECT COUNT(DISTINCT message_id) + COUNTIF(message_id IS NULL) AS messages FROM tally.shelved
)

SELECT
  totals.newest_event_at,
  stored.newest_received_at,
  totals.requests,
  stored.copies - totals.requests AS duplicates,
  SAFE_DIVIDE(totals.counted, totals.used) AS counted_share,
  SAFE_DIVIDE(totals.fallback_cost, totals.list_cost) AS fallback_share,
  totals.unpriced AS unpriced_requests,
  unread.messages AS shelved
FROM totals
CROSS JOIN stored
CROSS JOIN unread
