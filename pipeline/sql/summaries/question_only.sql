-- How far the wording alone goes.
FROM question_only ORDER BY source, split, language, train_rows, kind
