-- Grain: one row per adjustment_id.
-- What was added to closed months since, each once: the first copy of a row counts.
SELECT
  adjustment_id,
  month,
  team,
  key_kind,
  provider,
  model,
  reason,
  cost_usd,
  posted_at,
  note
FROM tally.adjustments
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY adjustment_id ORDER BY posted_at) = 1
