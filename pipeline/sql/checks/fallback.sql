-- id: fallback
-- severity: error
-- needs: images
-- explain: where the expert knew no region, the whole image is the one region and is looked at once
SELECT trajectory_key(slice, question_id, origin, variant) AS key,
    printf('whole_image with %d regions and %d looks', len(region_label), n_looks) AS detail
FROM trajectories JOIN image_sizes USING (image_id)
WHERE origin_fallback = 'whole_image'
    AND NOT coalesce(
        len(region_label) = 1 AND n_looks = 1 AND region_call_id[1] IS NULL AND region_conf[1] = 0
        AND region_x0[1] = 0 AND region_y0[1] = 0 AND region_x1[1] = width AND region_y1[1] = height,
        false
    )
