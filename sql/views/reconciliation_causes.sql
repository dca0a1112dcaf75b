-- Grain: one row per complete day (UTC), provider and cause.
-- The gaps of reconciliation by cause, over all models: what a page sums over its days. theirs_usd and ours_usd are
-- those of the provider's whole day, the same in each of its rows.
WITH daily AS (
  SELECT
    day,
    provider,
    SUM(theirs_usd) AS theirs_usd,
    SUM(ours_usd) AS ours_usd,
    SUM(bypass_usd) AS bypass_usd,
    SUM(price_usd) AS price_usd,
    SUM(unpriced_usd) AS unpriced_usd,
    SUM(cache_usd) AS cache_usd,
    SUM(counted_usd) AS counted_usd,
    SUM(timing_usd) AS timing_usd
  FROM tally.reconciliation
  GROUP BY day, provider
)

SELECT
  daily.day,
  daily.provider,
  cause,
  CASE cause
    WHEN 'bypass' THEN daily.bypass_usd
    WHEN 'price' THEN daily.price_usd
    WHEN 'unpriced' THEN daily.unpriced_usd
    WHEN 'cache' THEN daily.cache_usd
    WHEN 'counted' THEN daily.counted_usd
    ELSE daily.timing_usd
  END AS cause_usd,
  daily.theirs_usd,
  daily.ours_usd
FROM daily
CROSS JOIN UNNEST(['bypass', 'price', 'unpriced', 'cache', 'counted', 'timing']) AS cause
