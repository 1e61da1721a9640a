-- id: image_leakage
-- severity: finding
-- explain: images of one split that also occur in another, by their pixels or by the source's name; where a source has templated rows, also without them
WITH late AS (
    SELECT
        source, split, other_split, pixels, bool_or(is_in_own) AS is_in_own
    FROM asked_pictures JOIN split_order USING (split)
    GROUP BY ALL
),
leaked AS (
    SELECT
        source, split, other_split, pixels,
        bool_or(is_by_pixels) AS is_by_pixels, bool_or(is_by_own) AS is_by_own
    FROM leaked_pictures
    GROUP BY ALL
),
counted AS (
    SELECT
        source, split, other_split, count(*) AS n_images, count(leaked.pixels) AS n,
        count(*) FILTER (is_in_own) AS n_own_images, count(*) FILTER (is_by_own) AS n_own,
        count(*) FILTER (NOT is_by_pixels) AS n_by_name
    FROM late LEFT JOIN leaked USING (source, split, other_split, pixels)
    GROUP BY ALL
)
SELECT concat_ws(' ', source, split) AS key,
    printf('%d of %d %s images also occur in %s', n, n_images, split, other_split)
    || CASE WHEN n_by_name > 0 THEN printf(' (%d by name alone)', n_by_name) ELSE '' END
    || CASE WHEN source IN (SELECT source FROM asked_pictures WHERE is_in_template)
        THEN printf('; without templated rows %d of %d', n_own, n_own_images) ELSE '' END AS detail,
    n
FROM counted
WHERE n > 0
ORDER BY key, other_split
