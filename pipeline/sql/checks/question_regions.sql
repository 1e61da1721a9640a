-- id: question_regions
-- severity: error
-- needs: images
-- explain: every annotated region lies on an image of its question, is finite and not empty, and stays inside
SELECT slice || ' ' || question_id || ' region ' || region AS key,
    CASE
        WHEN image_id IS NULL THEN 'lies on image ' || region_image || ' of the question, which it does not have'
        ELSE printf('box %.2f %.2f %.2f %.2f in an image of %d x %d', x0, y0, x1, y1, width, height)
    END AS detail
FROM regions LEFT JOIN image_sizes USING (image_id)
WHERE image_id IS NULL OR (width IS NOT NULL AND NOT box_inside(x0, y0, x1, y1, width, height))
