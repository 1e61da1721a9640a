-- id: scan_answer
-- severity: error
-- needs: expert_calls
-- explain: a scan step names a scan of its question, image and expert, and tells its words, but for one that is asked of nobody; the regions that call named are its candidates, to the last bit
WITH named AS (
    SELECT
        slice, question_id, unnest([image_ids[i + 1] FOR i IN region_image]) AS image_id, origin, variant, expert,
        generate_subscripts(region_label, 1) - 1 AS region, unnest(region_call_id) AS call_id,
        unnest(region_x0) AS x0, unnest(region_y0) AS y0, unnest(region_x1) AS x1, unnest(region_y1) AS y1,
        unnest(region_label) AS label, unnest(region_conf) AS conf
    FROM trajectories
),
told AS (
    SELECT
        slice, question_id, call_id, image_id, expert,
        unnest(candidate_x0) AS x0, unnest(candidate_y0) AS y0,
        unnest(candidate_x1) AS x1, unnest(candidate_y1) AS y1,
        unnest(candidate_label) AS label, unnest(candidate_conf) AS conf
    FROM expert_calls
    WHERE mode = 'scan'
),
-- asked of nobody: the one scan between two looks, of a call that was made before
steps_of AS (
    SELECT
        *,
        coalesce(last_mode <> 'scan' AND next_mode <> 'scan' AND list_contains(calls[1:step], call_id), false)
            AS is_free
    FROM (
        SELECT
            slice, question_id, unnest([image_ids[i + 1] FOR i IN step_image]) AS image_id, origin, variant, expert,
            step_call_id AS calls, generate_subscripts(step_mode, 1) - 1 AS step,
            unnest(step_mode) AS mode, unnest(step_call_id) AS call_id, unnest(step_text) AS text,
            unnest(list_concat([NULL::VARCHAR], step_mode)) AS last_mode, unnest(step_mode[2:]) AS next_mode
        FROM trajectories
    )
)
SELECT trajectory_key(slice, question_id, origin, variant) || ' region ' || region AS key,
    printf('box %.2f %.2f %.2f %.2f, confidence %.8f, is no candidate of its scan', x0, y0, x1, y1, conf) AS detail
FROM named ANTI JOIN told USING (slice, question_id, call_id, image_id, expert, x0, y0, x1, y1, label, conf)
WHERE call_id IS NOT NULL
UNION ALL
SELECT step_key(slice, question_id, origin, variant, step),
    CASE WHEN told_text IS NULL THEN 'names a call that is no scan of this question, image and expert'
         ELSE 'the words are not those of the call' END
FROM steps_of LEFT JOIN (
    SELECT slice, question_id, call_id, image_id, expert, text AS told_text FROM expert_calls WHERE mode = 'scan'
) USING (slice, question_id, call_id, image_id, expert)
WHERE mode = 'scan' AND text IS DISTINCT FROM CASE WHEN is_free AND told_text IS NOT NULL THEN '' ELSE told_text END
