-- id: list_nulls
-- severity: error
-- explain: no entry is null in a list whose entries all mean something
WITH named AS (
    SELECT
        slice || ' ' || question_id AS key,
        [
            named_if_nulls('image_ids', image_ids), named_if_nulls('options', options),
            named_if_nulls('region_x0', region_x0), named_if_nulls('region_y0', region_y0),
            named_if_nulls('region_x1', region_x1), named_if_nulls('region_y1', region_y1),
            named_if_nulls('region_label', region_label), named_if_nulls('region_provenance', region_provenance),
            named_if_nulls('region_image', region_image)
        ] AS lists
    FROM questions
    UNION ALL
    SELECT
        slice || ' ' || call_id,
        [
            named_if_nulls('candidate_x0', candidate_x0), named_if_nulls('candidate_y0', candidate_y0),
            named_if_nulls('candidate_x1', candidate_x1), named_if_nulls('candidate_y1', candidate_y1),
            named_if_nulls('candidate_label', candidate_label), named_if_nulls('candidate_conf', candidate_conf)
        ]
    FROM expert_calls
    UNION ALL
    SELECT
        trajectory_key(slice, question_id, origin, variant),
        [
            named_if_nulls('region_x0', region_x0), named_if_nulls('region_y0', region_y0),
            named_if_nulls('region_x1', region_x1), named_if_nulls('region_y1', region_y1),
            named_if_nulls('image_ids', image_ids), named_if_nulls('region_image', region_image),
            named_if_nulls('region_label', region_label), named_if_nulls('region_conf', region_conf),
            named_if_nulls('step_image', step_image),
            named_if_nulls('step_mode', step_mode), named_if_nulls('step_round', step_round),
            named_if_nulls('step_text', step_text), named_if_nulls('step_candidates', flatten(step_candidates)),
            named_if_nulls('step_candidate_conf', flatten(step_candidate_conf)),
            named_if_nulls('step_nucleus', flatten(step_nucleus))
        ]
    FROM trajectories
)
SELECT key, 'null entries in ' || array_to_string(list_filter(lists, lambda name: name IS NOT NULL), ', ') AS detail
FROM named
WHERE list_count(lists) > 0
