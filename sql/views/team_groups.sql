-- Grain: one row per team that is on the roster or ever sent a request; team '' is people of no team.
-- Under which name a team is shown. Teams of fewer than five people today are shown together as Small teams; where
-- these are together still fewer than five, the next smallest team joins them, so that nobody can be told by
-- subtraction. `people` is how many people the shown name stands for today, never the size of a small team.
WITH teams AS (
  SELECT team FROM tally.people
  UNION DISTINCT
  SELECT IFNULL(team, '') AS team FROM tally.team_rollup WHERE team IS NOT NULL OR key_kind = 'human'
  UNION DISTINCT
  SELECT IFNULL(team, '') AS team
  FROM tally.events
  WHERE occurred_at >= TIMESTAMP(CURRENT_DATE()) AND (team IS NOT NULL OR key_kind = 'human')
),

sizes AS (
  SELECT teams.team, COUNT(people.person) AS people
  FROM teams
  LEFT JOIN tally.people AS people
    ON teams.team = people.team
    AND people.joined_on <= CURRENT_DATE() AND (people.left_on IS NULL OR people.left_on > CURRENT_DATE())
  GROUP BY teams.team
),

-- people_before: everybody in the teams that are smaller. A team of five or more is folded when there are small teams
-- and those before it do not make up five.
ranked AS (
  SELECT
    team,
    people,
    IFNULL(SUM(people) OVER (ORDER BY people, team ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
      AS people_before,
    MIN(people) OVER () AS smallest
  FROM sizes
),

named AS (
  SELECT
    team,
    people,
    IF(people < 5 OR (smallest < 5 AND people_before < 5), 'Small teams', team) AS shown_as
  FROM ranked
)

SELECT
  team,
  shown_as,
  SUM(people) OVER (PARTITION BY shown_as) AS people
FROM named
