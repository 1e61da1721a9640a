-- How far the wording alone goes.
FROM question_only ORDER BY source, split, answer_kind
