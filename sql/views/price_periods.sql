-- Grain: one row per provider, model, service_tier, residency, context_above and span of days in which no price changes.
-- What one token of each kind costs the company (<kind>_usd) and by the public list (list_<kind>_usd), from valid_from
-- (included) to valid_to (excluded), UTC days; web_search for one search. Exact: a price per million times 0.000001,
-- never divided. A kind without a price of its own costs what it is a kind of. Model * of provider * is what an unknown
-- model costs.
WITH listed AS (
  SELECT
    provider,
    model,
    service_tier,
    residency,
    context_above,
    valid_from,
    MAX(IF(price_list = 'contract' AND token_kind = 'input', usd_per_million, NULL)) AS contract_input,
    MAX(IF(price_list = 'contract' AND token_kind = 'cache_read', usd_per_million, NULL)) AS contract_cache_read,
    MAX(IF(price_list = 'contract' AND token_kind = 'cache_write_5m', usd_per_million, NULL)) AS contract_cache_write_5m,
    MAX(IF(price_list = 'contract' AND token_kind = 'cache_write_1h', usd_per_million, NULL)) AS contract_cache_write_1h,
    MAX(IF(price_list = 'contract' AND token_kind = 'output', usd_per_million, NULL)) AS contract_output,
    MAX(IF(price_list = 'contract' AND token_kind = 'input_audio', usd_per_million, NULL)) AS contract_input_audio,
    MAX(IF(price_list = 'contract' AND token_kind = 'input_image', usd_per_million, NULL)) AS contract_input_image,
    MAX(IF(price_list = 'contract' AND token_kind = 'output_audio', usd_per_million, NULL)) AS contract_output_audio,
    MAX(IF(price_list = 'contract' AND token_kind = 'output_image', usd_per_million, NULL)) AS contract_output_image,
    MAX(IF(price_list = 'contract' AND token_kind = 'web_search', usd_per_million, NULL)) AS contract_web_search,
    MAX(IF(price_list = 'list' AND token_kind = 'input', usd_per_million, NULL)) AS list_input,
    MAX(IF(price_list = 'list' AND token_kind = 'cache_read', usd_per_million, NULL)) AS list_cache_read,
    MAX(IF(price_list = 'list' AND token_kind = 'cache_write_5m', usd_per_million, NULL)) AS list_cache_write_5m,
    MAX(IF(price_list = 'list' AND token_kind = 'cache_write_1h', usd_per_million, NULL)) AS list_cache_write_1h,
    MAX(IF(price_list = 'list' AND token_kind = 'output', usd_per_million, NULL)) AS list_output,
    MAX(IF(price_list = 'list' AND token_kind = 'input_audio', usd_per_million, NULL)) AS list_input_audio,
    MAX(IF(price_list = 'list' AND token_kind = 'input_image', usd_per_million, NULL)) AS list_input_image,
    MAX(IF(price_list = 'list' AND token_kind = 'output_audio', usd_per_million, NULL)) AS list_output_audio,
    MAX(IF(price_list = 'list' AND token_kind = 'output_image', usd_per_million, NULL)) AS list_output_image,
    MAX(IF(price_list = 'list' AND token_kind = 'web_search', usd_per_million, NULL)) AS list_web_search
  FROM tally.prices
  GROUP BY provider, model, service_tier, residency, context_above, valid_from
)

SELECT
  span.price_id,
  span.provider,
  span.model,
  span.service_tier,
  span.residency,
  span.context_above,
  span.valid_from,
  span.valid_to,
  CAST(IFNULL(contract_input, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS input_usd,
  CAST(COALESCE(contract_cache_read, list_cache_read, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC)
    AS cache_read_usd,
  CAST(COALESCE(contract_cache_write_5m, list_cache_write_5m, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC)
    AS cache_write_5m_usd,
  CAST(
    COALESCE(contract_cache_write_1h, list_cache_write_1h, list_cache_write_5m, list_input) * BIGNUMERIC '0.000001'
    AS BIGNUMERIC) AS cache_write_1h_usd,
  CAST(IFNULL(contract_output, list_output) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS output_usd,
  CAST(COALESCE(contract_input_audio, list_input_audio, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC)
    AS input_audio_usd,
  CAST(COALESCE(contract_input_image, list_input_image, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC)
    AS input_image_usd,
  CAST(COALESCE(contract_output_audio, list_output_audio, list_output) * BIGNUMERIC '0.000001' AS BIGNUMERIC)
    AS output_audio_usd,
  CAST(COALESCE(contract_output_image, list_output_image, list_output) * BIGNUMERIC '0.000001' AS BIGNUMERIC)
    AS output_image_usd,
  CAST(COALESCE(contract_web_search, list_web_search, NUMERIC '0') * BIGNUMERIC '0.000001' AS BIGNUMERIC)
    AS web_search_usd,
  CAST(list_input * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS list_input_usd,
  CAST(IFNULL(list_cache_read, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS list_cache_read_usd,
  CAST(IFNULL(list_cache_write_5m, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS list_cache_write_5m_usd,
  CAST(COALESCE(list_cache_write_1h, list_cache_write_5m, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC)
    AS list_cache_write_1h_usd,
  CAST(list_output * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS list_output_usd,
  CAST(IFNULL(list_input_audio, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS list_input_audio_usd,
  CAST(IFNULL(list_input_image, list_input) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS list_input_image_usd,
  CAST(IFNULL(list_output_audio, list_output) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS list_output_audio_usd,
  CAST(IFNULL(list_output_image, list_output) * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS list_output_image_usd,
  CAST(IFNULL(list_web_search, NUMERIC '0') * BIGNUMERIC '0.000001' AS BIGNUMERIC) AS list_web_search_usd
FROM listed
INNER JOIN tally.price_spans AS span
  ON listed.provider = span.provider AND listed.model = span.model AND listed.service_tier = span.service_tier
  AND listed.residency = span.residency AND listed.context_above = span.context_above
  AND listed.valid_from = span.valid_from
