-- id: question_leakage
-- severity: finding
-- explain: questions whose picture, wording and answer all occur in another split; where a source has templated rows, also without them
WITH triples AS (
    SELECT
        source, split, question_id, question, answer, wordings.phrase_type IS DISTINCT FROM 'frame' AS is_own,
        list(coalesce(pixel_sha256, image_id) ORDER BY image_index) AS pictures
    FROM wordings JOIN question_images USING (slice, question_id, source, split)
    GROUP BY slice, source, split, question_id, question, answer, is_own
),
counted AS (
    SELECT
        late.source, late.split, other_split, count(DISTINCT late.question_id) AS n,
        count(DISTINCT late.question_id) FILTER (late.is_own AND other.is_own) AS n_own
    FROM triples AS late
    JOIN split_order USING (split)
    JOIN triples AS other USING (source, question, answer, pictures)
    WHERE other.split = other_split
    GROUP BY ALL
)
SELECT concat_ws(' ', source, split) AS key,
    printf('%d %s questions occur in %s with the same image, words and answer', n, split, other_split)
    || CASE WHEN source IN (SELECT source FROM wordings WHERE phrase_type = 'frame')
        THEN printf('; without templated rows %d', n_own) ELSE '' END AS detail,
    n
FROM counted
ORDER BY key, other_split
