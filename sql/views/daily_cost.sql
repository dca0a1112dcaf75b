-- Grain: one row per day (UTC), team, key_kind, tool, provider, model and billing_mode.
-- What was spent each day, by team and never by person. Teams as they were at the time, small ones too: for budgets and
-- alerts. Pages read group_daily_cost.
SELECT
  day,
  team,
  key_kind,
  tool,
  provider,
  model,
  billing_mode,
  COUNT(*) AS requests,
  COUNTIF(status = 'error') AS errors,
  COUNTIF(usage_source = 'counted') AS counted_requests,
  SUM(input_tokens) AS input_tokens,
  SUM(cache_read_tokens) AS cache_read_tokens,
  SUM(cache_write_5m_tokens + cache_write_1h_tokens) AS cache_write_tokens,
  SUM(output_tokens) AS output_tokens,
  SUM(reasoning_tokens) AS reasoning_tokens,
  SUM(cost_usd) AS cost_usd,
  SUM(list_cost_usd) AS list_cost_usd,
  IFNULL(SUM(gateway_cost_usd), NUMERIC '0') AS gateway_cost_usd
FROM tally.requests
GROUP BY day, team, key_kind, tool, provider, model, billing_mode
