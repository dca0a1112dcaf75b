-- Grain: one row per closed month, team, key_kind, provider, model and reason (price or late_event).
-- How far a closed month would be reported otherwise today. price: the same tokens at today's book, less what was
-- reported. late_event: today's tokens, less those of the statement, at today's book. change_usd is the whole difference,
-- posted_usd what adjustments already say of it, open_usd what is still to be posted.
WITH closed AS (
  SELECT DISTINCT month FROM tally.statements
),

frozen AS (
  SELECT month, team, key_kind, provider, model, SUM(reported_usd) AS reported_usd, SUM(cost_now_usd) AS repriced_usd
  FROM tally.statements_repriced
  GROUP BY month, team, key_kind, provider, model
),

today AS (
  SELECT closed.month, line.team, line.key_kind, line.provider, line.model, SUM(line.cost_usd) AS cost_usd
  FROM tally.team_daily AS line
  INNER JOIN closed ON DATE_TRUNC(line.day, MONTH) = closed.month
  GROUP BY closed.month, line.team, line.key_kind, line.provider, line.model
),

both AS (
  SELECT month, team, key_kind, provider, model, reported_usd, repriced_usd, BIGNUMERIC '0' AS today_usd FROM frozen
  UNION ALL
  SELECT month, team, key_kind, provider, model, BIGNUMERIC '0', BIGNUMERIC '0', cost_usd FROM today
),

summed AS (
  SELECT
    month,
    team,
    key_kind,
    provider,
    model,
    SUM(repriced_usd) - SUM(reported_usd) AS price_usd,
    SUM(today_usd) - SUM(repriced_usd) AS late_event_usd
  FROM both
  GROUP BY month, team, key_kind, provider, model
),

changes AS (
  SELECT month, team, key_kind, provider, model, 'price' AS reason, price_usd AS change_usd FROM summed
  UNION ALL
  SELECT month, team, key_kind, provider, model, 'late_event' AS reason, late_event_usd AS change_usd FROM summed
),

posted AS (
  SELECT month, team, key_kind, provider, model, reason, SUM(cost_usd) AS posted_usd, COUNT(*) AS postings
  FROM tally.adjustment_ledger
  WHERE reason <> 'reconciliation'
  GROUP BY month, team, key_kind, provider, model, reason
)

SELECT
  changes.month,
  changes.team,
  changes.key_kind,
  changes.provider,
  changes.model,
  changes.reason,
  changes.change_usd,
  IFNULL(posted.posted_usd, BIGNUMERIC '0') AS posted_usd,
  changes.change_usd - IFNULL(posted.posted_usd, BIGNUMERIC '0') AS open_usd,
  IFNULL(posted.postings, 0) AS postings
FROM changes
LEFT JOIN posted
  ON changes.month = posted.month AND IFNULL(changes.team, '') = IFNULL(posted.team, '')
  AND changes.key_kind = posted.key_kind AND IFNULL(changes.provider, '') = IFNULL(posted.provider, '')
  AND IFNULL(changes.model, '') = IFNULL(posted.model, '') AND changes.reason = posted.reason
WHERE changes.change_usd <> 0 OR IFNULL(posted.posted_usd, BIGNUMERIC '0') <> 0
