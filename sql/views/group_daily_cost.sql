-- Grain: one row per day (UTC), shown_as, tool, provider and model.
-- What was spent each day, by team as pages may show it: small teams under one name, and the company's services that
-- belong to no team under the name Services.
WITH named AS (
  SELECT
    cost.*,
    CASE
      WHEN cost.team IS NULL AND cost.key_kind = 'service' THEN 'Services'
      ELSE IFNULL(team_groups.shown_as, 'Small teams')
    END AS shown_as
  FROM tally.daily_cost AS cost
  LEFT JOIN tally.team_groups AS team_groups ON IFNULL(cost.team, '') = team_groups.team
)

SELECT
  day,
  shown_as,
  tool,
  provider,
  model,
  SUM(requests) AS requests,
  SUM(errors) AS errors,
  SUM(counted_requests) AS counted_requests,
  SUM(input_tokens) AS input_tokens,
  SUM(cache_read_tokens) AS cache_read_tokens,
  SUM(cache_write_tokens) AS cache_write_tokens,
  SUM(output_tokens) AS output_tokens,
  SUM(reasoning_tokens) AS reasoning_tokens,
  SUM(cost_usd) AS cost_usd,
  SUM(list_cost_usd) AS list_cost_usd,
  SUM(gateway_cost_usd) AS gateway_cost_usd,
  SUM(calls) AS calls,
  SUM(used_calls) AS used_calls,
  SUM(copies) AS copies,
  SUM(late_events) AS late_events,
  SUM(unpriced_requests) AS unpriced_requests,
  SUM(fallback_cost_usd) AS fallback_cost_usd,
  MAX(last_at) AS last_at,
  MAX(newest_received_at) AS newest_received_at
FROM named
GROUP BY day, shown_as, tool, provider, model
