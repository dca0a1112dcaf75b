-- Grain: one row per day (UTC), person, team, tool, provider, model, key_id and billing_mode; person null: a service.
-- What each key used. Pages read it with person = @person, the viewer, only. Days before today from the rollup, today from
-- the events.
SELECT
  day,
  person,
  team,
  tool,
  provider,
  model,
  key_id,
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
  SUM(gateway_cost_usd) AS gateway_cost_usd
FROM tally.person_costs
GROUP BY day, person, team, tool, provider, model, key_id, billing_mode
