-- id: confidence_chain
-- severity: error
-- explain: a region's confidence before round 1 is the one it entered with, before a later round the one after the last
WITH chained AS (
    SELECT
        slice, question_id, origin, variant, region_conf,
        generate_subscripts(step_mode, 1) - 1 AS step,
        unnest(step_mode) AS mode,
        unnest(step_round) AS round,
        unnest(step_region) AS region,
        unnest(step_conf_before) AS conf_before,
        unnest(list_concat([NULL::FLOAT], step_conf_after)) AS last_after
    FROM trajectories
),
expected AS (
    SELECT *, CASE WHEN round = 1 THEN region_conf[region + 1] ELSE last_after END AS known
    FROM chained
    WHERE mode <> 'scan'
)
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    printf('confidence before is %.8f, known as %s', conf_before, coalesce(printf('%.8f', known), 'nothing')) AS detail
FROM expected
WHERE conf_before IS DISTINCT FROM known
