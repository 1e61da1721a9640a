-- id: confidence_range
-- severity: error
-- explain: confidences and probabilities are numbers in [0, 1]
WITH numbers AS (
    SELECT
        step_key(slice, question_id, origin, variant, step) AS key,
        list_concat([conf_before, conf_after, prob], candidate_conf::DOUBLE[]) AS found
    FROM steps_conf
    UNION ALL
    SELECT trajectory_key(slice, question_id, origin, variant), region_conf::DOUBLE[] FROM trajectories
    UNION ALL
    SELECT slice || ' ' || call_id, candidate_conf::DOUBLE[] FROM expert_calls
)
SELECT key, 'holds ' || list_filter(found, lambda x: NOT x BETWEEN 0 AND 1)::VARCHAR AS detail
FROM numbers
WHERE len(list_filter(found, lambda x: NOT x BETWEEN 0 AND 1)) > 0
