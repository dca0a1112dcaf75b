-- Grain: one row per day (UTC), person, tool, provider, model and key_id.
-- A person's own use. Only ever read with person = @person, the viewer.
SELECT
  day,
  person,
  tool,
  provider,
  model,
  key_id,
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
WHERE person IS NOT NULL
GROUP BY day, person, tool, provider, model, key_id
