-- id: class_balance
-- severity: finding
-- explain: one answer is given to more than 60 % of the closed questions of a split (50 or more)
SELECT concat_ws(' ', source, split) AS key,
    printf('%.1f %% of %d closed questions are answered %s', 100 * share, n_questions, answer) AS detail,
    round(share * n_questions)::BIGINT AS n
FROM answer_balance
WHERE answer_kind = 'closed' AND n_questions >= 50 AND share > 0.6
ORDER BY key
