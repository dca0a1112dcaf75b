-- Grain: one row per provider and complete day (UTC) whose dollars the provider told more than once, differently.
-- What a provider's cost report said of a day first, once the day was over, and what it says now. Readings from within
-- the day are left out: they could not be whole. revised_usd is what came later, negative where it was taken back.
WITH readings AS (
  SELECT provider, day, fetched_at, fetch_id, SUM(amount_usd) AS total_usd
  FROM tally.bills
  WHERE report = 'cost' AND DATE(fetched_at) > day
  GROUP BY provider, day, fetched_at, fetch_id
),

ordered AS (
  SELECT
    provider,
    day,
    fetched_at,
    total_usd,
    ROW_NUMBER() OVER (PARTITION BY provider, day ORDER BY fetched_at, fetch_id DESC) AS nth,
    ROW_NUMBER() OVER (PARTITION BY provider, day ORDER BY fetched_at DESC, fetch_id) AS nth_last,
    COUNT(*) OVER (PARTITION BY provider, day) AS readings
  FROM readings
),

told AS (
  SELECT
    provider,
    day,
    MAX(readings) AS readings,
    MIN(fetched_at) AS first_fetched_at,
    MAX(fetched_at) AS now_fetched_at,
    SUM(IF(nth = 1, total_usd, BIGNUMERIC '0')) AS first_usd,
    SUM(IF(nth_last = 1, total_usd, BIGNUMERIC '0')) AS now_usd
  FROM ordered
  GROUP BY provider, day
)

SELECT
  provider,
  day,
  readings,
  first_fetched_at,
  now_fetched_at,
  first_usd,
  now_usd,
  now_usd - first_usd AS revised_usd
FROM told
WHERE first_usd <> now_usd
