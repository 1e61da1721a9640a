-- id: image_leakage
-- severity: finding
-- explain: images of one split that also occur in another, by their pixels (templated rows left out in the second number)
WITH shown AS (
    SELECT DISTINCT
        source, split, coalesce(pixel_sha256, image_id) AS image, phrase_type IS NOT DISTINCT FROM 'frame' AS is_frame
    FROM question_images
),
pairs AS (
    SELECT source, split, other, bool_or(is_frame) OVER (PARTITION BY source) AS has_frames, image, is_frame
    FROM shown, (VALUES ('test', 'train'), ('validation', 'train'), ('test', 'validation')) AS v(late, other)
    WHERE split = late
),
judged AS (
    SELECT
        source, split, other, image, NOT bool_and(is_frame) AS has_own,
        bool_or((source, other, image) IN (SELECT (source, split, image) FROM shown)) AS leaks,
        bool_or((source, other, image) IN (SELECT (source, split, image) FROM shown WHERE NOT is_frame)) AS leaks_own
    FROM pairs
    GROUP BY ALL
),
counted AS (
    SELECT
        source, split, other, count(*) AS n_images, count(*) FILTER (leaks) AS n,
        count(*) FILTER (has_own) AS n_own_images, count(*) FILTER (has_own AND leaks_own) AS n_own,
        (SELECT bool_or(is_frame) FROM shown WHERE shown.source = judged.source) AS has_frames
    FROM judged
    GROUP BY source, split, other
)
SELECT concat_ws(' ', source, split) AS key,
    printf('%d of %d %s images also occur in %s', n, n_images, split, other)
    || CASE WHEN has_frames THEN printf('; without templated rows %d of %d', n_own, n_own_images) ELSE '' END AS detail,
    n
FROM counted
WHERE n > 0
ORDER BY key, other
