-- Grain: one row per provider, model and span of time in which none of its prices changes.
-- What one token of each kind cost, from valid_from (included) to valid_to (excluded). Exact: a price per million times
-- 0.000001, never divided. A cache kind without a price of its own costs what input costs. Model * of provider * is
-- what an unknown model costs.
WITH changes AS (
  SELECT
    provider,
    model,
    valid_from,
    MAX(IF(token_kind = 'input', usd_per_mtok, NULL)) AS input,
    MAX(IF(token_kind = 'cache_read', usd_per_mtok, NULL)) AS cache_read,
    MAX(IF(token_kind = 'cache_write_5m', usd_per_mtok, NULL)) AS cache_write_5m,
    MAX(IF(token_kind = 'cache_write_1h', usd_per_mtok, NULL)) AS cache_write_1h,
    MAX(IF(token_kind = 'output', usd_per_mtok, NULL)) AS output
  FROM tally.prices
  WHERE modifier = 'standard'
  GROUP BY provider, model, valid_from
),

-- A change names only the kinds that changed: the others go on as they were.
periods AS (
  SELECT
    provider,
    model,
    valid_from,
    LEAD(valid_from) OVER (PARTITION BY provider, model ORDER BY valid_from) AS next_from,
    LAST_VALUE(input IGNORE NULLS) OVER (PARTITION BY provider, model ORDER BY valid_from) AS input,
    LAST_VALUE(cache_read IGNORE NULLS) OVER (PARTITION BY provider, model ORDER BY valid_from) AS cache_read,
    LAST_VALUE(cache_write_5m IGNORE NULLS) OVER (PARTITION BY provider, model ORDER BY valid_from) AS cache_write_5m,
    LAST_VALUE(cache_write_1h IGNORE NULLS) OVER (PARTITION BY provider, model ORDER BY valid_from) AS cache_write_1h,
    LAST_VALUE(output IGNORE NULLS) OVER (PARTITION BY provider, model ORDER BY valid_from) AS output
  FROM changes
)

SELECT
  provider,
  model,
  valid_from,
  IFNULL(next_from, TIMESTAMP '9999-12-31 00:00:00+00') AS valid_to,
  CAST(input * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS input_usd,
  CAST(IFNULL(cache_read, input) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS cache_read_usd,
  CAST(IFNULL(cache_write_5m, input) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS cache_write_5m_usd,
  CAST(IFNULL(cache_write_1h, input) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS cache_write_1h_usd,
  CAST(output * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS output_usd
FROM periods
WHERE input IS NOT NULL AND output IS NOT NULL
