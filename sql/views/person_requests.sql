-- Grain: one row per call of a person (event_id).
-- A person's own requests, one by one, and the calls that another call of the same request replaced (superseded). Only
-- ever read with person = @person, the viewer.
SELECT
  event_id,
  occurred_at,
  day,
  person,
  key_id,
  tool,
  tool_version,
  session_id,
  route,
  provider,
  model,
  status,
  usage_source,
  price_source,
  input_tokens,
  cache_read_tokens,
  cache_write_5m_tokens,
  cache_write_1h_tokens,
  output_tokens,
  reasoning_tokens,
  cost_usd,
  list_cost_usd,
  billing_mode,
  superseded,
  latency_ms,
  time_to_first_token_ms
FROM tally.requests
WHERE person IS NOT NULL
