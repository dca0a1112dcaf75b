-- Grain: one row per month, provider and plan that at least five people held.
-- How many seats of a plan there were, what they cost, what their use would have cost at list prices, how many were idle
-- and how many were used for less than their fee. Fewer than five people are never told apart: a plan that fewer held is
-- not here, and a count is NULL where it, or the rest of the seats, is one to four.
WITH counted AS (
  SELECT
    month,
    provider,
    plan,
    COUNT(*) AS seats,
    SUM(fee_usd) AS fee_usd,
    SUM(list_cost_usd) AS list_cost_usd,
    COUNTIF(idle) AS idle_seats,
    COUNTIF(saved_usd < 0) AS below_fee_seats
  FROM tally.seat_months
  GROUP BY month, provider, plan
)

SELECT
  month,
  provider,
  plan,
  seats,
  fee_usd,
  list_cost_usd,
  IF(idle_seats BETWEEN 1 AND 4 OR seats - idle_seats BETWEEN 1 AND 4, NULL, idle_seats) AS idle_seats,
  IF(below_fee_seats BETWEEN 1 AND 4 OR seats - below_fee_seats BETWEEN 1 AND 4, NULL, below_fee_seats)
    AS below_fee_seats
FROM counted
WHERE seats >= 5
