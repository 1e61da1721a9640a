-- id: step_image
-- severity: error
-- explain: a look is at the image of its region, and so is the re-scan before it; where nothing is left, the images are scanned again one after another, up to one that brings a region
WITH placed AS (
    SELECT
        slice, question_id, origin, variant, len(image_ids) AS n_images, region_image,
        generate_subscripts(step_mode, 1) - 1 AS step,
        unnest(step_mode) AS mode,
        unnest(step_region) AS region,
        unnest(step_image) AS image,
        unnest(list_concat([NULL::VARCHAR], step_mode)) AS last_mode,
        unnest(list_concat([NULL::INTEGER], step_image)) AS last_image,
        unnest(step_mode[2:]) AS next_mode,
        unnest(step_image[2:]) AS next_image
    FROM trajectories
),
judged AS (
    SELECT
        *,
        CASE
            WHEN mode <> 'scan' THEN region_image[region + 1]
            WHEN step < n_images THEN step
            WHEN last_mode = 'scan' THEN last_image + 1
            WHEN next_mode <> 'scan' THEN next_image
            ELSE 0
        END AS expected,
        CASE
            WHEN mode <> 'scan' THEN step <= n_images OR last_mode <> 'scan' OR last_image = image
            ELSE next_mode IS NOT NULL OR image = n_images - 1
        END AS is_followed
    FROM placed
    WHERE mode IS NOT NULL
)
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    CASE
        WHEN image = expected THEN printf('%s of image %d does not follow from the scans', mode, image)
        ELSE printf('%s of image %s, should be %s', mode, coalesce(image::VARCHAR, 'null'),
            coalesce(expected::VARCHAR, 'none'))
    END AS detail
FROM judged
WHERE NOT coalesce(image = expected AND image BETWEEN 0 AND n_images - 1 AND is_followed, false)
