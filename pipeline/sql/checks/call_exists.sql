-- id: call_exists
-- severity: error
-- needs: expert_calls
-- explain: every expert call that a step or a region names is stored in the same slice, and was answered
WITH named AS (
    SELECT slice, step_key(slice, question_id, origin, variant, step) AS key, call_id
    FROM (
        SELECT
            slice, question_id, origin, variant,
            generate_subscripts(step_call_id, 1) - 1 AS step, unnest(step_call_id) AS call_id
        FROM trajectories
    )
    UNION ALL
    SELECT slice, trajectory_key(slice, question_id, origin, variant) || ' region ' || region, call_id
    FROM known_regions
)
SELECT
    key,
    CASE WHEN stored.call_id IS NULL THEN 'call ' || named.call_id || ' is not stored'
         ELSE 'call ' || named.call_id || ' failed: ' || stored.error_class END AS detail
FROM named
LEFT JOIN (SELECT slice, call_id, error_class FROM expert_calls) AS stored USING (slice, call_id)
WHERE named.call_id IS NOT NULL AND (stored.call_id IS NULL OR stored.error_class IS NOT NULL)
