-- Grain: one row per provider, model, service_tier, residency, context_above and span of days in which no price changes.
-- Since when and until when a price of the book holds, UTC days: valid_from included, valid_to excluded. price_id names
-- the span; price_periods has what it costs.
SELECT
  CONCAT(
    provider, '|', model, '|', service_tier, '|', residency, '|', CAST(context_above AS STRING), '|',
    CAST(valid_from AS STRING)
  ) AS price_id,
  provider,
  model,
  service_tier,
  residency,
  context_above,
  valid_from,
  IFNULL(
    LEAD(valid_from) OVER (
      PARTITION BY provider, model, service_tier, residency, context_above ORDER BY valid_from
    ),
    DATE '9999-12-31'
  ) AS valid_to
FROM tally.prices
WHERE price_list = 'list' AND token_kind = 'input'
