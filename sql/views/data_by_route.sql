-- Grain: one row per provider, model and route of the last 28 days (UTC), today included.
-- Our figure against the gateway's own. LiteLLM knows list prices alone, so ours is the cost at the public list. Only
-- metered calls whose usage the provider told are compared (compared_calls): LiteLLM has no figure for the others, or one
-- from its own count. difference_usd is ours less the gateway's; counted_share is of the calls that used tokens.
WITH lately AS (
  SELECT
    provider,
    IFNULL(model, model_requested) AS model,
    route,
    calls,
    usage_source,
    billing_mode = 'metered' AND usage_source = 'provider' AS compared,
    list_cost_usd,
    CAST(gateway_cost_usd AS BIGNUMERIC) AS gateway_cost_usd
  FROM tally.team_daily
  WHERE day > DATE_SUB(CURRENT_DATE(), INTERVAL 28 DAY)
)

SELECT
  provider,
  model,
  route,
  SUM(calls) AS calls,
  SUM(IF(compared, calls, 0)) AS compared_calls,
  SAFE_DIVIDE(
    CAST(SUM(IF(usage_source = 'counted', calls, 0)) AS FLOAT64),
    CAST(SUM(IF(usage_source <> 'none', calls, 0)) AS FLOAT64)
  ) AS counted_share,
  SUM(IF(compared, list_cost_usd, BIGNUMERIC '0')) AS ours_usd,
  SUM(IF(compared, gateway_cost_usd, BIGNUMERIC '0')) AS gateway_usd,
  SUM(IF(compared, list_cost_usd - gateway_cost_usd, BIGNUMERIC '0')) AS difference_usd
FROM lately
GROUP BY provider, model, route
