-- id: question_only
-- severity: finding
-- explain: questions that the most common train answer to their wording, else to their kind, solves without an image: more than 60 % of closed, 30 % of others
SELECT concat_ws(' ', source, split, language, kind) AS key,
    printf('%.1f %% of %d %s questions need no image', 100 * accuracy, n_questions, kind) AS detail,
    round(accuracy * n_questions)::BIGINT AS n
FROM question_only
WHERE train_rows = 'all' AND kind <> 'all' AND n_questions >= 50
    AND accuracy > CASE kind WHEN 'closed' THEN 0.6 ELSE 0.3 END
ORDER BY key
