-- Grain: one row per line of the newest reading of a provider, report (usage, cost) and day (UTC).
-- What the providers' own reports say now. A day is read again for weeks, and stored again when it changed: of several
-- readings the last counts, whole. A day that a provider took back has one line of nothing.
WITH ranked AS (
  SELECT
    *,
    DENSE_RANK() OVER (PARTITION BY provider, report, day ORDER BY fetched_at DESC, fetch_id) AS nth
  FROM tally.bills
)

SELECT
  provider,
  report,
  day,
  model,
  api_key_id,
  project,
  service_tier,
  token_kind,
  quantity,
  amount_usd,
  line_item,
  fetch_id,
  fetched_at
FROM ranked
WHERE nth = 1
