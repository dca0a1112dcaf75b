-- Grain: one row.
-- How fresh and how sure the numbers are. duplicates: stored copies beyond the first. late_events: those that came in more
-- than an hour after they took place. counted_share: of the calls that used tokens, those whose tokens we counted
-- ourselves. fallback_share: of the cost at list prices, that of models the price book does not know. unpriced_requests:
-- calls with tokens and no price at all. shelved: messages that ingest could not read.
WITH totals AS (
  SELECT
    MAX(last_at) AS newest_event_at,
    MAX(newest_received_at) AS newest_received_at,
    SUM(requests) AS requests,
    SUM(calls) AS calls,
    SUM(copies) AS copies,
    SUM(late_events) AS late_events,
    SUM(IF(usage_source = 'counted', calls, 0)) AS counted,
    SUM(IF(usage_source <> 'none', calls, 0)) AS used,
    SUM(IF(price_source = 'fallback', CAST(list_cost_usd AS FLOAT64), 0.0)) AS fallback_cost,
    SUM(CAST(list_cost_usd AS FLOAT64)) AS list_cost,
    SUM(IF(price_source = 'missing', calls, 0)) AS unpriced
  FROM tally.team_daily
),

unread AS (
  SELECT COUNT(DISTINCT message_id) + COUNTIF(message_id IS NULL) AS messages FROM tally.shelved
)

SELECT
  totals.newest_event_at,
  totals.newest_received_at,
  IFNULL(totals.requests, 0) AS requests,
  IFNULL(totals.copies - totals.calls, 0) AS duplicates,
  IFNULL(totals.late_events, 0) AS late_events,
  SAFE_DIVIDE(totals.counted, totals.used) AS counted_share,
  SAFE_DIVIDE(totals.fallback_cost, totals.list_cost) AS fallback_share,
  IFNULL(totals.unpriced, 0) AS unpriced_requests,
  unread.messages AS shelved
FROM totals
CROSS JOIN unread
