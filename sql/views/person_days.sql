-- Grain: one row per day (UTC) and person.
-- On which days a person was active: at least one answered request with output, from a person's key. Days before today
-- from the rollup, today from the events. Only ever counted, or read for one person by that person.
SELECT day, person, SUM(answered) AS answered
FROM tally.person_usage
WHERE answered > 0 AND key_kind = 'human' AND person IS NOT NULL
GROUP BY day, person
