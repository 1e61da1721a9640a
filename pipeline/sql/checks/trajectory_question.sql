-- id: trajectory_question
-- severity: error
-- needs: questions
-- explain: every trajectory belongs to a question of the same source and split, and searches one of its images
SELECT trajectory_key(slice, question_id, origin, variant) AS key,
    printf('no question of %s %s has this id and image %s', source, split, image_id) AS detail
FROM trajectories
ANTI JOIN (SELECT DISTINCT question_id, source, split, image_id FROM question_images)
USING (question_id, source, split, image_id)
