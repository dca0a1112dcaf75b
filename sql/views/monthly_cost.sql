-- Grain: one row per month, team, key_kind, provider, model and entry (statement, open, or the reason of an adjustment).
-- What each month is reported with: a closed month as its statement says, every later change beside it as an adjustment
-- with its reason; the months that are not closed as they stand now (entry open). Tokens are those of the entry.
WITH closed AS (
  SELECT DISTINCT month FROM tally.statements
),

entries AS (
  SELECT
    month, team, key_kind, provider, model, 'statement' AS entry, requests,
    input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens AS prompt_tokens,
    output_tokens, cost_usd, list_cost_usd
  FROM tally.statements
  UNION ALL
  SELECT
    DATE_TRUNC(line.day, MONTH), line.team, line.key_kind, line.provider, line.model, 'open', line.requests,
    line.input_tokens + line.cache_read_tokens + line.cache_write_5m_tokens + line.cache_write_1h_tokens,
    line.output_tokens, line.cost_usd, line.list_cost_usd
  FROM tally.team_daily AS line
  LEFT JOIN closed ON DATE_TRUNC(line.day, MONTH) = closed.month
  WHERE closed.month IS NULL
  UNION ALL
  SELECT month, team, key_kind, provider, model, reason, 0, 0, 0, cost_usd, BIGNUMERIC '0'
  FROM tally.adjustment_ledger
)

SELECT
  month,
  team,
  key_kind,
  provider,
  model,
  entry,
  SUM(requests) AS requests,
  SUM(prompt_tokens) AS prompt_tokens,
  SUM(output_tokens) AS output_tokens,
  SUM(cost_usd) AS cost_usd,
  SUM(list_cost_usd) AS list_cost_usd
FROM entries
GROUP BY month, team, key_kind, provider, model, entry
