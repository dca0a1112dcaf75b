-- Grain: one row per day (UTC) of the last 28, reason and tool.
-- Calls that cannot be put down to anybody: no person behind a key that is not a service's (reason no person), or no team
-- to pay for it (reason no team; a service's key too). A call that lacks both counts under no person.
WITH used AS (
  SELECT day, person, team, key_kind, tool, calls
  FROM tally.person_rollup
  WHERE day < CURRENT_DATE() AND day > DATE_SUB(CURRENT_DATE(), INTERVAL 28 DAY)
  UNION ALL
  SELECT day, person, team, key_kind, tool, calls
  FROM tally.live_usage
  WHERE day >= CURRENT_DATE()
)

SELECT
  day,
  IF(person IS NULL AND key_kind <> 'service', 'no person', 'no team') AS reason,
  tool,
  SUM(calls) AS calls
FROM used
WHERE (person IS NULL AND key_kind <> 'service') OR team IS NULL
GROUP BY day, IF(person IS NULL AND key_kind <> 'service', 'no person', 'no team'), tool
