-- Grain: one row per event_id.
-- Every event once: of several stored copies the first received counts, and copies tells how many there are. day is the
-- UTC day; context_band the largest of the lengths at which a price list changes that the prompt exceeds, in tokens.
-- cost_reported: the provider itself told what the call cost.
WITH copied AS (
  SELECT
    *,
    DATE(occurred_at) AS day,
    input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens AS prompt_tokens
  FROM tally.events
),

-- `day` is part of each window's partition, so that a filter on it is applied before the window.
counted AS (
  SELECT
    *,
    COUNT(*) OVER (PARTITION BY day, event_id) AS copies,
    MAX(received_at) OVER (PARTITION BY day, event_id) AS newest_received_at
  FROM copied
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY day, event_id ORDER BY received_at) = 1
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
  superseded,
  input_audio_tokens,
  input_image_tokens,
  output_audio_tokens,
  output_image_tokens,
  web_searches,
  provider_cost_usd,
  raw_usage,
  network,
  received_at,
  day,
  CASE
    WHEN prompt_tokens > 272000 THEN 272000
    WHEN prompt_tokens > 200000 THEN 200000
    WHEN prompt_tokens > 100000 THEN 100000
    ELSE 0
  END AS context_band,
  provider_cost_usd IS NOT NULL AS cost_reported,
  copies,
  newest_received_at
FROM counted
