-- id: language_leakage
-- severity: finding
-- explain: for sources in several languages, images that one split asks about in one of them and another split in one of them
WITH asked AS (SELECT source, split, language, count(DISTINCT pixels) AS n_images FROM asked_pictures GROUP BY ALL),
leaked AS (
    SELECT source, split, language, other_split, other_language, count(DISTINCT pixels) AS n
    FROM leaked_pictures
    GROUP BY ALL
)
SELECT concat_ws(' ', late.source, late.split, late.language) AS key,
    printf('%d of %d %s %s images also occur in %s %s',
        coalesce(leaked.n, 0), late.n_images, late.language, late.split, other.language, other.split) AS detail,
    coalesce(leaked.n, 0) AS n
FROM asked AS late
JOIN split_order USING (split)
JOIN asked AS other ON other.source = late.source AND other.split = other_split
LEFT JOIN leaked
    ON leaked.source = late.source AND leaked.split = late.split AND leaked.language = late.language
    AND leaked.other_split = other.split AND leaked.other_language = other.language
WHERE late.source IN (SELECT source FROM asked GROUP BY source HAVING count(DISTINCT language) > 1)
    AND late.source IN (SELECT source FROM leaked)
ORDER BY key, other.split, other.language
