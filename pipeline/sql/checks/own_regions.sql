-- id: own_regions
-- severity: error
-- needs: images
-- explain: regions that no call named belong to the search: for drill_only the quadrants and the whole of each image, for random one box a look; all of confidence 0
WITH own AS (
    SELECT
        *,
        ['upper left quadrant', 'upper right quadrant', 'lower left quadrant', 'lower right quadrant', 'whole image']
            [region % 5 + 1] AS cell,
        x0 = CASE WHEN contains(cell, 'right') THEN width / 2 ELSE 0 END
        AND y0 = CASE WHEN contains(cell, 'lower') THEN height / 2 ELSE 0 END
        AND x1 = CASE WHEN contains(cell, 'left') THEN width / 2 ELSE width END
        AND y1 = CASE WHEN contains(cell, 'upper') THEN height / 2 ELSE height END AS is_cell
    FROM known_regions JOIN image_sizes USING (image_id)
    WHERE origin IN ('drill_only', 'random')
)
SELECT trajectory_key(slice, question_id, origin, variant) || ' region ' || region AS key,
    printf('%s %.2f %.2f %.2f %.2f, confidence %.8f', label, x0, y0, x1, y1, conf) AS detail
FROM own
WHERE NOT coalesce(
    conf = 0 AND call_id IS NULL
    AND CASE origin WHEN 'random' THEN label = 'random box' ELSE label = cell AND is_cell END,
    false
)
UNION ALL
SELECT trajectory_key(slice, question_id, origin, variant), printf('%d regions', len(region_label))
FROM trajectories
WHERE origin IN ('drill_only', 'random')
    AND len(region_label) <> CASE origin WHEN 'random' THEN n_looks ELSE 5 * len(image_ids) END
