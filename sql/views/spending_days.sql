-- Grain: one row per day (UTC), scope (person or team) and name.
-- What a person's keys, and all keys of a team, cost each day: whether a day is odd is judged by it. Teams as they were at
-- the time. Never on a page: a person's rows are for messages to that person alone.
SELECT
  day,
  'person' AS scope,
  person AS name,
  SUM(requests) AS requests,
  SUM(cost_usd) AS cost_usd
FROM tally.person_costs
WHERE person IS NOT NULL
GROUP BY day, person
UNION ALL
SELECT
  day,
  'team' AS scope,
  team AS name,
  SUM(requests) AS requests,
  SUM(cost_usd) AS cost_usd
FROM tally.daily_cost
WHERE team IS NOT NULL
GROUP BY day, team
