-- Grain: one row per month, cost_centre, provider and entry.
-- chargeback as pages may show it: a cost centre of policy/teams.csv keeps its name; a team that is none is shown as
-- group_daily_cost shows it, small teams under one name, and so are the people of no team.
WITH named AS (
  SELECT
    bill.*,
    CASE
      WHEN centres.cost_centre IS NOT NULL OR bill.cost_centre = 'Services' THEN bill.cost_centre
      WHEN team_groups.shown_as = '' THEN 'No team'
      ELSE IFNULL(team_groups.shown_as, 'Small teams')
    END AS shown_as
  FROM tally.chargeback AS bill
  LEFT JOIN (SELECT DISTINCT cost_centre FROM tally.teams) AS centres ON bill.cost_centre = centres.cost_centre
  LEFT JOIN tally.team_groups AS team_groups
    ON IF(bill.cost_centre = 'No team', '', bill.cost_centre) = team_groups.team
)

SELECT
  month,
  shown_as AS cost_centre,
  provider,
  entry,
  SUM(requests) AS requests,
  SUM(prompt_tokens) AS prompt_tokens,
  SUM(output_tokens) AS output_tokens,
  SUM(cost_usd) AS cost_usd,
  SUM(list_cost_usd) AS list_cost_usd
FROM named
GROUP BY month, shown_as, provider, entry
