-- id: question_images
-- severity: error
-- needs: images
-- explain: every image a question is asked about is in the store, and a question has at least one
SELECT slice || ' ' || question_id AS key, 'image ' || image_id || ' is in no part of this version' AS detail
FROM question_images
WHERE width IS NULL
UNION ALL
SELECT slice || ' ' || question_id, 'no image' FROM questions WHERE len(image_ids) = 0
