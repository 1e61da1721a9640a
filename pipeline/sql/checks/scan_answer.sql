-- id: scan_answer
-- severity: error
-- needs: expert_calls
-- explain: a scan step names a scan of its image and expert, and the regions that call named are its candidates, to the last bit
WITH named AS (
    SELECT
        slice, question_id, image_id, origin, variant, expert,
        generate_subscripts(region_label, 1) - 1 AS region, unnest(region_call_id) AS call_id,
        unnest(region_x0) AS x0, unnest(region_y0) AS y0, unnest(region_x1) AS x1, unnest(region_y1) AS y1,
        unnest(region_label) AS label, unnest(region_conf) AS conf
    FROM trajectories
),
told AS (
    SELECT
        slice, call_id, image_id, expert,
        unnest(candidate_x0) AS x0, unnest(candidate_y0) AS y0,
        unnest(candidate_x1) AS x1, unnest(candidate_y1) AS y1,
        unnest(candidate_label) AS label, unnest(candidate_conf) AS conf
    FROM expert_calls
    WHERE mode = 'scan'
)
SELECT trajectory_key(slice, question_id, origin, variant) || ' region ' || region AS key,
    printf('box %.2f %.2f %.2f %.2f, confidence %.8f, is no candidate of its scan', x0, y0, x1, y1, conf) AS detail
FROM named ANTI JOIN told USING (slice, call_id, image_id, expert, x0, y0, x1, y1, label, conf)
WHERE call_id IS NOT NULL
UNION ALL
SELECT step_key(slice, question_id, origin, variant, step), 'names a call that is no scan of this image and expert'
FROM (
    SELECT
        slice, question_id, image_id, origin, variant, expert, generate_subscripts(step_mode, 1) - 1 AS step,
        unnest(step_mode) AS mode, unnest(step_call_id) AS call_id
    FROM trajectories
)
ANTI JOIN (SELECT slice, call_id, image_id, expert FROM expert_calls WHERE mode = 'scan')
USING (slice, call_id, image_id, expert)
WHERE mode = 'scan'
