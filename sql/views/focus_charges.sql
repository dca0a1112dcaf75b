-- Grain: one row per charge: day, team, provider, model, price and token kind; month, team and plan for seats; adjustment.
-- What was charged, in the columns of FOCUS 1.2. BilledCost is what a month is billed with, EffectiveCost what a day
-- costs: the same for metered use; nothing for use under a seat, whose fee is billed as a Purchase of the month and is
-- effective on the days on which it is held. ContractedCost and ListCost are the quantity at the company's price and at
-- the list's. Closed months are as their statements say; a line that the book prices otherwise today stays in one sum.
-- Nobody is named in it.
WITH closed AS (
  SELECT DISTINCT month FROM tally.statements
),

-- priced_by: book (by kind of token), provider (who told the cost of the whole call), statement (the sum as reported).
lines AS (
  SELECT
    day, team, key_kind, provider, COALESCE(model, model_requested, 'unknown') AS model, billing_mode, price_id,
    CASE
      WHEN cost_reported THEN 'provider'
      WHEN reported_usd <> cost_now_usd OR reported_list_usd <> list_cost_now_usd THEN 'statement'
      ELSE 'book'
    END AS priced_by,
    input_tokens - input_audio_tokens - input_image_tokens AS input_text_tokens, input_audio_tokens, input_image_tokens,
    cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    output_tokens - output_audio_tokens - output_image_tokens AS output_text_tokens, output_audio_tokens,
    output_image_tokens, web_searches, reported_usd AS cost_usd, reported_list_usd AS list_cost_usd
  FROM tally.statements_repriced
  UNION ALL
  SELECT
    line.day, line.team, line.key_kind, line.provider, COALESCE(line.model, line.model_requested, 'unknown'),
    line.billing_mode, line.price_id, IF(line.cost_reported, 'provider', 'book'),
    line.input_tokens - line.input_audio_tokens - line.input_image_tokens, line.input_audio_tokens,
    line.input_image_tokens, line.cache_read_tokens, line.cache_write_5m_tokens, line.cache_write_1h_tokens,
    line.output_tokens - line.output_audio_tokens - line.output_image_tokens, line.output_audio_tokens,
    line.output_image_tokens, line.web_searches, line.cost_usd, line.list_cost_usd
  FROM tally.team_daily AS line
  LEFT JOIN closed ON DATE_TRUNC(line.day, MONTH) = closed.month
  WHERE closed.month IS NULL
),

used AS (
  SELECT
    day,
    COALESCE(NULLIF(team, ''), IF(key_kind = 'service', 'Services', 'No team')) AS team,
    IFNULL(provider, 'unknown') AS provider,
    model,
    billing_mode = 'subscription' AS seated,
    IF(priced_by = 'book', price_id, NULL) AS price_id,
    priced_by,
    SUM(input_text_tokens) AS input_text_tokens,
    SUM(input_audio_tokens) AS input_audio_tokens,
    SUM(input_image_tokens) AS input_image_tokens,
    SUM(cache_read_tokens) AS cache_read_tokens,
    SUM(cache_write_5m_tokens) AS cache_write_5m_tokens,
    SUM(cache_write_1h_tokens) AS cache_write_1h_tokens,
    SUM(output_text_tokens) AS output_text_tokens,
    SUM(output_audio_tokens) AS output_audio_tokens,
    SUM(output_image_tokens) AS output_image_tokens,
    SUM(web_searches) AS web_searches,
    SUM(cost_usd) AS cost_usd,
    SUM(list_cost_usd) AS list_cost_usd
  FROM lines
  GROUP BY 1, 2, 3, 4, 5, 6, 7
),

by_kind AS (
  SELECT
    used.day,
    used.team,
    used.provider,
    used.model,
    used.seated,
    used.price_id,
    kind,
    CAST(CASE kind
      WHEN 'input' THEN used.input_text_tokens
      WHEN 'input_audio' THEN used.input_audio_tokens
      WHEN 'input_image' THEN used.input_image_tokens
      WHEN 'cache_read' THEN used.cache_read_tokens
      WHEN 'cache_write_5m' THEN used.cache_write_5m_tokens
      WHEN 'cache_write_1h' THEN used.cache_write_1h_tokens
      WHEN 'output' THEN used.output_text_tokens
      WHEN 'output_audio' THEN used.output_audio_tokens
      WHEN 'output_image' THEN used.output_image_tokens
      ELSE used.web_searches
    END AS INT64) AS quantity,
    IFNULL(CASE kind
      WHEN 'input' THEN price.input_usd
      WHEN 'input_audio' THEN price.input_audio_usd
      WHEN 'input_image' THEN price.input_image_usd
      WHEN 'cache_read' THEN price.cache_read_usd
      WHEN 'cache_write_5m' THEN price.cache_write_5m_usd
      WHEN 'cache_write_1h' THEN price.cache_write_1h_usd
      WHEN 'output' THEN price.output_usd
      WHEN 'output_audio' THEN price.output_audio_usd
      WHEN 'output_image' THEN price.output_image_usd
      ELSE price.web_search_usd
    END, BIGNUMERIC '0') AS contract_usd,
    IFNULL(CASE kind
      WHEN 'input' THEN price.list_input_usd
      WHEN 'input_audio' THEN price.list_input_audio_usd
      WHEN 'input_image' THEN price.list_input_image_usd
      WHEN 'cache_read' THEN price.list_cache_read_usd
      WHEN 'cache_write_5m' THEN price.list_cache_write_5m_usd
      WHEN 'cache_write_1h' THEN price.list_cache_write_1h_usd
      WHEN 'output' THEN price.list_output_usd
      WHEN 'output_audio' THEN price.list_output_audio_usd
      WHEN 'output_image' THEN price.list_output_image_usd
      ELSE price.list_web_search_usd
    END, BIGNUMERIC '0') AS list_usd,
    price.service_tier,
    price.residency,
    price.context_above
  FROM used
  CROSS JOIN UNNEST([
    'input', 'input_audio', 'input_image', 'cache_read', 'cache_write_5m', 'cache_write_1h', 'output', 'output_audio',
    'output_image', 'web_search'
  ]) AS kind
  LEFT JOIN tally.price_periods AS price ON used.price_id = price.price_id
  WHERE used.priced_by = 'book'
),

held AS (
  SELECT
    seat.day,
    COALESCE(NULLIF(holder.team, ''), 'No team') AS team,
    seat.person,
    seat.provider,
    seat.plan,
    seat.fee_usd
  FROM tally.seat_days AS seat
  LEFT JOIN tally.people AS holder ON seat.person = holder.person
),

seat_fees AS (
  SELECT DATE_TRUNC(day, MONTH) AS month, team, person, provider, plan, CAST(SUM(fee_usd) AS BIGNUMERIC) AS fee_usd
  FROM held
  GROUP BY DATE_TRUNC(day, MONTH), team, person, provider, plan
),

-- Seats of one fee together: so many at so much.
bought AS (
  SELECT month, team, provider, plan, fee_usd, COUNT(*) AS seats
  FROM seat_fees
  GROUP BY month, team, provider, plan, fee_usd
),

seats_held AS (
  SELECT day, team, provider, plan, COUNT(*) AS seats, CAST(SUM(fee_usd) AS BIGNUMERIC) AS fee_usd
  FROM held
  GROUP BY day, team, provider, plan
),

adjusted AS (
  SELECT
    month,
    COALESCE(NULLIF(team, ''), IF(key_kind = 'service', 'Services', 'No team')) AS team,
    IFNULL(provider, 'unknown') AS provider,
    CONCAT(IFNULL(model, 'all models'), ': ', REPLACE(reason, '_', ' ')) AS description,
    SUM(cost_usd) AS cost_usd
  FROM tally.adjustment_ledger
  GROUP BY 1, 2, 3, 4
),

charges AS (
  SELECT
    DATE_TRUNC(day, MONTH) AS month,
    day AS first_day,
    DATE_ADD(day, INTERVAL 1 DAY) AS end_day,
    team,
    provider,
    'API' AS service,
    'Usage' AS category,
    CAST(NULL AS STRING) AS class,
    'Usage-Based' AS frequency,
    CONCAT(model, ': ', REPLACE(kind, '_', ' '), IF(seated, ', under a seat', '')) AS description,
    CAST(quantity AS BIGNUMERIC) AS consumed,
    IF(kind = 'web_search', 'Requests', 'Tokens') AS consumed_unit,
    CAST(quantity * IF(kind = 'web_search', BIGNUMERIC '1', BIGNUMERIC '0.000001') AS BIGNUMERIC) AS priced,
    IF(kind = 'web_search', 'Requests', '1000000 Tokens') AS priced_unit,
    CAST(list_usd * IF(kind = 'web_search', 1, 1000000) AS BIGNUMERIC) AS list_unit_usd,
    CAST(contract_usd * IF(kind = 'web_search', 1, 1000000) AS BIGNUMERIC) AS contract_unit_usd,
    CAST(quantity * list_usd AS BIGNUMERIC) AS list_usd,
    CAST(quantity * contract_usd AS BIGNUMERIC) AS contract_usd,
    IF(seated, BIGNUMERIC '0', CAST(quantity * contract_usd AS BIGNUMERIC)) AS billed_usd,
    IF(seated, BIGNUMERIC '0', CAST(quantity * contract_usd AS BIGNUMERIC)) AS effective_usd,
    IF(seated, 'Other', 'Standard') AS pricing,
    CONCAT(provider, '/', model, '/', kind) AS sku,
    REPLACE(kind, '_', ' ') AS meter,
    IFNULL(price_id, 'no price') AS price,
    CONCAT(
      '{"x_Model": ', TO_JSON_STRING(model), ', "x_TokenKind": ', TO_JSON_STRING(kind),
      IF(price_id IS NULL, '', CONCAT(
        ', "x_ServiceTier": ', TO_JSON_STRING(service_tier),
        IF(residency = '', '', CONCAT(', "x_Residency": ', TO_JSON_STRING(residency))),
        ', "x_ContextAbove": ', CAST(context_above AS STRING)
      )),
      '}'
    ) AS price_details
  FROM by_kind
  WHERE quantity <> 0
  UNION ALL
  -- The provider told the cost in credits, a dollar each; or a closed month keeps a sum that no price gives today.
  SELECT
    DATE_TRUNC(day, MONTH), day, DATE_ADD(day, INTERVAL 1 DAY), team, provider, 'API', 'Usage', NULL, 'Usage-Based',
    CONCAT(
      model, IF(priced_by = 'provider', ': all, as the provider told its cost', ': all, as reported'),
      IF(seated, ', under a seat', '')
    ),
    CAST(
      input_text_tokens + input_audio_tokens + input_image_tokens + cache_read_tokens + cache_write_5m_tokens
      + cache_write_1h_tokens + output_text_tokens + output_audio_tokens + output_image_tokens AS BIGNUMERIC
    ),
    'Tokens',
    IF(priced_by = 'provider', list_cost_usd, BIGNUMERIC '1'),
    IF(priced_by = 'provider', 'Credits', 'Statements'),
    IF(priced_by = 'provider', BIGNUMERIC '1', list_cost_usd),
    CASE
      WHEN priced_by = 'provider' THEN BIGNUMERIC '1'
      WHEN seated THEN list_cost_usd
      ELSE cost_usd
    END,
    list_cost_usd, IF(seated, list_cost_usd, cost_usd), cost_usd, cost_usd, IF(seated, 'Other', 'Standard'),
    CONCAT(provider, '/', model, '/all'), 'all tokens',
    IF(priced_by = 'provider', 'credits', CONCAT('statement|', CAST(day AS STRING), '|', team)),
    CONCAT('{"x_Model": ', TO_JSON_STRING(model), '}')
  FROM used
  WHERE
    priced_by <> 'book'
    AND (
      list_cost_usd <> 0
      OR input_text_tokens + input_audio_tokens + input_image_tokens + cache_read_tokens + cache_write_5m_tokens
      + cache_write_1h_tokens + output_text_tokens + output_audio_tokens + output_image_tokens <> 0
    )
  UNION ALL
  -- The fees of a month.
  SELECT
    month, month, DATE_ADD(month, INTERVAL 1 MONTH), team, provider, 'subscription', 'Purchase', NULL, 'Recurring',
    CONCAT(plan, ': seats'), NULL, NULL, CAST(seats AS BIGNUMERIC), 'Seats', fee_usd, fee_usd, CAST(seats * fee_usd AS BIGNUMERIC),
    CAST(seats * fee_usd AS BIGNUMERIC), CAST(seats * fee_usd AS BIGNUMERIC), BIGNUMERIC '0', 'Standard',
    CONCAT(provider, '/', plan, '/seat'), 'seats',
    CONCAT('fee|', CAST(month AS STRING), '|', CAST(ROUND(fee_usd * 1000000000) AS STRING)),
    CONCAT('{"x_Plan": ', TO_JSON_STRING(plan), '}')
  FROM bought
  UNION ALL
  -- What of the fees is effective on a day: paid for by the purchase.
  SELECT
    DATE_TRUNC(day, MONTH), day, DATE_ADD(day, INTERVAL 1 DAY), team, provider, 'subscription', 'Usage', NULL,
    'Recurring', CONCAT(plan, ': seats held'), CAST(seats AS BIGNUMERIC), 'Seats', CAST(seats AS BIGNUMERIC),
    'Seats', BIGNUMERIC '0', BIGNUMERIC '0',    BIGNUMERIC '0', BIGNUMERIC '0', BIGNUMERIC '0', fee_usd, 'Other', CONCAT(provider, '/', plan, '/seat'), 'seats',
    'held', CONCAT('{"x_Plan": ', TO_JSON_STRING(plan), '}')
  FROM seats_held
  UNION ALL
  SELECT
    month, month, DATE_ADD(month, INTERVAL 1 MONTH), team, provider, 'API', 'Adjustment', 'Correction', 'One-Time',
    description, NULL, NULL, NULL, NULL, NULL, NULL, cost_usd, cost_usd, cost_usd, cost_usd, NULL, NULL, NULL, NULL, NULL
  FROM adjusted
),

named AS (
  SELECT
    charges.*,
    CASE provider
      WHEN 'anthropic' THEN 'Anthropic'
      WHEN 'openai' THEN 'OpenAI'
      WHEN 'openrouter' THEN 'OpenRouter'
      ELSE provider
    END AS provider_name
  FROM charges
)

SELECT
  charge.billed_usd AS BilledCost,
  charge.provider AS BillingAccountId,
  charge.provider_name AS BillingAccountName,
  'USD' AS BillingCurrency,
  CAST(DATE_ADD(charge.month, INTERVAL 1 MONTH) AS TIMESTAMP) AS BillingPeriodEnd,
  CAST(charge.month AS TIMESTAMP) AS BillingPeriodStart,
  charge.category AS ChargeCategory,
  charge.class AS ChargeClass,
  charge.description AS ChargeDescription,
  charge.frequency AS ChargeFrequency,
  CAST(charge.end_day AS TIMESTAMP) AS ChargePeriodEnd,
  CAST(charge.first_day AS TIMESTAMP) AS ChargePeriodStart,
  CAST(NULL AS STRING) AS CommitmentDiscountStatus,
  charge.consumed AS ConsumedQuantity,
  charge.consumed_unit AS ConsumedUnit,
  charge.contract_usd AS ContractedCost,
  charge.contract_unit_usd AS ContractedUnitPrice,
  charge.effective_usd AS EffectiveCost,
  CAST(NULL AS STRING) AS InvoiceId,
  charge.provider_name AS InvoiceIssuerName,
  charge.list_usd AS ListCost,
  charge.list_unit_usd AS ListUnitPrice,
  charge.pricing AS PricingCategory,
  'USD' AS PricingCurrency,
  charge.contract_unit_usd AS PricingCurrencyContractedUnitPrice,
  charge.effective_usd AS PricingCurrencyEffectiveCost,
  charge.list_unit_usd AS PricingCurrencyListUnitPrice,
  charge.priced AS PricingQuantity,
  charge.priced_unit AS PricingUnit,
  charge.provider_name AS ProviderName,
  charge.provider_name AS PublisherName,
  'AI and Machine Learning' AS ServiceCategory,
  CONCAT(charge.provider_name, ' ', charge.service) AS ServiceName,
  'Generative AI' AS ServiceSubcategory,
  charge.sku AS SkuId,
  charge.meter AS SkuMeter,
  charge.price_details AS SkuPriceDetails,
  CONCAT(charge.sku, '|', charge.price) AS SkuPriceId,
  charge.team AS SubAccountId,
  charge.team AS SubAccountName,
  CONCAT('{"cost_centre": ', TO_JSON_STRING(IFNULL(teams.cost_centre, charge.team)), '}') AS Tags
FROM named AS charge
LEFT JOIN tally.teams AS teams ON charge.team = teams.team
