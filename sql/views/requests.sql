-- Grain: one row per event_id.
-- Every request once, with its price. Of several stored copies the first received counts. Price: by the model that
-- served it, else by the model that was asked for, else the fallback row (provider *, model *), each as of the time of
-- the request. cost_usd is exact, never rounded, and 0 for a subscription; list_cost_usd is the list price in both
-- cases. price_source: book, fallback, none (no tokens), missing (tokens, but not even a fallback price).
WITH copies AS (
  SELECT *, DATE(occurred_at) AS day
  FROM tally.events
),

-- `day` is part of the window's partition, so that a filter on it is applied before the window.
once AS (
  SELECT *
  FROM copies
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY day, event_id ORDER BY received_at) = 1
),

priced AS (
  SELECT
    once.*,
    CASE
      WHEN once.input_tokens + once.cache_read_tokens + once.cache_write_5m_tokens + once.cache_write_1h_tokens
        + once.output_tokens = 0 THEN 'none'
      WHEN served.provider IS NOT NULL OR asked.provider IS NOT NULL THEN 'book'
      WHEN fallback.provider IS NOT NULL THEN 'fallback'
      ELSE 'missing'
    END AS price_source,
    CAST(
      once.input_tokens
        * COALESCE(served.input_usd, asked.input_usd, fallback.input_usd, BIGNUMERIC '0')
      + once.cache_read_tokens
        * COALESCE(served.cache_read_usd, asked.cache_read_usd, fallback.cache_read_usd, BIGNUMERIC '0')
      + once.cache_write_5m_tokens
        * COALESCE(served.cache_write_5m_usd, asked.cache_write_5m_usd, fallback.cache_write_5m_usd, BIGNUMERIC '0')
      + once.cache_write_1h_tokens
        * COALESCE(served.cache_write_1h_usd, asked.cache_write_1h_usd, fallback.cache_write_1h_usd, BIGNUMERIC '0')
      + once.output_tokens
        * COALESCE(served.output_usd, asked.output_usd, fallback.output_usd, BIGNUMERIC '0')
      AS BIGNUMERIC) AS list_cost_usd
  FROM once
  LEFT JOIN tally.price_periods AS served
    ON once.provider = served.provider AND once.model = served.model
    AND once.occurred_at >= served.valid_from AND once.occurred_at < served.valid_to
  LEFT JOIN tally.price_periods AS asked
    ON once.provider = asked.provider AND once.model_requested = asked.model
    AND once.occurred_at >= asked.valid_from AND once.occurred_at < asked.valid_to
  LEFT JOIN tally.price_periods AS fallback
    ON fallback.provider = IF(served.provider IS NULL AND asked.provider IS NULL, '*', NULL) AND fallback.model = '*'
    AND once.occurred_at >= fallback.valid_from AND once.occurred_at < fallback.valid_to
)

SELECT
  schema_version,
  event_id,
  request_id,
  occurred_at,
  person,
  team,
  key_id,
  key_kind,
  tool,
  tool_version,
  user_agent,
  session_id,
  route,
  provider,
  model_requested,
  model,
  provider_request_id,
  stream,
  status,
  http_status,
  error_class,
  latency_ms,
  time_to_first_token_ms,
  usage_source,
  input_tokens,
  cache_read_tokens,
  cache_write_5m_tokens,
  cache_write_1h_tokens,
  output_tokens,
  reasoning_tokens,
  gateway_cost_usd,
  billing_mode,
  service_tier,
  residency,
  long_context,
  received_at,
  day,
  IF(billing_mode = 'subscription', BIGNUMERIC '0', list_cost_usd) AS cost_usd,
  list_cost_usd,
  price_source
FROM priced
