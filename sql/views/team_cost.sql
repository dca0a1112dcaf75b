-- Grain: one row per month and team; no team is NULL.
-- What a team costs: what its requests cost (metered_usd, as monthly_cost reports it) and what the seats of its people
-- cost (seats_usd, by the team that a person is in today). cost_usd is both. list_cost_usd is what all of its use, seats'
-- too, would have cost at list prices.
WITH parts AS (
  SELECT month, NULLIF(team, '') AS team, cost_usd AS metered_usd, NUMERIC '0' AS seats_usd, list_cost_usd
  FROM tally.monthly_cost
  UNION ALL
  SELECT DATE_TRUNC(seat.day, MONTH), NULLIF(holder.team, ''), BIGNUMERIC '0', seat.fee_usd, BIGNUMERIC '0'
  FROM tally.seat_days AS seat
  LEFT JOIN tally.people AS holder ON seat.person = holder.person
)

SELECT
  month,
  team,
  SUM(metered_usd) AS metered_usd,
  SUM(seats_usd) AS seats_usd,
  CAST(SUM(metered_usd) + SUM(seats_usd) AS BIGNUMERIC) AS cost_usd,
  SUM(list_cost_usd) AS list_cost_usd
FROM parts
GROUP BY month, team
