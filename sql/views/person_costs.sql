-- Grain: one row per day (UTC) and every other column that is not a sum: the grain of the table person_rollup.
-- What each key used, priced as of its day: for budgets, which sum it, and for what a person sees of their own. Days
-- before today from the rollup, today from the events.
WITH used AS (
  SELECT *
  FROM tally.person_usage
),

-- Pricing, from here: the same lines in every view that prices; a test compares them. The model is looked up as it was
-- served, else without the date in its name, else as it was asked for. A tier or residency that the book does not know
-- for the model costs the standard price, a model that it does not know at all the fallback: never nothing.
named AS (
  SELECT
    used.*,
    COALESCE(served.model, undated.model, asked.model, asked_undated.model) AS book_model,
    COALESCE(served.context_above, undated.context_above, asked.context_above, asked_undated.context_above)
      AS book_context_above
  FROM used
  LEFT JOIN tally.price_names AS served ON used.provider = served.provider AND used.model = served.model
  LEFT JOIN tally.price_names AS undated
    ON used.provider = undated.provider AND REGEXP_REPLACE(used.model, r'[-@](latest|20[0-9]{2}-?[0-9]{2}-?[0-9]{2})$', '') = undated.model
  LEFT JOIN tally.price_names AS asked ON used.provider = asked.provider AND used.model_requested = asked.model
  LEFT JOIN tally.price_names AS asked_undated
    ON used.provider = asked_undated.provider
    AND REGEXP_REPLACE(used.model_requested, r'[-@](latest|20[0-9]{2}-?[0-9]{2}-?[0-9]{2})$', '') = asked_undated.model
),

chosen AS (
  SELECT
    named.*,
    COALESCE(exact.price_id, plain.price_id, unknown.price_id) AS price_id,
    CASE
      WHEN named.cost_reported THEN 'reported'
      WHEN named.input_tokens + named.cache_read_tokens + named.cache_write_5m_tokens + named.cache_write_1h_tokens
        + named.output_tokens + named.web_searches = 0 THEN 'none'
      WHEN exact.price_id IS NOT NULL THEN 'book'
      WHEN plain.price_id IS NOT NULL THEN 'approximate'
      WHEN unknown.price_id IS NOT NULL THEN 'fallback'
      ELSE 'missing'
    END AS price_source
  FROM named
  LEFT JOIN tally.price_spans AS exact
    ON named.provider = exact.provider AND named.book_model = exact.model
    AND IFNULL(named.service_tier, 'standard') = exact.service_tier AND IFNULL(named.residency, '') = exact.residency
    AND IF(named.context_band >= named.book_context_above, named.book_context_above, 0) = exact.context_above
    AND named.day >= exact.valid_from AND named.day < exact.valid_to
  LEFT JOIN tally.price_spans AS plain
    ON named.provider = plain.provider AND named.book_model = plain.model
    AND plain.service_tier = 'standard' AND plain.residency = ''
    AND IF(named.context_band >= named.book_context_above, named.book_context_above, 0) = plain.context_above
    AND named.day >= plain.valid_from AND named.day < plain.valid_to
  LEFT JOIN tally.price_spans AS unknown
    ON unknown.provider = '*' AND unknown.model = '*'
    AND named.day >= unknown.valid_from AND named.day < unknown.valid_to
),

costed AS (
  SELECT
    chosen.*,
    IFNULL(CAST(
      (chosen.input_tokens - chosen.input_audio_tokens - chosen.input_image_tokens) * price.input_usd
      + chosen.input_audio_tokens * price.input_audio_usd
      + chosen.input_image_tokens * price.input_image_usd
      + chosen.cache_read_tokens * price.cache_read_usd
      + chosen.cache_write_5m_tokens * price.cache_write_5m_usd
      + chosen.cache_write_1h_tokens * price.cache_write_1h_usd
      + (chosen.output_tokens - chosen.output_audio_tokens - chosen.output_image_tokens) * price.output_usd
      + chosen.output_audio_tokens * price.output_audio_usd
      + chosen.output_image_tokens * price.output_image_usd
      + chosen.web_searches * price.web_search_usd
      AS BIGNUMERIC), BIGNUMERIC '0') AS contract_usd,
    IFNULL(CAST(
      (chosen.input_tokens - chosen.input_audio_tokens - chosen.input_image_tokens) * price.list_input_usd
      + chosen.input_audio_tokens * price.list_input_audio_usd
      + chosen.input_image_tokens * price.list_input_image_usd
      + chosen.cache_read_tokens * price.list_cache_read_usd
      + chosen.cache_write_5m_tokens * price.list_cache_write_5m_usd
      + chosen.cache_write_1h_tokens * price.list_cache_write_1h_usd
      + (chosen.output_tokens - chosen.output_audio_tokens - chosen.output_image_tokens) * price.list_output_usd
      + chosen.output_audio_tokens * price.list_output_audio_usd
      + chosen.output_image_tokens * price.list_output_image_usd
      + chosen.web_searches * price.list_web_search_usd
      AS BIGNUMERIC), BIGNUMERIC '0') AS public_usd
  FROM chosen
  LEFT JOIN tally.price_periods AS price ON chosen.price_id = price.price_id
),

priced AS (
  SELECT
    costed.*,
    CASE
      WHEN billing_mode = 'subscription' THEN BIGNUMERIC '0'
      WHEN cost_reported THEN provider_cost_usd
      ELSE contract_usd
    END AS cost_usd,
    IF(cost_reported, provider_cost_usd, public_usd) AS list_cost_usd
  FROM costed
)
-- Pricing, to here.

SELECT
  day,
  person,
  team,
  key_id,
  key_kind,
  tool,
  provider,
  model,
  billing_mode,
  usage_source,
  requests,
  calls,
  errors,
  input_tokens,
  cache_read_tokens,
  cache_write_5m_tokens,
  cache_write_1h_tokens,
  output_tokens,
  reasoning_tokens,
  gateway_cost_usd,
  cost_usd,
  list_cost_usd
FROM priced
