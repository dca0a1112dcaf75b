-- Grain: one row per day (UTC), team, key_kind, tool, provider, model and billing_mode.
-- What was spent each day, by team and never by person. Teams as they were at the time, small ones too: for digests
-- and what is odd. Pages read group_daily_cost. used_calls are those that used tokens; copies counts every stored copy of
-- the calls; fallback_cost_usd is the part of list_cost_usd that the price book does not know the model of.
SELECT
  day,
  team,
  key_kind,
  tool,
  provider,
  model,
  billing_mode,
  SUM(requests) AS requests,
  SUM(errors) AS errors,
  SUM(IF(usage_source = 'counted', calls, 0)) AS counted_requests,
  SUM(input_tokens) AS input_tokens,
  SUM(cache_read_tokens) AS cache_read_tokens,
  SUM(cache_write_5m_tokens + cache_write_1h_tokens) AS cache_write_tokens,
  SUM(output_tokens) AS output_tokens,
  SUM(reasoning_tokens) AS reasoning_tokens,
  SUM(cost_usd) AS cost_usd,
  SUM(list_cost_usd) AS list_cost_usd,
  SUM(gateway_cost_usd) AS gateway_cost_usd,
  SUM(calls) AS calls,
  SUM(IF(usage_source <> 'none', calls, 0)) AS used_calls,
  SUM(copies) AS copies,
  SUM(late_events) AS late_events,
  SUM(IF(price_source = 'missing', calls, 0)) AS unpriced_requests,
  SUM(IF(price_source = 'fallback', list_cost_usd, BIGNUMERIC '0')) AS fallback_cost_usd,
  MAX(last_at) AS last_at,
  MAX(newest_received_at) AS newest_received_at
FROM tally.team_daily
GROUP BY day, team, key_kind, tool, provider, model, billing_mode
