-- Grain: one row per provider and model that the price book does not know, or knows without the tier it was used in.
-- What is costed at the fallback price (price_source fallback), at the model's standard price (approximate) or not at all
-- (missing), with what it comes to at the public list. Write the price into policy/prices.yaml, and all of it is costed anew.
SELECT
  provider,
  IFNULL(model, model_requested) AS model,
  price_source,
  MIN(day) AS first_day,
  MAX(day) AS last_day,
  SUM(calls) AS calls,
  SUM(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens) AS prompt_tokens,
  SUM(output_tokens) AS output_tokens,
  SUM(cost_usd) AS cost_usd,
  SUM(list_cost_usd) AS list_cost_usd
FROM tally.team_daily
WHERE price_source IN ('fallback', 'approximate', 'missing')
GROUP BY provider, IFNULL(model, model_requested), price_source
