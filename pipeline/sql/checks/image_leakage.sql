-- id: image_leakage
-- severity: finding
-- explain: images of one split that also occur in another, by their pixels; where a source has templated rows, also without them
WITH shown AS (
    SELECT
        source, split, coalesce(pixel_sha256, image_id) AS image,
        bool_or(phrase_type IS NOT DISTINCT FROM 'frame') AS has_frame,
        bool_or(phrase_type IS DISTINCT FROM 'frame') AS has_own
    FROM question_images
    GROUP BY ALL
),
pairs(split, other_split) AS (VALUES ('test', 'train'), ('validation', 'train'), ('test', 'validation')),
counted AS (
    SELECT
        late.source, late.split, pairs.other_split, count(*) AS n_images, count(other.image) AS n,
        count(*) FILTER (late.has_own) AS n_own_images, count(*) FILTER (late.has_own AND other.has_own) AS n_own
    FROM shown AS late
    JOIN pairs USING (split)
    LEFT JOIN shown AS other
        ON other.source = late.source AND other.split = pairs.other_split AND other.image = late.image
    GROUP BY ALL
)
SELECT concat_ws(' ', source, split) AS key,
    printf('%d of %d %s images also occur in %s', n, n_images, split, other_split)
    || CASE WHEN source IN (SELECT source FROM shown WHERE has_frame)
        THEN printf('; without templated rows %d of %d', n_own, n_own_images) ELSE '' END AS detail,
    n
FROM counted
WHERE n > 0
ORDER BY key, other_split
