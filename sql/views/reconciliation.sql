-- Grain: one row per complete day (UTC), provider and model; model is empty for what a bill names no model for.
-- The provider's bill against ours, and what the gap comes from: theirs_usd - ours_usd = gap_usd = the sum of the
-- causes, exactly. Only providers whose reports are read, and days for which both usage and cost were told; ours is what
-- metered calls cost the company. Models without the date in their names; web searches stand under the empty model.
-- bypass_usd: paid for projects and keys that are not the gateway's (where nobody told us which are: the volume that
-- the gateway never saw). cache_usd: as many input tokens, of other cache kinds. counted_usd: other volume, as far as we
-- counted tokens ourselves that day (aborted streams, omitted usage). timing_usd: the rest of the other volume, such as
-- requests around midnight, and lines that come late. Differences in volume are valued at our contract price. What is
-- left is price_usd, or unpriced_usd where our price is the fallback or the bill names something that has no token price
-- (storage, sessions). read_at: when the bill of that day last changed.
WITH days AS (
  SELECT provider, day, MAX(fetched_at) AS read_at
  FROM tally.provider_bill
  WHERE day < CURRENT_DATE()
  GROUP BY provider, day
  HAVING COUNT(DISTINCT report) = 2
),

told AS (
  SELECT provider FROM tally.gateway_keys GROUP BY provider
),

-- Tiers that both sides name alike; any other is compared as standard on both.
billed AS (
  SELECT
    bill.provider,
    bill.day,
    bill.report,
    bill.model AS named_model,
    IF(
      bill.token_kind = 'web_search', '',
      IFNULL(REGEXP_REPLACE(bill.model, r'[-@](latest|20[0-9]{2}-?[0-9]{2}-?[0-9]{2})$', ''), '')
    ) AS model,
    IF(bill.service_tier IN ('batch', 'flex', 'priority', 'ultrafast'), bill.service_tier, 'standard') AS service_tier,
    IFNULL(bill.token_kind, '') AS token_kind,
    IFNULL(bill.quantity, 0) AS quantity,
    IFNULL(bill.amount_usd, BIGNUMERIC '0') AS amount_usd,
    told.provider IS NULL OR own_project.id IS NOT NULL OR own_key.id IS NOT NULL AS own
  FROM tally.provider_bill AS bill
  JOIN days ON bill.provider = days.provider AND bill.day = days.day
  LEFT JOIN told ON bill.provider = told.provider
  LEFT JOIN tally.gateway_keys AS own_project
    ON bill.provider = own_project.provider AND IFNULL(bill.project, 'default') = own_project.id
  LEFT JOIN tally.gateway_keys AS own_key
    ON bill.provider = own_key.provider AND bill.api_key_id = own_key.id
),

metered AS (
  SELECT
    used.provider,
    used.day,
    COALESCE(used.model, used.model_requested) AS named_model,
    IFNULL(
      REGEXP_REPLACE(
        COALESCE(used.model, used.model_requested), r'[-@](latest|20[0-9]{2}-?[0-9]{2}-?[0-9]{2})$', ''
      ),
      ''
    ) AS model,
    IF(used.service_tier IN ('batch', 'flex', 'priority', 'ultrafast'), used.service_tier, 'standard') AS service_tier,
    used.usage_source,
    used.input_tokens,
    used.cache_read_tokens,
    used.cache_write_5m_tokens,
    used.cache_write_1h_tokens,
    used.output_tokens,
    used.web_searches,
    used.cost_usd
  FROM tally.team_daily AS used
  JOIN days ON used.provider = days.provider AND used.day = days.day
  WHERE used.billing_mode = 'metered'
),

-- The price at which a difference in tokens is valued. One for both sides, so that it values nothing where they agree.
named AS (
  SELECT provider, day, named_model, model, service_tier FROM billed
  UNION DISTINCT
  SELECT provider, day, named_model, model, service_tier FROM metered
),

looked_up AS (
  SELECT named.*, COALESCE(served.model, undated.model) AS book_model
  FROM named
  LEFT JOIN tally.price_names AS served ON named.provider = served.provider AND named.named_model = served.model
  LEFT JOIN tally.price_names AS undated
    ON named.provider = undated.provider
    AND REGEXP_REPLACE(named.named_model, r'[-@](latest|20[0-9]{2}-?[0-9]{2}-?[0-9]{2})$', '') = undated.model
),

found AS (
  SELECT
    looked_up.provider,
    looked_up.day,
    looked_up.model,
    looked_up.service_tier,
    COALESCE(exact.price_id, plain.price_id) IS NULL AS unknown,
    COALESCE(exact.price_id, plain.price_id, fallback.price_id) AS price_id
  FROM looked_up
  LEFT JOIN tally.price_periods AS exact
    ON looked_up.provider = exact.provider AND looked_up.book_model = exact.model
    AND looked_up.service_tier = exact.service_tier AND exact.residency = '' AND exact.context_above = 0
    AND looked_up.day >= exact.valid_from AND looked_up.day < exact.valid_to
  LEFT JOIN tally.price_periods AS plain
    ON looked_up.provider = plain.provider AND looked_up.book_model = plain.model
    AND plain.service_tier = 'standard' AND plain.residency = '' AND plain.context_above = 0
    AND looked_up.day >= plain.valid_from AND looked_up.day < plain.valid_to
  LEFT JOIN tally.price_periods AS fallback
    ON fallback.provider = '*' AND fallback.model = '*'
    AND looked_up.day >= fallback.valid_from AND looked_up.day < fallback.valid_to
),

token_values AS (
  SELECT
    found.provider,
    found.day,
    found.model,
    found.service_tier,
    LOGICAL_AND(found.unknown) AS unknown,
    IFNULL(MAX(price.input_usd), BIGNUMERIC '0') AS input_usd,
    IFNULL(MAX(price.cache_read_usd), BIGNUMERIC '0') AS cache_read_usd,
    IFNULL(MAX(price.cache_write_5m_usd), BIGNUMERIC '0') AS cache_write_5m_usd,
    IFNULL(MAX(price.cache_write_1h_usd), BIGNUMERIC '0') AS cache_write_1h_usd,
    IFNULL(MAX(price.output_usd), BIGNUMERIC '0') AS output_usd
  FROM found
  LEFT JOIN tally.price_periods AS price ON found.price_id = price.price_id
  GROUP BY found.provider, found.day, found.model, found.service_tier
),

search_values AS (
  SELECT found.provider, found.day, IFNULL(MAX(price.web_search_usd), BIGNUMERIC '0') AS web_search_usd
  FROM found
  LEFT JOIN tally.price_periods AS price ON found.price_id = price.price_id
  GROUP BY found.provider, found.day
),

-- Both sides in one form: dollars, and tokens as theirs minus ours.
sides AS (
  SELECT
    provider,
    day,
    model,
    service_tier,
    IF(own, amount_usd, BIGNUMERIC '0') AS own_usd,
    IF(own, BIGNUMERIC '0', amount_usd) AS other_usd,
    IF(own AND token_kind = '', amount_usd, BIGNUMERIC '0') AS nameless_usd,
    BIGNUMERIC '0' AS ours_usd,
    BIGNUMERIC '0' AS counted_usd,
    IF(own AND report = 'usage' AND token_kind = 'input', quantity, 0) AS input_tokens,
    IF(own AND report = 'usage' AND token_kind = 'cache_read', quantity, 0) AS cache_read_tokens,
    IF(own AND report = 'usage' AND token_kind = 'cache_write_5m', quantity, 0) AS cache_write_5m_tokens,
    IF(own AND report = 'usage' AND token_kind = 'cache_write_1h', quantity, 0) AS cache_write_1h_tokens,
    IF(own AND report = 'usage' AND token_kind = 'output', quantity, 0) AS output_tokens,
    IF(own AND token_kind = 'web_search', quantity, 0) AS web_searches
  FROM billed
  UNION ALL
  SELECT
    metered.provider,
    metered.day,
    metered.model,
    metered.service_tier,
    BIGNUMERIC '0' AS own_usd,
    BIGNUMERIC '0' AS other_usd,
    BIGNUMERIC '0' AS nameless_usd,
    CAST(metered.cost_usd - metered.web_searches * search_values.web_search_usd AS BIGNUMERIC) AS ours_usd,
    IF(metered.usage_source = 'counted', metered.cost_usd, BIGNUMERIC '0') AS counted_usd,
    -metered.input_tokens AS input_tokens,
    -metered.cache_read_tokens AS cache_read_tokens,
    -metered.cache_write_5m_tokens AS cache_write_5m_tokens,
    -metered.cache_write_1h_tokens AS cache_write_1h_tokens,
    -metered.output_tokens AS output_tokens,
    0 AS web_searches
  FROM metered
  JOIN search_values ON metered.provider = search_values.provider AND metered.day = search_values.day
  UNION ALL
  SELECT
    metered.provider,
    metered.day,
    '' AS model,
    'standard' AS service_tier,
    BIGNUMERIC '0' AS own_usd,
    BIGNUMERIC '0' AS other_usd,
    BIGNUMERIC '0' AS nameless_usd,
    CAST(metered.web_searches * search_values.web_search_usd AS BIGNUMERIC) AS ours_usd,
    BIGNUMERIC '0' AS counted_usd,
    0 AS input_tokens,
    0 AS cache_read_tokens,
    0 AS cache_write_5m_tokens,
    0 AS cache_write_1h_tokens,
    0 AS output_tokens,
    -metered.web_searches AS web_searches
  FROM metered
  JOIN search_values ON metered.provider = search_values.provider AND metered.day = search_values.day
  WHERE metered.web_searches > 0
),

summed AS (
  SELECT
    provider,
    day,
    model,
    service_tier,
    SUM(own_usd) AS own_usd,
    SUM(other_usd) AS other_usd,
    SUM(nameless_usd) AS nameless_usd,
    SUM(ours_usd) AS ours_usd,
    SUM(counted_usd) AS counted_usd,
    CAST(SUM(input_tokens) AS INT64) AS input_tokens,
    CAST(SUM(cache_read_tokens) AS INT64) AS cache_read_tokens,
    CAST(SUM(cache_write_5m_tokens) AS INT64) AS cache_write_5m_tokens,
    CAST(SUM(cache_write_1h_tokens) AS INT64) AS cache_write_1h_tokens,
    CAST(SUM(output_tokens) AS INT64) AS output_tokens,
    CAST(SUM(web_searches) AS INT64) AS web_searches
  FROM sides
  GROUP BY provider, day, model, service_tier
),

-- Input tokens that are more there and fewer here changed their kind, as far as the one makes up for the other: of the
-- larger side a share of so many ten-thousandths.
moved AS (
  SELECT
    *,
    GREATEST(input_tokens, 0) + GREATEST(cache_read_tokens, 0) + GREATEST(cache_write_5m_tokens, 0)
      + GREATEST(cache_write_1h_tokens, 0) AS more,
    GREATEST(-input_tokens, 0) + GREATEST(-cache_read_tokens, 0) + GREATEST(-cache_write_5m_tokens, 0)
      + GREATEST(-cache_write_1h_tokens, 0) AS fewer
  FROM summed
),

shares AS (
  SELECT
    *,
    IFNULL(DIV(LEAST(more, fewer) * 10000, NULLIF(more, 0)), 0) AS share_of_more,
    IFNULL(DIV(LEAST(more, fewer) * 10000, NULLIF(fewer, 0)), 0) AS share_of_fewer
  FROM moved
),

valued AS (
  SELECT
    shares.provider,
    shares.day,
    shares.model,
    shares.own_usd,
    shares.other_usd,
    shares.nameless_usd,
    shares.ours_usd,
    shares.counted_usd,
    unit.unknown,
    CAST(
      shares.input_tokens * unit.input_usd
      + shares.cache_read_tokens * unit.cache_read_usd
      + shares.cache_write_5m_tokens * unit.cache_write_5m_usd
      + shares.cache_write_1h_tokens * unit.cache_write_1h_usd
      + shares.output_tokens * unit.output_usd
      + shares.web_searches * search_values.web_search_usd
      AS BIGNUMERIC) AS tokens_usd,
    CAST(
      (DIV(GREATEST(shares.input_tokens, 0) * shares.share_of_more, 10000)
        - DIV(GREATEST(-shares.input_tokens, 0) * shares.share_of_fewer, 10000)) * unit.input_usd
      + (DIV(GREATEST(shares.cache_read_tokens, 0) * shares.share_of_more, 10000)
        - DIV(GREATEST(-shares.cache_read_tokens, 0) * shares.share_of_fewer, 10000)) * unit.cache_read_usd
      + (DIV(GREATEST(shares.cache_write_5m_tokens, 0) * shares.share_of_more, 10000)
        - DIV(GREATEST(-shares.cache_write_5m_tokens, 0) * shares.share_of_fewer, 10000)) * unit.cache_write_5m_usd
      + (DIV(GREATEST(shares.cache_write_1h_tokens, 0) * shares.share_of_more, 10000)
        - DIV(GREATEST(-shares.cache_write_1h_tokens, 0) * shares.share_of_fewer, 10000)) * unit.cache_write_1h_usd
      AS BIGNUMERIC) AS cache_usd
  FROM shares
  JOIN search_values ON shares.provider = search_values.provider AND shares.day = search_values.day
  LEFT JOIN token_values AS unit
    ON shares.provider = unit.provider AND shares.day = unit.day AND shares.model = unit.model
    AND shares.service_tier = unit.service_tier
),

by_model AS (
  SELECT
    valued.provider,
    valued.day,
    valued.model,
    IFNULL(LOGICAL_AND(valued.unknown), FALSE) AND valued.model <> '' AS unknown,
    SUM(valued.own_usd) AS own_usd,
    SUM(valued.other_usd) AS other_usd,
    SUM(valued.nameless_usd) AS nameless_usd,
    SUM(valued.ours_usd) AS ours_usd,
    SUM(valued.counted_usd) AS most_counted_usd,
    SUM(valued.cache_usd) AS cache_usd,
    SUM(valued.tokens_usd) - SUM(valued.cache_usd) AS volume_usd
  FROM valued
  GROUP BY valued.provider, valued.day, valued.model
),

split AS (
  SELECT
    *,
    GREATEST(LEAST(volume_usd, most_counted_usd), -most_counted_usd) AS counted_usd,
    own_usd - nameless_usd - ours_usd - volume_usd - cache_usd AS rest_usd
  FROM by_model
)

SELECT
  split.day,
  split.provider,
  split.model,
  split.own_usd + split.other_usd AS theirs_usd,
  split.ours_usd,
  split.own_usd + split.other_usd - split.ours_usd AS gap_usd,
  split.other_usd
    + IF(told.provider IS NULL, GREATEST(split.volume_usd - split.counted_usd, BIGNUMERIC '0'), BIGNUMERIC '0')
    AS bypass_usd,
  IF(split.unknown, BIGNUMERIC '0', split.rest_usd) AS price_usd,
  split.nameless_usd + IF(split.unknown, split.rest_usd, BIGNUMERIC '0') AS unpriced_usd,
  split.cache_usd,
  split.counted_usd,
  IF(
    told.provider IS NULL,
    LEAST(split.volume_usd - split.counted_usd, BIGNUMERIC '0'),
    split.volume_usd - split.counted_usd
  ) AS timing_usd,
  told.provider IS NOT NULL AS gateway_known,
  days.read_at
FROM split
JOIN days ON split.provider = days.provider AND split.day = days.day
LEFT JOIN told ON split.provider = told.provider
