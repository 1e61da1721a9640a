-- id: region_image
-- severity: error
-- explain: a known region lies on an image of its trajectory; of drill_only, on that of its five cells
SELECT trajectory_key(slice, question_id, origin, variant) || ' region ' || region AS key,
    printf('lies on image %d of %d', image, len(image_ids)) AS detail
FROM known_regions JOIN trajectories USING (slice, question_id, origin, variant)
WHERE NOT coalesce(image BETWEEN 0 AND len(image_ids) - 1 AND (origin <> 'drill_only' OR image = region // 5), false)
