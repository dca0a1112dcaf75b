-- Grain: one row per audit_id.
-- Who did what to what, before and after, when and from where. An entry that came into the table twice counts once.
SELECT
  audit_id,
  done_at,
  actor,
  action,
  subject,
  origin,
  before,
  after
FROM tally.audit
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY audit_id ORDER BY done_at) = 1
