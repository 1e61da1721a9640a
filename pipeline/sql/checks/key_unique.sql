-- id: key_unique
-- severity: error
-- explain: the key of a row is unique within its table and slice, and never null
WITH keys AS (
    SELECT 'images' AS of_table, slice, image_id AS row_key FROM images
    UNION ALL SELECT 'questions', slice, question_id FROM questions
    UNION ALL SELECT 'expert_calls', slice, call_id FROM expert_calls
    UNION ALL SELECT 'trajectories', slice, question_id || ' ' || origin || ' variant ' || variant FROM trajectories
    UNION ALL SELECT 'rejects', slice, stage || ' ' || source || ' ' || row_key FROM rejects
)
SELECT concat_ws(' ', slice, row_key) AS key, of_table || ' holds it ' || count(*) || ' times' AS detail
FROM keys
GROUP BY of_table, slice, row_key
HAVING count(*) > 1 OR row_key IS NULL
