-- id: list_lengths
-- severity: error
-- explain: parallel lists of a row are equally long
WITH counted AS (
    SELECT
        slice || ' ' || question_id AS key, 'region' AS lists,
        [len(region_x0), len(region_y0), len(region_x1), len(region_y1),
         len(region_label), len(region_provenance), len(region_image)] AS lengths
    FROM questions
    UNION ALL
    SELECT
        slice || ' ' || call_id, 'candidate',
        [len(candidate_x0), len(candidate_y0), len(candidate_x1), len(candidate_y1),
         len(candidate_label), len(candidate_conf)]
    FROM expert_calls
    UNION ALL
    SELECT
        trajectory_key(slice, question_id, origin, variant), 'region',
        [len(region_x0), len(region_y0), len(region_x1), len(region_y1),
         len(region_label), len(region_conf), len(region_call_id), len(region_image)]
    FROM trajectories
    UNION ALL
    SELECT
        trajectory_key(slice, question_id, origin, variant), 'step',
        [len(step_mode), len(step_round), len(step_region), len(step_x0), len(step_y0), len(step_x1), len(step_y1),
         len(step_look_x0), len(step_look_y0), len(step_look_x1), len(step_look_y1),
         len(step_conf_before), len(step_conf_after), len(step_delta_c), len(step_candidates),
         len(step_candidate_conf), len(step_nucleus), len(step_prob), len(step_rank), len(step_call_id),
         len(step_text), len(step_image)]
    FROM trajectories
    UNION ALL
    SELECT
        step_key(slice, question_id, origin, variant, step), 'candidate',
        [len(candidates), len(candidate_conf)]
    FROM steps_conf
)
SELECT key, lists || ' lists have lengths ' || list_sort(list_distinct(lengths))::VARCHAR AS detail
FROM counted
WHERE len(list_distinct(lengths)) > 1
