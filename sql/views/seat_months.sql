-- Grain: one row per month, person, provider and plan.
-- What a person's seat cost in a month and what its use would have cost at list prices (list_cost_usd), on the days that
-- it was held; the month that runs, up to today. saved_usd is the list cost less the fee: above nothing, the seat has
-- paid for itself. idle: not one request. Only ever read with person = @person, the viewer, or summed over five people.
WITH used AS (
  SELECT day, person, provider, SUM(requests) AS requests, SUM(list_cost_usd) AS list_cost_usd
  FROM tally.person_daily
  WHERE billing_mode = 'subscription'
  GROUP BY day, person, provider
),

-- Who holds two plans of one provider on a day uses the dearer one: nothing is counted twice.
ranked AS (
  SELECT
    day,
    person,
    provider,
    plan,
    fee_usd,
    ROW_NUMBER() OVER (PARTITION BY day, person, provider ORDER BY fee_usd DESC, plan) AS place
  FROM tally.seat_days
),

days AS (
  SELECT
    DATE_TRUNC(ranked.day, MONTH) AS month,
    ranked.person,
    ranked.provider,
    ranked.plan,
    ranked.fee_usd,
    IFNULL(used.requests, 0) AS requests,
    IFNULL(used.list_cost_usd, BIGNUMERIC '0') AS list_cost_usd
  FROM ranked
  LEFT JOIN used
    ON ranked.day = used.day AND ranked.person = used.person AND ranked.provider = used.provider AND ranked.place = 1
)

SELECT
  month,
  person,
  provider,
  plan,
  SUM(fee_usd) AS fee_usd,
  COUNT(*) AS days,
  COUNTIF(requests > 0) AS active_days,
  SUM(list_cost_usd) AS list_cost_usd,
  COUNTIF(requests > 0) = 0 AS idle,
  CAST(SUM(list_cost_usd) - SUM(fee_usd) AS BIGNUMERIC) AS saved_usd
FROM days
GROUP BY month, person, provider, plan
