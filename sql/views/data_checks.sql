-- Grain: one row per check (name), in the order of place.
-- What can go wrong with the numbers, each as a rule with its figure. status is fail or warn where value is above
-- fail_above or warn_above, ok where it is not, and none where there is nothing to look at. unit: seconds, share, calls,
-- channels or messages. Shares and counts are of the last 28 days (UTC) with today, unless the rule says otherwise.
WITH lately AS (
  SELECT
    MAX(last_at) AS newest_at,
    SUM(calls) AS calls,
    SUM(copies) AS copies,
    SUM(late_events) AS late_events,
    SUM(IF(usage_source = 'counted', calls, 0)) AS counted,
    SUM(IF(usage_source <> 'none', calls, 0)) AS used,
    SUM(IF(price_source IN ('fallback', 'approximate'), calls, 0)) AS unpriced,
    SUM(IF(price_source = 'missing', calls, 0)) AS missing,
    SUM(IF(price_source = 'book' AND list_cost_usd = 0, calls, 0)) AS free,
    SUM(CAST(IF(billing_mode = 'metered' AND usage_source = 'provider', list_cost_usd, BIGNUMERIC '0') AS FLOAT64))
      AS compared_usd,
    SUM(CAST(IF(billing_mode = 'metered' AND usage_source = 'provider', gateway_cost_usd, NUMERIC '0') AS FLOAT64))
      AS gateway_usd
  FROM tally.team_daily
  WHERE day > DATE_SUB(CURRENT_DATE(), INTERVAL 28 DAY)
),

lag AS (
  SELECT MAX(lag_p95_s) AS p95_s
  FROM tally.data_lag
  WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 1 DAY)
),

nobodys AS (
  SELECT SUM(calls) AS calls FROM tally.data_unattributed
),

unread AS (
  SELECT SUM(messages) AS messages FROM tally.data_shelved WHERE day = CURRENT_DATE()
),

stored AS (
  SELECT COUNT(*) AS copies
  FROM tally.events
  WHERE occurred_at >= TIMESTAMP(DATE_SUB(CURRENT_DATE(), INTERVAL 1 DAY)) AND occurred_at < TIMESTAMP(CURRENT_DATE())
),

billed AS (
  SELECT SUM(CAST(theirs_usd AS FLOAT64)) AS theirs_usd, SUM(CAST(gap_usd AS FLOAT64)) AS gap_usd
  FROM tally.reconciliation
  WHERE day > DATE_SUB(CURRENT_DATE(), INTERVAL 28 DAY)
),

rolled AS (
  SELECT IFNULL(SUM(copies), 0) AS copies
  FROM tally.person_rollup
  WHERE day = DATE_SUB(CURRENT_DATE(), INTERVAL 1 DAY)
),

told AS (
  SELECT COUNT(*) AS channels, COUNTIF(failing) AS failing FROM tally.data_deliveries
),

measured AS (
  SELECT
    CAST(TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), lately.newest_at, SECOND) AS FLOAT64) AS age_s,
    lag.p95_s AS lag_s,
    SAFE_DIVIDE(CAST(lately.counted AS FLOAT64), CAST(lately.used AS FLOAT64)) AS counted_share,
    CAST(lately.unpriced AS FLOAT64) AS unpriced_calls,
    CAST(lately.missing AS FLOAT64) AS missing_calls,
    CAST(lately.free AS FLOAT64) AS free_calls,
    SAFE_DIVIDE(CAST(IFNULL(nobodys.calls, 0) AS FLOAT64), CAST(lately.calls AS FLOAT64)) AS unattributed_share,
    SAFE_DIVIDE(CAST(lately.late_events AS FLOAT64), CAST(lately.calls AS FLOAT64)) AS late_share,
    SAFE_DIVIDE(CAST(lately.copies - lately.calls AS FLOAT64), CAST(lately.copies AS FLOAT64)) AS duplicate_share,
    CAST(IFNULL(unread.messages, 0) AS FLOAT64) AS shelved_messages,
    SAFE_DIVIDE(ABS(CAST(stored.copies - rolled.copies AS FLOAT64)), CAST(stored.copies AS FLOAT64)) AS behind_share,
    SAFE_DIVIDE(ABS(lately.compared_usd - lately.gateway_usd), lately.gateway_usd) AS gateway_share,
    SAFE_DIVIDE(ABS(billed.gap_usd), billed.theirs_usd) AS bill_share,
    CAST(IF(told.channels > 0, told.failing, NULL) AS FLOAT64) AS failing_channels
  FROM lately
  CROSS JOIN lag
  CROSS JOIN nobodys
  CROSS JOIN unread
  CROSS JOIN stored
  CROSS JOIN rolled
  CROSS JOIN billed
  CROSS JOIN told
),

judged AS (
  SELECT
    name,
    CASE name
      WHEN 'Fresh' THEN 1
      WHEN 'Stored soon' THEN 2
      WHEN 'On time' THEN 3
      WHEN 'Read, not shelved' THEN 4
      WHEN 'Delivered once' THEN 5
      WHEN 'Usage from the provider' THEN 6
      WHEN 'In the price book' THEN 7
      WHEN 'Priced at all' THEN 8
      WHEN 'Nothing is free' THEN 9
      WHEN 'Somebody pays' THEN 10
      WHEN 'Rollup equals events' THEN 11
      WHEN 'As the gateway says' THEN 12
      WHEN 'As the bill says' THEN 13
      ELSE 14
    END AS place,
    CASE name
      WHEN 'Fresh' THEN 'The newest request is less than an hour old; a day is a fault.'
      WHEN 'Stored soon' THEN 'Of 100 requests of today and yesterday, 95 are stored within two minutes.'
      WHEN 'On time' THEN 'At most 1 % of the calls are stored more than an hour after they took place.'
      WHEN 'Read, not shelved' THEN 'No message of today was unreadable.'
      WHEN 'Delivered once' THEN 'At most 5 % of the stored events are second copies; they are never counted.'
      WHEN 'Usage from the provider' THEN 'At most 5 % of the calls with tokens came without usage and were counted by Tally.'
      WHEN 'In the price book' THEN 'Every model is in the price book, with the tier it was used in.'
      WHEN 'Priced at all' THEN 'No call with tokens is without any price.'
      WHEN 'Nothing is free' THEN 'No call with tokens costs nothing at list prices.'
      WHEN 'Somebody pays' THEN 'At most 1 % of the calls lack a person or a team.'
      WHEN 'Rollup equals events' THEN 'The rollup of yesterday was made from all its events; 1 in 1,000 may be on the way.'
      WHEN 'As the gateway says'
        THEN 'Over all models, our cost at list prices and the figure of LiteLLM are at most 5 % apart.'
      WHEN 'As the bill says'
        THEN 'Over the days that providers have billed, our cost and theirs are at most 1 % apart; 5 % is a fault.'
      ELSE 'Every channel has taken a message since it last failed: nobody waits for an alert.'
    END AS rule,
    CASE name
      WHEN 'Fresh' THEN age_s
      WHEN 'Stored soon' THEN lag_s
      WHEN 'On time' THEN late_share
      WHEN 'Read, not shelved' THEN shelved_messages
      WHEN 'Delivered once' THEN duplicate_share
      WHEN 'Usage from the provider' THEN counted_share
      WHEN 'In the price book' THEN unpriced_calls
      WHEN 'Priced at all' THEN missing_calls
      WHEN 'Nothing is free' THEN free_calls
      WHEN 'Somebody pays' THEN unattributed_share
      WHEN 'Rollup equals events' THEN behind_share
      WHEN 'As the gateway says' THEN gateway_share
      WHEN 'As the bill says' THEN bill_share
      ELSE failing_channels
    END AS value,
    CASE
      WHEN name IN ('Fresh', 'Stored soon') THEN 'seconds'
      WHEN name = 'Read, not shelved' THEN 'messages'
      WHEN name = 'Alerts arrive' THEN 'channels'
      WHEN name IN ('In the price book', 'Priced at all', 'Nothing is free') THEN 'calls'
      ELSE 'share'
    END AS unit,
    CAST(CASE name
      WHEN 'Fresh' THEN 3600.0
      WHEN 'Stored soon' THEN 120.0
      WHEN 'On time' THEN 0.01
      WHEN 'Delivered once' THEN 0.05
      WHEN 'Usage from the provider' THEN 0.05
      WHEN 'Somebody pays' THEN 0.01
      WHEN 'Rollup equals events' THEN 0.001
      WHEN 'As the gateway says' THEN 0.05
      WHEN 'As the bill says' THEN 0.01
      ELSE 0.0
    END AS FLOAT64) AS warn_above,
    CAST(CASE name
      WHEN 'Fresh' THEN 86400.0
      WHEN 'Stored soon' THEN 3600.0
      WHEN 'On time' THEN 0.05
      WHEN 'Read, not shelved' THEN 100.0
      WHEN 'Usage from the provider' THEN 0.2
      WHEN 'Priced at all' THEN 0.0
      WHEN 'Somebody pays' THEN 0.05
      WHEN 'Rollup equals events' THEN 0.01
      WHEN 'As the bill says' THEN 0.05
      WHEN 'Alerts arrive' THEN 0.0
    END AS FLOAT64) AS fail_above
  FROM measured
  CROSS JOIN UNNEST([
    'Fresh', 'Stored soon', 'On time', 'Read, not shelved', 'Delivered once', 'Usage from the provider',
    'In the price book', 'Priced at all', 'Nothing is free', 'Somebody pays', 'Rollup equals events',
    'As the gateway says', 'As the bill says', 'Alerts arrive'
  ]) AS name
)

SELECT
  place,
  name,
  rule,
  value,
  unit,
  warn_above,
  fail_above,
  CASE
    WHEN value IS NULL THEN 'none'
    WHEN value > fail_above THEN 'fail'
    WHEN value > warn_above THEN 'warn'
    ELSE 'ok'
  END AS status,
  CURRENT_TIMESTAMP() AS looked_at
FROM judged
