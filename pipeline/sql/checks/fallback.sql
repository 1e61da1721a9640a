-- id: fallback
-- severity: error
-- needs: images
-- explain: where the expert knew no region on any image, the whole of each image is a region, and as many as may be are looked at, once each
WITH wholes AS (
    SELECT
        slice, question_id, origin, variant, image_id,
        image = region AND call_id IS NULL AND conf = 0 AND label = 'whole image' AS is_free,
        x0 = 0 AND y0 = 0 AS is_from_corner, x1, y1
    FROM known_regions
    SEMI JOIN (SELECT slice, question_id, origin, variant FROM trajectories WHERE origin_fallback = 'whole_image')
    USING (slice, question_id, origin, variant)
),
judged AS (
    SELECT
        slice, question_id, origin, variant,
        bool_and(coalesce(is_free AND is_from_corner AND x1 = width AND y1 = height, false)) AS are_whole
    FROM wholes JOIN image_sizes USING (image_id)
    GROUP BY ALL
)
SELECT trajectory_key(slice, question_id, origin, variant) AS key,
    printf('whole_image with %d images, %d regions and %d looks', len(image_ids), len(region_label), n_looks) AS detail
FROM trajectories LEFT JOIN judged USING (slice, question_id, origin, variant)
WHERE origin_fallback = 'whole_image'
    AND NOT coalesce(
        are_whole AND len(region_label) = len(image_ids) AND n_looks = least(len(image_ids), looks_max)
        AND list_max(step_round) = 1,
        false
    )
