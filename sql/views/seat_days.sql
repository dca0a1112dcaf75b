-- Grain: one row per day (UTC), person, provider and plan.
-- What a seat costs on each day that it was held, up to today: the fee of a calendar month spread over its days, so that
-- the days of a whole month add up to the fee, to the billionth of a dollar. Never read by pages.
WITH held AS (
  SELECT
    seat.person,
    seat.provider,
    seat.plan,
    CAST(seat.usd_per_month * NUMERIC '1000000000' AS INT64) AS nano_usd,
    day
  FROM tally.seats AS seat
  CROSS JOIN UNNEST(
    GENERATE_DATE_ARRAY(
      seat.valid_from,
      LEAST(CURRENT_DATE(), DATE_SUB(IFNULL(seat.valid_to, DATE '9999-12-31'), INTERVAL 1 DAY))
    )
  ) AS day
),

-- What of the fee has fallen due by the end of the day, less what had by the end of the day before.
due AS (
  SELECT
    day,
    person,
    provider,
    plan,
    DIV(nano_usd * EXTRACT(DAY FROM day), EXTRACT(DAY FROM LAST_DAY(day, MONTH)))
    - DIV(nano_usd * (EXTRACT(DAY FROM day) - 1), EXTRACT(DAY FROM LAST_DAY(day, MONTH))) AS nano_usd
  FROM held
)

SELECT
  day,
  person,
  provider,
  plan,
  CAST(SUM(CAST(nano_usd * NUMERIC '0.000000001' AS NUMERIC)) AS NUMERIC) AS fee_usd
FROM due
GROUP BY day, person, provider, plan
