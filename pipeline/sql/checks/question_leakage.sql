-- id: question_leakage
-- severity: finding
-- explain: questions whose picture, wording and answer all occur in another split
WITH triples AS (
    SELECT DISTINCT
        source, split, question_id, question, answer,
        list(coalesce(pixel_sha256, image_id) ORDER BY image_index) AS pictures
    FROM wordings JOIN question_images USING (slice, question_id, source, split)
    GROUP BY slice, source, split, question_id, question, answer
)
SELECT concat_ws(' ', late.source, late.split) AS key,
    printf('%d %s questions occur in %s with the same image, words and answer',
        count(DISTINCT late.question_id), late.split, other.split) AS detail,
    count(DISTINCT late.question_id) AS n
FROM triples AS late JOIN triples AS other USING (source, question, answer, pictures)
WHERE (late.split, other.split) IN (('test', 'train'), ('validation', 'train'), ('test', 'validation'))
GROUP BY late.source, late.split, other.split
ORDER BY ALL
