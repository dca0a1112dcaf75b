-- Grain: one row per day (UTC) of the last seven with events.
-- How long it took from the moment a request reached the gateway until its event was stored, in seconds; the answer's own
-- time is part of it. Of several stored copies the first counts. late_events: those stored more than an hour after.
WITH stored AS (
  SELECT
    DATE(occurred_at) AS day,
    CAST(TIMESTAMP_DIFF(received_at, occurred_at, MILLISECOND) AS FLOAT64) AS lag_ms
  FROM tally.events
  WHERE occurred_at >= TIMESTAMP(DATE_SUB(CURRENT_DATE(), INTERVAL 6 DAY))
  QUALIFY ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY received_at) = 1
),

ranked AS (
  SELECT
    day,
    lag_ms,
    PERCENTILE_CONT(lag_ms, 0.5) OVER (PARTITION BY day) AS p50_ms,
    PERCENTILE_CONT(lag_ms, 0.95) OVER (PARTITION BY day) AS p95_ms
  FROM stored
)

SELECT
  day,
  COUNT(*) AS events,
  COUNTIF(lag_ms > 3600000.0) AS late_events,
  MAX(p50_ms) / 1000.0 AS lag_p50_s,
  MAX(p95_ms) / 1000.0 AS lag_p95_s,
  MAX(lag_ms) / 1000.0 AS lag_max_s
FROM ranked
GROUP BY day
