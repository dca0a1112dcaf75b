-- Grain: one row per month, cost_centre, provider and entry.
-- What each cost centre pays for a month: as monthly_cost reports it (entry statement, open, or the reason of a change),
-- and the seats of its people (entry seats). A team that policy/teams.csv does not name is its own cost centre; requests
-- of no team stand under Services or No team. list_cost_usd is what the use would have cost at list prices.
WITH lines AS (
  SELECT
    month,
    NULLIF(team, '') AS team,
    IF(key_kind = 'service', 'Services', 'No team') AS otherwise,
    provider,
    entry,
    requests,
    prompt_tokens,
    output_tokens,
    cost_usd,
    list_cost_usd
  FROM tally.monthly_cost
  UNION ALL
  SELECT
    DATE_TRUNC(seat.day, MONTH), NULLIF(holder.team, ''), 'No team', seat.provider, 'seats', 0, 0, 0,
    CAST(seat.fee_usd AS BIGNUMERIC), BIGNUMERIC '0'
  FROM tally.seat_days AS seat
  LEFT JOIN tally.people AS holder ON seat.person = holder.person
)

SELECT
  lines.month,
  COALESCE(teams.cost_centre, lines.team, lines.otherwise) AS cost_centre,
  lines.provider,
  lines.entry,
  SUM(lines.requests) AS requests,
  SUM(lines.prompt_tokens) AS prompt_tokens,
  SUM(lines.output_tokens) AS output_tokens,
  SUM(lines.cost_usd) AS cost_usd,
  SUM(lines.list_cost_usd) AS list_cost_usd
FROM lines
LEFT JOIN tally.teams AS teams ON lines.team = teams.team
GROUP BY lines.month, COALESCE(teams.cost_centre, lines.team, lines.otherwise), lines.provider, lines.entry
