-- id: text_leakage
-- severity: finding
-- explain: questions that another split asks in the same words with the same answer, of any image; where a source has templated rows, also without them
WITH texts AS (
    SELECT source, split, language, question, answer, bool_or(phrase_type IS DISTINCT FROM 'frame') AS is_own
    FROM wordings
    GROUP BY ALL
),
counted AS (
    SELECT
        late.source, late.split, late.language, other_split, count(*) AS n_questions, count(other.question) AS n,
        count(*) FILTER (late.phrase_type IS DISTINCT FROM 'frame') AS n_own_questions,
        count(*) FILTER (late.phrase_type IS DISTINCT FROM 'frame' AND other.is_own) AS n_own
    FROM wordings AS late
    JOIN split_order USING (split)
    LEFT JOIN texts AS other
        ON other.source = late.source AND other.split = other_split AND other.language = late.language
        AND other.question = late.question AND other.answer = late.answer
    GROUP BY ALL
)
SELECT concat_ws(' ', source, split, language) AS key,
    printf('%d of %d %s questions occur in %s with the same words and answer', n, n_questions, split, other_split)
    || CASE WHEN source IN (SELECT source FROM wordings WHERE phrase_type = 'frame')
        THEN printf('; without templated rows %d of %d', n_own, n_own_questions) ELSE '' END AS detail,
    n
FROM counted
WHERE n > 0
ORDER BY key, other_split
