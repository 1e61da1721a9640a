-- The most common answer of each kind of question.
FROM answer_balance ORDER BY source, split, answer_kind
