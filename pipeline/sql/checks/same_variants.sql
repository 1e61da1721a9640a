-- id: same_variants
-- severity: error
-- explain: no two CVS variants of a question go the same way (same regions and modes, step by step)
SELECT slice || ' ' || question_id AS key,
    'variants ' || list(variant ORDER BY variant)::VARCHAR || ' go the same way' AS detail
FROM trajectories
WHERE origin = 'cvs'
GROUP BY slice, question_id, step_region, step_mode
HAVING count(*) > 1
