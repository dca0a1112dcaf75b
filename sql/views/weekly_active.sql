-- Grain: one row per ISO week, from the week of the first complete day with events to this week.
-- How many people used the tools: at least one answered request with output, from a person's key, on a day that is over
-- (today is not read). Counts under five are null. roster_people were on the roster on at least one day of the week. A
-- week is complete when its Sunday is over (UTC).
WITH active AS (
  SELECT DATE_TRUNC(day, WEEK(MONDAY)) AS week, COUNT(DISTINCT person) AS people
  FROM tally.person_days
  WHERE day < CURRENT_DATE()
  GROUP BY week
),

first_event AS (
  SELECT DATE_TRUNC(MIN(day), WEEK(MONDAY)) AS first_week FROM tally.team_rollup WHERE day < CURRENT_DATE()
),

weeks AS (
  SELECT week
  FROM first_event
  CROSS JOIN UNNEST(GENERATE_DATE_ARRAY(first_event.first_week, CURRENT_DATE(), INTERVAL 1 WEEK)) AS week
),

roster AS (
  SELECT weeks.week, COUNT(people.person) AS people
  FROM weeks
  CROSS JOIN tally.people AS people
  WHERE people.joined_on <= LEAST(DATE_ADD(weeks.week, INTERVAL 6 DAY), CURRENT_DATE())
    AND (people.left_on IS NULL OR people.left_on > weeks.week)
  GROUP BY weeks.week
)

SELECT
  weeks.week,
  IF(active.people >= 5, active.people, NULL) AS active_people,
  IF(roster.people >= 5, roster.people, NULL) AS roster_people,
  DATE_ADD(weeks.week, INTERVAL 6 DAY) < CURRENT_DATE() AS complete
FROM weeks
LEFT JOIN active ON weeks.week = active.week
LEFT JOIN roster ON weeks.week = roster.week
