-- id: answers
-- severity: error
-- needs: questions
-- explain: a gold answer is the question's and stands on train only; an answer has a source, and no answer has none
SELECT trajectory_key(slice, question_id, origin, variant) AS key,
    CASE
        WHEN (answer IS NULL) <> (answer_source IS NULL) THEN 'answer and answer_source must be null together'
        WHEN split <> 'train' THEN 'gold answer on ' || split
        ELSE printf('answer %s, gold is %s', answer, gold)
    END AS detail
FROM trajectories
LEFT JOIN (SELECT question_id, source, split, min(answer) AS gold FROM questions GROUP BY ALL)
USING (question_id, source, split)
WHERE (answer IS NULL) <> (answer_source IS NULL)
    OR (answer_source = 'gold' AND (split <> 'train' OR answer <> gold))
