-- id: duplicate_questions
-- severity: finding
-- explain: questions of one split that repeat another one's image, wording and answer
SELECT concat_ws(' ', source, split) AS key,
    printf('%d questions repeat another one', sum(n_rows - 1)) AS detail, sum(n_rows - 1)::BIGINT AS n
FROM (
    SELECT source, split, count(DISTINCT question_id) AS n_rows
    FROM wordings
    GROUP BY source, split, image_ids, question, answer
)
WHERE n_rows > 1
GROUP BY source, split
ORDER BY key
